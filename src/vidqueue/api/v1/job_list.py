"""Lists of jobs over HTTP: filters, and pages by keyset."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Annotated
from urllib.parse import urlencode
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from vidqueue.api.http.context import scope_of, services_of
from vidqueue.api.http.endpoint import json_answer
from vidqueue.api.v1.etas import with_eta
from vidqueue.api.v1.views import JobPage, job_view
from vidqueue.db.pool import Database
from vidqueue.db.tables import jobs
from vidqueue.db.tables.jobs import JobFilter, JobRow
from vidqueue.errors import VidqueueError
from vidqueue.job import State

# `+` means a space in a query, and people write +02:00 all the same.
_ZONE = re.compile(r" (\d\d:\d\d)\Z", re.ASCII)

QueryTime = Annotated[
    AwareDatetime, BeforeValidator(lambda text: _ZONE.sub(r"+\1", text) if isinstance(text, str) else text)
]


class JobQuery(BaseModel):
    """Which jobs a list shows."""

    model_config = ConfigDict(extra="forbid")

    state: list[State] = Field(default_factory=list, description="Any of these; repeat it or separate by commas.")
    processor: str | None = Field(None, max_length=64)
    tag: str | None = Field(None, max_length=64)
    batch: UUID | None = Field(None, description="Only the jobs of this batch.")
    text: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        description="Only jobs whose title, id, processor, lane, tags or error contain this, in any case. Each page "
        "looks at the next 1,000 jobs, so it may have few or none, and `next` leads on.",
    )
    owner: str | None = Field(None, max_length=255, description="Only the jobs of this owner.")
    created_after: QueryTime | None = Field(None, description="Only jobs created at or after this time (RFC 3339).")
    created_before: QueryTime | None = Field(None, description="Only jobs created before this time (RFC 3339).")
    limit: int = Field(50, ge=1, le=500, description="Jobs on one page.")
    cursor: str | None = Field(
        None, max_length=64, description="Where the page begins; taken from `next` of the previous page."
    )


async def list_jobs(request: Request, query: JobQuery) -> Response:
    """List jobs, newest first."""
    found, cursor = await find_jobs(services_of(request).database, query, owner=scope_of(request))
    found = await with_eta(request, found)
    next_page = _next_page(request, cursor) if cursor else None
    headers = {"Link": f'<{next_page}>; rel="next"'} if next_page else None
    return json_answer(JobPage(jobs=[job_view(job) for job in found], next=next_page), headers=headers)


async def find_jobs(database: Database, query: JobQuery, *, owner: str | None) -> tuple[list[JobRow], str | None]:
    """Return a page of jobs, of one owner or of everybody, newest first, and the cursor of the next page."""
    wanted = job_filter(query, owner=owner)
    if query.owner not in (None, wanted.owner or query.owner):
        return [], None
    if wanted.text is not None and wanted.batch is not None:
        fault = {"pointer": "?text", "detail": "A text cannot be searched within a batch."}
        raise VidqueueError("invalid_request", "The query cannot be accepted.", errors=[fault])
    async with database.statement() as connection:
        found = await jobs.page(connection, wanted)
        last = found[query.limit - 1].id if len(found) > query.limit else None
        if last is None and wanted.text is not None:
            last = await jobs.search_end(connection, wanted)
    return found[: query.limit], write_cursor(last) if last else None


def job_filter(query: JobQuery, *, owner: str | None) -> JobFilter:
    """Return what a query asks for, of the jobs of an owner or of everybody."""
    return JobFilter(
        owner=owner or query.owner,
        states=[state.value for state in query.state] or None,
        processor=query.processor,
        tag=query.tag,
        batch=query.batch,
        text=query.text,
        created_after=query.created_after,
        created_before=query.created_before,
        after=_read_cursor(query.cursor),
        # One more than asked for tells whether there is a next page.
        limit=query.limit + 1,
    )


def _next_page(request: Request, cursor: str) -> str:
    query = [(name, value) for name, value in request.query_params.multi_items() if name != "cursor"]
    return f"{request.url.path}?{urlencode([*query, ('cursor', cursor)])}"


def write_cursor(last: UUID) -> str:
    """Return the cursor of the page that follows a job."""
    return base64.urlsafe_b64encode(last.bytes).decode().rstrip("=")


def _read_cursor(cursor: str | None) -> UUID | None:
    if cursor is None:
        return None
    try:
        return UUID(bytes=base64.b64decode(f"{cursor}==", altchars=b"-_", validate=True))
    except (ValueError, binascii.Error):
        fault = {"pointer": "?cursor", "detail": "This is not a cursor of ours; take it from `next`."}
        raise VidqueueError("invalid_request", "The cursor cannot be read.", errors=[fault]) from None
