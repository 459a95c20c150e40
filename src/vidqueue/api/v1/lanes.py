"""Lanes over HTTP: the list, their time windows, and freeing their memory."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, field_validator
from starlette.requests import Request
from starlette.responses import Response

from vidqueue.api.http.context import scope_of, services_of
from vidqueue.api.http.endpoint import JSON, Answer, Endpoint, json_answer
from vidqueue.api.v1 import system
from vidqueue.api.v1.pauses import LaneOnHost
from vidqueue.api.v1.views import LaneList, lane_view
from vidqueue.db.tables import lanes
from vidqueue.jobs import pauses
from vidqueue.ops import windows
from vidqueue.ops.windows import AtEnd, Windows
from vidqueue.principal import Role
from vidqueue.settings.entries import TimeZone


class WindowsRequest(BaseModel):
    """The time windows of a lane."""

    model_config = ConfigDict(extra="forbid")

    open: list[str] = Field(
        max_length=50,
        description="Windows such as `22:00-07:00`, `sat-sun` or `mon-fri 20:00-08:00`; without any it is always open.",
    )
    timezone: TimeZone = Field("UTC", description="Time zone of these times.")
    at_end: AtEnd = Field("finish", description="What a running job does at the end: `finish`, or `suspend`.")

    @field_validator("open")
    @classmethod
    def _valid(cls, rules: list[str]) -> list[str]:
        return windows.check(rules)


async def set_lane_windows(request: Request, name: str, body: WindowsRequest, query: LaneOnHost) -> Response:
    """Set the time windows of a lane. Outside of them jobs wait with the reason `outside_window`."""
    wanted = Windows(tuple(body.open), body.timezone, body.at_end)
    await pauses.set_windows(services_of(request).database, name, query.host, wanted)
    return await _answer(request, name)


async def free_lane(request: Request, name: str, query: LaneOnHost) -> Response:
    """Free the memory of the models that a lane keeps loaded, as soon as its job has ended. The lane stays online."""
    await pauses.free_lane(services_of(request).database, name, query.host)
    return await _answer(request, name, status=202)


async def _answer(request: Request, name: str, *, status: int = 200) -> Response:
    async with services_of(request).database.statement() as connection:
        found = await lanes.page(connection)
    shown = [lane_view(lane, owner=scope_of(request)) for lane in found if lane.name == name]
    return json_answer(LaneList(lanes=shown), status=status)


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/v1/lanes",
        handler=system.list_lanes,
        tag="machine",
        answers={200: Answer("The lanes.", {JSON: LaneList})},
    ),
    Endpoint(
        method="PUT",
        path="/v1/lanes/{name}/windows",
        handler=set_lane_windows,
        tag="machine",
        role=Role.OPERATE,
        answers={200: Answer("The lanes of that name.", {JSON: LaneList})},
        errors=("conflict",),
    ),
    Endpoint(
        method="POST",
        path="/v1/lanes/{name}/free",
        handler=free_lane,
        tag="machine",
        role=Role.OPERATE,
        answers={202: Answer("The lanes of that name.", {JSON: LaneList})},
        errors=("conflict",),
    ),
)
