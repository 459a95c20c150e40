"""The page of the schedules: what is submitted when, what came of the last times, and forms to pause and delete."""

from __future__ import annotations

from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response

from vidqueue.api.http.context import scope_of, services_of
from vidqueue.api.web import forms, render
from vidqueue.api.web.forms import Notice
from vidqueue.db.tables import schedules as rows
from vidqueue.db.tables.schedules import ScheduleRow
from vidqueue.errors import VidqueueError
from vidqueue.jobs import schedules
from vidqueue.jobs.schedules import system_clock

# How many of its last times are shown of each schedule.
RUNS = 12


async def show(request: Request) -> Response:
    """Show the schedules with the outcomes of their newest runs."""
    async with services_of(request).database.transaction() as connection:
        found = await rows.every(connection, owner=scope_of(request))
        runs = await rows.last_runs(connection, [one.id for one in found], limit=RUNS)
    return render.page(request, "schedules.html", schedules=found, runs=runs)


async def act(request: Request, schedule_id: UUID, verb: str) -> Response:
    """Pause, resume or delete a schedule."""
    form = await forms.read(request)
    database = services_of(request).database
    try:
        owner = (await _find(request, schedule_id)).owner
        match verb:
            case "pause" | "resume":
                changes = {"paused": verb == "pause"}
                await schedules.change(database, schedule_id, changes, owner=owner, now=system_clock())
            case "delete":
                await schedules.remove(database, schedule_id, owner=owner)
            case _:
                raise VidqueueError(
                    "not_found", f"There is no verb {verb[:40]!r}.", hint="Use pause, resume or delete."
                )
    except VidqueueError as error:
        if error.code != "conflict":
            raise
        return forms.answer(request, form, Notice("failed", f"{error.message} {error.hint}"))
    done = {"pause": "submits nothing until it is resumed", "resume": "submits again", "delete": "was deleted"}
    return forms.answer(request, form, Notice("done", f"The schedule {done[verb]}."))


async def _find(request: Request, schedule_id: UUID) -> ScheduleRow:
    async with services_of(request).database.statement() as connection:
        found = await rows.every(connection, owner=scope_of(request))
    for one in found:
        if one.id == schedule_id:
            return one
    raise VidqueueError("not_found", f"There is no schedule {schedule_id}.")
