"""The page of the lanes: what each takes and runs, and forms to pause, drain and resume it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict
from starlette.requests import Request
from starlette.responses import Response

from vidqueue.api.http.context import scope_of, services_of
from vidqueue.api.v1.views import lane_view
from vidqueue.api.web import render
from vidqueue.db.tables import dashboard, lanes


class LanesQuery(BaseModel):
    """Which lanes are shown."""

    model_config = ConfigDict(extra="forbid")

    offline: bool = False


async def show(request: Request, query: LanesQuery) -> Response:
    """Show the lanes of all hosts."""
    scope = scope_of(request)
    async with services_of(request).database.transaction() as connection:
        found = await lanes.page(connection, with_offline=query.offline)
        previews = await dashboard.previews(connection, [lane.job_id for lane in found if lane.job_id is not None])
    return render.page(
        request,
        "lanes.html",
        lanes=[lane_view(lane, owner=scope) for lane in found],
        previews=previews,
        offline=query.offline,
    )
