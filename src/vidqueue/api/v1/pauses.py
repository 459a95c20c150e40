"""Pause, resume and drain over HTTP."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from vidqueue.api.http.context import services_of
from vidqueue.api.http.endpoint import JSON, Answer, Endpoint, Handler, json_answer
from vidqueue.db.tables.pauses import Pause, Scope, Terms
from vidqueue.jobs import pauses
from vidqueue.principal import Role

LONGEST_S = 366 * 86_400


class PauseRequest(BaseModel):
    """How long a pause lasts, and why."""

    model_config = ConfigDict(extra="forbid")

    for_s: float | None = Field(
        None,
        gt=0,
        le=LONGEST_S,
        description="Seconds after which the pause ends by itself; without it, by a resume.",
    )
    reason: str | None = Field(None, max_length=500, description="Shown to everybody who looks at the queue.")

    def terms(self) -> Terms:
        """Return what the queue needs of it."""
        return Terms(self.for_s, self.reason)


class QueuePauseRequest(PauseRequest):
    """What is paused, how long, and why."""

    processor: str | None = Field(None, description="Pause this processor only; without it, everything.")


class ResumeRequest(BaseModel):
    """What is resumed."""

    model_config = ConfigDict(extra="forbid")

    processor: str | None = Field(None, description="End the pause of this processor; without it, that of everything.")


class LaneOnHost(BaseModel):
    """Which lane of that name is meant."""

    model_config = ConfigDict(extra="forbid")

    host: str | None = Field(None, description="The host of the lane, where several hosts have one of that name.")


class PauseView(BaseModel):
    """What does not begin at present."""

    scope: Scope
    name: str | None = Field(description="The processor or the lane; null for everything.")
    host: str | None = Field(description="The host of the lane.")
    since: datetime | None
    until: datetime | None = Field(description="When it ends by itself; null if a resume must end it.")
    reason: str | None
    draining: bool = Field(description="The lane's executor is stopped once the running job has ended.")


class PauseList(BaseModel):
    """All pauses that hold at present."""

    pauses: list[PauseView]


async def list_pauses(request: Request) -> Response:
    """List what is paused."""
    return _answer(await pauses.read(services_of(request).database))


async def pause(request: Request, body: QueuePauseRequest) -> Response:
    """Begin no more jobs, of one processor or at all. Running jobs go on; jobs are still accepted."""
    return _answer(await pauses.pause(services_of(request).database, body.processor, body.terms()))


async def resume(request: Request, body: ResumeRequest) -> Response:
    """End a pause. Pauses of lanes and of other processors stay."""
    return _answer(await pauses.resume(services_of(request).database, body.processor))


async def drain(request: Request, body: PauseRequest) -> Response:
    """Pause every lane, and stop their executors once the running jobs have ended, so that the GPUs are free."""
    return _answer(await pauses.drain(services_of(request).database, body.terms()))


async def pause_lane(request: Request, name: str, body: PauseRequest, query: LaneOnHost) -> Response:
    """Give a lane no more jobs; the running one goes on."""
    database = services_of(request).database
    return _answer(await pauses.pause_lane(database, name, query.host, body.terms(), drain=False))


async def drain_lane(request: Request, name: str, body: PauseRequest, query: LaneOnHost) -> Response:
    """As pause, and stop the lane's executor once the running job has ended, so that its GPU is free."""
    database = services_of(request).database
    return _answer(await pauses.pause_lane(database, name, query.host, body.terms(), drain=True))


async def resume_lane(request: Request, name: str, query: LaneOnHost) -> Response:
    """Let a lane take jobs again."""
    return _answer(await pauses.resume_lane(services_of(request).database, name, query.host))


def _answer(found: list[Pause]) -> Response:
    return json_answer(PauseList(pauses=[PauseView(**asdict(one)) for one in found]))


_ON_LANES: dict[str, Handler] = {"pause": pause_lane, "resume": resume_lane, "drain": drain_lane}
_EVERYWHERE: dict[str, Handler] = {"pause": pause, "resume": resume, "drain": drain}
_LEFT = {200: Answer("Everything that is paused now.", {JSON: PauseList})}

ENDPOINTS = (
    Endpoint(method="GET", path="/v1/pauses", handler=list_pauses, tag="machine", answers=_LEFT),
    *(
        Endpoint(
            method="POST",
            path=f"/v1/{verb}",
            handler=handler,
            tag="machine",
            role=Role.OPERATE,
            answers=_LEFT,
            errors=("unknown_processor",) if verb == "pause" else (),
        )
        for verb, handler in _EVERYWHERE.items()
    ),
    *(
        Endpoint(
            method="POST",
            path=f"/v1/lanes/{{name}}/{verb}",
            handler=handler,
            tag="machine",
            role=Role.OPERATE,
            answers=_LEFT,
            errors=("conflict",),
        )
        for verb, handler in _ON_LANES.items()
    ),
)
