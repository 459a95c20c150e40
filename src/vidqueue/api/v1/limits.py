"""Limits of owners and processors over HTTP."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from vidqueue.api.http.context import services_of
from vidqueue.api.http.endpoint import JSON, Answer, Endpoint, json_answer
from vidqueue.db.tables import limits
from vidqueue.db.tables.limits import OwnerLimits, ProcessorLimits
from vidqueue.errors import VidqueueError
from vidqueue.principal import Role
from vidqueue.processors import registry

_Count = Annotated[int, Field(ge=0, le=2**31 - 1)]


class LimitsRequest(BaseModel):
    """What an owner may have at most; what is left out or null is not limited."""

    model_config = ConfigDict(extra="forbid")

    max_queued: _Count | None = Field(None, description="Jobs that wait. More are refused with `limit_reached`.")
    max_running: _Count | None = Field(
        None, description="Jobs that run. Others wait, with `owner_limit` as their reason."
    )
    max_per_minute: Annotated[int, Field(ge=0, le=100_000)] | None = Field(None, description="Jobs submitted a minute.")
    max_stored_bytes: Annotated[int, Field(ge=0, le=2**63 - 1)] | None = Field(
        None, description="Bytes of uploads and outputs. Beyond it, submits and uploads are refused; outputs are kept."
    )
    max_gpu_s_per_day: _Count | None = Field(
        None, description="Seconds on GPU lanes within 24 hours. Then jobs wait, with `owner_limit` as their reason."
    )
    weight: Annotated[float, Field(ge=0.001, le=1000)] | None = Field(
        None,
        description="Weight when lanes are shared between owners; 1 if null. With 2 an owner gets twice as much.",
    )


class LimitsView(LimitsRequest):
    """The limits of an owner."""

    owner: str = Field(description="`*` for everybody who has no limits of his own.")
    changed_at: datetime


class ProcessorLimitsRequest(BaseModel):
    """The limits of all jobs of a processor together; fields that are missing or null are not limited."""

    model_config = ConfigDict(extra="forbid")

    max_queued: _Count | None = Field(None, description="Jobs that wait. More are refused with `limit_reached`.")
    max_running: _Count | None = Field(
        None, description="Jobs that run. Others wait, with `processor_limit` as their reason."
    )
    max_per_minute: Annotated[int, Field(ge=0, le=100_000)] | None = Field(None, description="Jobs submitted a minute.")
    max_gpu_s_per_day: _Count | None = Field(
        None,
        description="Seconds on GPU lanes within 24 hours. Then jobs wait, with `processor_limit` as their reason.",
    )


class ProcessorLimitsView(ProcessorLimitsRequest):
    """The limits of a processor."""

    processor: str
    changed_at: datetime


class LimitsList(BaseModel):
    """All limits."""

    limits: list[LimitsView] = Field(description="Those of owners.")
    processors: list[ProcessorLimitsView] = Field(description="Those of processors.")


async def list_limits(request: Request) -> Response:
    """List the limits of owners and processors."""
    async with services_of(request).database.statement() as connection:
        of_owners, of_processors = await limits.every(connection), await limits.of_processors(connection)
    return json_answer(
        LimitsList(
            limits=[LimitsView(**asdict(one)) for one in of_owners],
            processors=[ProcessorLimitsView(**asdict(one)) for one in of_processors],
        )
    )


async def put_limits(request: Request, owner: str, body: LimitsRequest) -> Response:
    """Set what an owner may have at most, in place of what was set before.

    The owner `*` is everybody who has no limits of his own. Jobs that are accepted already stay.
    """
    if len(owner) > 200:
        raise VidqueueError("invalid_request", "The name of an owner has at most 200 characters.")
    async with services_of(request).database.transaction() as connection:
        written = await limits.set_limits(connection, owner, OwnerLimits(**dict(body)))
    return json_answer(LimitsView(**asdict(written)))


async def delete_limits(request: Request, owner: str) -> Response:
    """Delete the limits of an owner; those of `*` hold then, if there are any."""
    async with services_of(request).database.transaction() as connection:
        if not await limits.remove(connection, owner):
            raise VidqueueError("not_found", f"There are no limits of the owner {owner!r}.")
    return Response(status_code=204)


async def put_processor_limits(request: Request, name: str, body: ProcessorLimitsRequest) -> Response:
    """Set the limits of all jobs of a processor together, replacing earlier ones.

    Jobs that are accepted already stay.
    """
    registry.find(name)
    async with services_of(request).database.transaction() as connection:
        written = await limits.set_of_processor(connection, name, ProcessorLimits(**dict(body)))
    return json_answer(ProcessorLimitsView(**asdict(written)))


async def delete_processor_limits(request: Request, name: str) -> Response:
    """Delete the limits of a processor."""
    async with services_of(request).database.transaction() as connection:
        if not await limits.remove_of_processor(connection, name):
            raise VidqueueError("not_found", f"There are no limits of the processor {name!r}.")
    return Response(status_code=204)


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/v1/limits",
        handler=list_limits,
        tag="keys",
        role=Role.OPERATE,
        answers={200: Answer("The limits.", {JSON: LimitsList})},
    ),
    Endpoint(
        method="PUT",
        path="/v1/limits/{owner}",
        handler=put_limits,
        tag="keys",
        role=Role.ADMIN,
        answers={200: Answer("The new limits.", {JSON: LimitsView})},
    ),
    Endpoint(
        method="DELETE",
        path="/v1/limits/{owner}",
        handler=delete_limits,
        tag="keys",
        role=Role.ADMIN,
        answers={204: Answer("The limits are removed.")},
    ),
    Endpoint(
        method="PUT",
        path="/v1/processors/{name}/limits",
        handler=put_processor_limits,
        tag="keys",
        role=Role.ADMIN,
        answers={200: Answer("The new limits.", {JSON: ProcessorLimitsView})},
        errors=("unknown_processor",),
    ),
    Endpoint(
        method="DELETE",
        path="/v1/processors/{name}/limits",
        handler=delete_processor_limits,
        tag="keys",
        role=Role.ADMIN,
        answers={204: Answer("The limits are removed.")},
    ),
)
