"""Schedules over HTTP."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from vidqueue.api.http.context import owner_of, services_of
from vidqueue.api.http.endpoint import JSON, Answer, Endpoint, json_answer
from vidqueue.db.tables.schedules import RunRow, ScheduleRow
from vidqueue.jobs import schedules
from vidqueue.jobs.schedules import ScheduleRequest, system_clock
from vidqueue.jobs.submit import JobRequest


class ScheduleView(BaseModel):
    """A schedule."""

    id: UUID
    name: str
    cron: str
    timezone: str
    job: dict[str, Any] = Field(description="The request that is submitted.")
    missed: str = Field(description="skip, once or all.")
    one_at_a_time: bool
    paused: bool
    declared: bool = Field(description="The configuration of a daemon has it; only its pause can be changed here.")
    next_at: datetime | None = Field(description="The next time; null while it is paused.")
    created_at: datetime


class ScheduleList(BaseModel):
    """The schedules, by name."""

    schedules: list[ScheduleView]


class RunView(BaseModel):
    """What came of one time of a schedule."""

    due_at: datetime
    at: datetime = Field(description="When the daemon acted.")
    outcome: str = Field(description="submitted, missed, overlapped (an earlier job had not ended) or refused.")
    job_id: UUID | None = Field(description="Null if no job was submitted, or it was deleted.")
    state: str | None = Field(description="The present state of the job.")
    error: str | None = Field(description="Why the job was refused.")


class RunList(BaseModel):
    """The newest 1,000 runs, newest first."""

    runs: list[RunView]


class ScheduleChange(BaseModel):
    """What to change; what is left out stays."""

    model_config = ConfigDict(extra="forbid")

    cron: str | None = None
    timezone: str | None = None
    job: JobRequest | None = None
    missed: Literal["skip", "once", "all"] | None = None
    one_at_a_time: bool | None = None
    paused: bool | None = None


async def add_schedule(request: Request, body: ScheduleRequest) -> Response:
    """Make a schedule."""
    added = await schedules.add(services_of(request).database, body, owner=owner_of(request), now=system_clock())
    return json_answer(_view(added), 201, {"Location": f"/v1/schedules/{added.id}"})


async def list_schedules(request: Request) -> Response:
    """List the schedules."""
    found = await schedules.of_owner(services_of(request).database, owner=owner_of(request))
    return json_answer(ScheduleList(schedules=list(map(_view, found))))


async def get_schedule(request: Request, schedule_id: UUID) -> Response:
    """Read a schedule."""
    found = await schedules.read(services_of(request).database, schedule_id, owner=owner_of(request))
    return json_answer(_view(found))


async def patch_schedule(request: Request, schedule_id: UUID, body: ScheduleChange) -> Response:
    """Change, pause or resume a schedule.

    Times that passed while it was paused are not made up for.
    """
    changes = body.model_dump(mode="json", exclude_unset=True, exclude_none=True)
    changed = await schedules.change(
        services_of(request).database, schedule_id, changes, owner=owner_of(request), now=system_clock()
    )
    return json_answer(_view(changed))


async def delete_schedule(request: Request, schedule_id: UUID) -> Response:
    """Delete a schedule with its history; its jobs stay."""
    await schedules.remove(services_of(request).database, schedule_id, owner=owner_of(request))
    return Response(status_code=204)


async def list_runs(request: Request, schedule_id: UUID) -> Response:
    """List what came of the times of a schedule, newest first."""
    found = await schedules.runs(services_of(request).database, schedule_id, owner=owner_of(request))
    return json_answer(RunList(runs=list(map(_run, found))))


def _view(row: ScheduleRow) -> ScheduleView:
    shown = {name: getattr(row, name) for name in ScheduleView.model_fields if name in ScheduleRow.__slots__}
    shown |= {"next_at": None if row.paused else row.next_at, "declared": row.declared_by is not None}
    return ScheduleView(**shown)


def _run(row: RunRow) -> RunView:
    return RunView(**{name: getattr(row, name) for name in RunView.model_fields})


ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/v1/schedules",
        handler=add_schedule,
        tag="schedules",
        answers={201: Answer("The schedule.", {JSON: ScheduleView}, {"Location": "Its address."})},
        errors=("unknown_processor", "invalid_params", "conflict"),
    ),
    Endpoint(
        method="GET",
        path="/v1/schedules",
        handler=list_schedules,
        tag="schedules",
        answers={200: Answer("The schedules.", {JSON: ScheduleList})},
    ),
    Endpoint(
        method="GET",
        path="/v1/schedules/{schedule_id:uuid}",
        handler=get_schedule,
        tag="schedules",
        answers={200: Answer("The schedule.", {JSON: ScheduleView})},
    ),
    Endpoint(
        method="PATCH",
        path="/v1/schedules/{schedule_id:uuid}",
        handler=patch_schedule,
        tag="schedules",
        answers={200: Answer("The schedule after the change.", {JSON: ScheduleView})},
        errors=("unknown_processor", "invalid_params", "conflict"),
    ),
    Endpoint(
        method="DELETE",
        path="/v1/schedules/{schedule_id:uuid}",
        handler=delete_schedule,
        tag="schedules",
        answers={204: Answer("The schedule is gone.")},
        errors=("conflict",),
    ),
    Endpoint(
        method="GET",
        path="/v1/schedules/{schedule_id:uuid}/runs",
        handler=list_runs,
        tag="schedules",
        answers={200: Answer("The runs.", {JSON: RunList})},
    ),
)
