"""The pages of the lanes: what each takes and runs, forms to pause, drain and resume it, and its time windows."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import Response

from vidqueue.api.http.context import scope_of, services_of
from vidqueue.api.v1.lanes import WindowsRequest
from vidqueue.api.v1.views import LaneView, lane_view
from vidqueue.api.web import forms, render, week
from vidqueue.api.web.forms import Notice
from vidqueue.db.tables import dashboard, lanes
from vidqueue.errors import VidqueueError, fault_text
from vidqueue.jobs import pauses
from vidqueue.ops.windows import DAYS, Windows

DAY_NAMES = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


class LanesQuery(BaseModel):
    """Which lanes are shown."""

    model_config = ConfigDict(extra="forbid")

    offline: bool = False


async def show(request: Request, query: LanesQuery) -> Response:
    """Show the lanes of all hosts."""
    scope = scope_of(request)
    async with services_of(request).database.transaction() as connection:
        found = await lanes.page(connection, with_offline=query.offline)
        gauges = await dashboard.gauges(connection)
        previews = await dashboard.previews(connection, [lane.job_id for lane in found if lane.job_id is not None])
    return render.page(
        request,
        "lanes.html",
        lanes=[lane_view(lane, owner=scope) for lane in found],
        gauges=gauges,
        previews=previews,
        offline=query.offline,
        spans=week.spans,
    )


class WindowsQuery(BaseModel):
    """On which host the lane is."""

    model_config = ConfigDict(extra="forbid")

    host: str | None = None


async def show_windows(request: Request, name: str, query: WindowsQuery) -> Response:
    """Show the week of a lane as a form: in which hours it works."""
    lane = await _lane(request, name, query.host)
    return _week(request, lane)


async def set_windows(request: Request, name: str) -> Response:
    """Set when a lane works, by the hours that are ticked, or by rules as text."""
    form = await forms.read(request)
    lane = await _lane(request, name, str(form.get("host", "")) or None)
    given = {name: str(form.get(name, "")).strip() for name in ("timezone", "at_end")}
    try:
        wanted = WindowsRequest.model_validate({"open": _rules(form), **given})
    except ValidationError as error:
        return _week(request, lane, form, fault=fault_text(error.errors(include_url=False)[0]))
    except VidqueueError as error:
        return _week(request, lane, form, fault=f"{error.message} {error.hint}")
    windows = Windows(tuple(wanted.open), wanted.timezone, wanted.at_end)
    await pauses.set_windows(services_of(request).database, lane.name, lane.host, windows)
    told = f"works in {', '.join(wanted.open)}" if wanted.open else "works at all times"
    return forms.answer(request, form, Notice("done", f"Lane {name} {told}."), to="/lanes")


def _rules(form: FormData) -> list[str]:
    if "rules" in form:
        return [line.strip() for line in str(form["rules"]).splitlines() if line.strip()]
    open_hours = {cell for cell in week.EVERY if form.get(f"{DAYS[cell[0]]}-{cell[1]}")}
    if not open_hours:
        raise VidqueueError("invalid_request", "No hour is ticked.", hint="Pause the lane to have it take no jobs.")
    return week.rules(open_hours)


async def _lane(request: Request, name: str, host: str | None) -> LaneView:
    async with services_of(request).database.statement() as connection:
        found = [one for one in await lanes.page(connection, with_offline=True) if one.name == name]
    found = [one for one in found if host in (None, one.host)]
    if not found:
        raise VidqueueError("not_found", f"There is no lane {name[:64]!r}.", hint="See the list of lanes.")
    if len(found) > 1:
        raise VidqueueError("conflict", f"Several hosts have a lane {name!r}.", hint="Choose it on the list of lanes.")
    return lane_view(found[0], owner=scope_of(request))


def _week(request: Request, lane: LaneView, form: FormData | None = None, fault: str = "") -> Response:
    """Return the page of a lane's windows, filled with what a refused form said."""
    rules, form = lane.windows, form or FormData()
    return render.page(
        request,
        "windows.html",
        status=422 if fault else 200,
        lane=lane,
        rules=rules,
        text=form.get("rules", "\n".join(rules)),
        zone=form.get("timezone", lane.windows_zone),
        at_end=form.get("at_end", lane.windows_end),
        days=list(zip(DAYS, DAY_NAMES, strict=True)),
        open_hours=week.cells(rules),
        is_exact=week.is_whole_hours(rules),
        fault=fault,
    )
