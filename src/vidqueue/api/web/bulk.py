"""Bulk actions on the pages: the form *All that match*, the list of what was done, and the button that undoes it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

from pydantic import ValidationError
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import Response

from vidqueue.api.http.context import principal_of, services_of
from vidqueue.api.v1.bulk_actions import readers_of
from vidqueue.api.web import forms, render
from vidqueue.api.web.forms import Notice
from vidqueue.db.tables.bulk_actions import BulkActionRow
from vidqueue.errors import VidqueueError
from vidqueue.jobs import bulk
from vidqueue.jobs.bulk import BulkRequest

ON_THE_PAGE = 50
# The list of jobs shows what has ended for this long, so that people see the result.
SHOWN_FOR = timedelta(seconds=20)
SELECTION = ("state", "processor", "owner", "tag", "text", "batch", "created_after", "created_before")


async def create(request: Request) -> Response:
    """Make a bulk action of the filters of the list."""
    form = await forms.read(request)
    try:
        asked = _request(form)
        await bulk.create(services_of(request).database, asked, principal_of(request))
    except VidqueueError as error:
        if error.code not in ("invalid_request", "limit_reached"):
            raise
        return forms.answer(request, form, Notice("failed", f"{error.message} {error.hint}"))
    return forms.answer(request, form, None)


async def undo(request: Request, action_id: UUID) -> Response:
    """Undo a bulk action, or stop it."""
    form = await forms.read(request)
    try:
        ended = await bulk.undo(services_of(request).database, action_id, owner=readers_of(request))
    except VidqueueError as error:
        if error.code != "conflict":
            raise
        return forms.answer(request, form, Notice("failed", error.message))
    told = "Undone: no job was changed." if ended.state == "undone" else "Stopped. What was changed stays as it is."
    return forms.answer(request, form, Notice("done", told))


async def show(request: Request) -> Response:
    """Show the newest bulk actions."""
    found = await bulk.newest(services_of(request).database, owner=readers_of(request), limit=ON_THE_PAGE)
    return render.page(request, "bulk.html", actions=found, open=any(one.ended_at is None for one in found))


async def recent(request: Request) -> list[BulkActionRow]:
    """Return the bulk actions that go on, and those that ended a moment ago and were not undone."""
    found = await bulk.newest(services_of(request).database, owner=readers_of(request), limit=5)
    since = datetime.now(UTC) - SHOWN_FOR
    return [one for one in found if one.ended_at is None or (one.ended_at > since and one.state != "undone")]


def _request(form: FormData) -> BulkRequest:
    given = {name: form.getlist(name) if name == "state" else str(form.get(name, "")) for name in SELECTION}
    asked = {
        "verb": str(form.get("verb", "")),
        "jobs": {name: value for name, value in given.items() if value},
        "priority": str(form.get("priority", "")) or None if form.get("verb") == "priority" else None,
    }
    try:
        return BulkRequest.model_validate(asked)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        place = ".".join(map(str, fault["loc"]))
        raise VidqueueError("invalid_request", f"The form cannot be accepted: {place} {fault['msg']}.") from None
