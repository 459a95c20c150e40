"""The list of jobs, with its filters in the URL."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from pydantic import Field, model_validator
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from vidqueue.api.http.context import scope_of, services_of
from vidqueue.api.v1.batches import batch_view
from vidqueue.api.v1.etas import with_eta
from vidqueue.api.v1.job_list import JobQuery, find_jobs
from vidqueue.api.web import bulk, render
from vidqueue.db.tables import jobs
from vidqueue.db.tables.batches import BatchRow
from vidqueue.errors import VidqueueError
from vidqueue.job import State
from vidqueue.jobs import batches, control
from vidqueue.processors import registry

TIMES = ("created_after", "created_before")
FILTERS = ("state", "processor", "owner", "tag", "text", "batch", "created_after", "created_before")


class ListQuery(JobQuery):
    """Which jobs the page shows; a form sends its empty fields too."""

    limit: int = Field(50, ge=1, le=200)

    @model_validator(mode="before")
    @classmethod
    def _without_empty(cls, given: dict[str, Any]) -> dict[str, Any]:
        kept = {name: value for name, value in given.items() if value not in ("", [""], [])}
        # A field of a form has no zone; its label says UTC.
        return {name: f"{value}Z" if _has_no_zone(name, value) else value for name, value in kept.items()}


async def show(request: Request, query: ListQuery) -> Response:
    """Show a page of jobs, newest first."""
    services, owner = services_of(request), scope_of(request)
    if found := await _job_with_id(request, query):
        return RedirectResponse(f"/jobs/{found}", status_code=303)
    rows, cursor = await find_jobs(services.database, query, owner=owner)
    rows = await with_eta(request, rows)
    async with services.database.statement() as connection:
        counts = await jobs.counts(connection, owner=owner)
    batch = await batches.read(services.database, query.batch, owner=owner) if query.batch else None
    chosen = query.model_dump(mode="json", include=set(FILTERS)) | _times(query)
    return render.page(
        request,
        "jobs.html",
        jobs=rows,
        counts=counts,
        states=list(State),
        processors=list(registry.catalogue()),
        chosen=chosen,
        batch=batch_view(batch) if batch else None,
        narrowed=any(chosen.values()),
        next=_address(chosen, cursor=cursor) if cursor else None,
        first=_address(chosen) if query.cursor else None,
        searching=query.text is not None,
        matches=_matches(query, counts, batch),
        bulk=await bulk.recent(request),
    )


def _has_no_zone(name: str, value: Any) -> bool:
    if name not in TIMES or not isinstance(value, str):
        return False
    try:
        return datetime.fromisoformat(value).tzinfo is None
    except ValueError:
        return False


def _times(query: ListQuery) -> dict[str, str | None]:
    """Return the bounds of time in UTC, as the fields of the form show them."""
    return {name: _in_utc(getattr(query, name)) for name in TIMES}


def _in_utc(moment: datetime | None) -> str | None:
    if moment is None:
        return None
    with contextlib.suppress(OverflowError):  # The first and the last day that there are stay in their zone.
        moment = moment.astimezone(UTC)
    return moment.isoformat()


def _matches(query: ListQuery, counts: dict[str, int], batch: BatchRow | None) -> int | None:
    """Return how many jobs match, where counters know it."""
    narrowed = query.model_dump(include={*FILTERS} - {"state", "batch"}, exclude_none=True)
    if narrowed:
        return None
    known = {state.value: getattr(batch, state.value) for state in State} if batch else counts
    return sum(known[state.value] for state in query.state or State)


async def _job_with_id(request: Request, query: ListQuery) -> UUID | None:
    """Return the job whose whole id was typed into the field for a text."""
    try:
        job_id = UUID((query.text or "").strip())
        await control.read(services_of(request).database, job_id, owner=scope_of(request))
    except (ValueError, VidqueueError):
        return None
    return job_id


def _address(chosen: dict[str, Any], **more: str) -> str:
    kept = {name: value for name, value in (chosen | more).items() if value}
    return f"/jobs?{urlencode(kept, doseq=True)}" if kept else "/jobs"
