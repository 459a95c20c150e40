"""Lists of jobs over HTTP: filters, and pages by keyset."""

from __future__ import annotations

import base64
import binascii
from urllib.parse import urlencode
from uuid import UUID

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from vidqueue.api.http.context import scope_of, services_of
from vidqueue.api.http.endpoint import json_answer
from vidqueue.api.v1.etas import with_eta
from vidqueue.api.v1.job_json import job_view
from vidqueue.api.v1.views import JobPage
from vidqueue.db.pool import Database
from vidqueue.db.tables import jobs
from vidqueue.db.tables.jobs import JobRow
from vidqueue.errors import VidqueueError
from vidqueue.jobs.selection import Selection


class JobQuery(Selection):
    """The query of the list of jobs."""

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
    if query.is_impossible:
        fault = {"pointer": "?text", "detail": "A text cannot be searched within a batch."}
        raise VidqueueError("invalid_request", "The query cannot be accepted.", errors=[fault])
    # One more than asked for tells whether there is a next page.
    wanted = query.within(owner, limit=query.limit + 1, after=read_cursor(query.cursor))
    if wanted is None:
        return [], None
    async with database.statement() as connection:
        found = await jobs.page(connection, wanted)
        last = found[query.limit - 1].id if len(found) > query.limit else None
        if last is None and wanted.text is not None:
            last = await jobs.search_end(connection, wanted)
    return found[: query.limit], write_cursor(last) if last else None


def _next_page(request: Request, cursor: str) -> str:
    query = [(name, value) for name, value in request.query_params.multi_items() if name != "cursor"]
    return f"{request.url.path}?{urlencode([*query, ('cursor', cursor)])}"


def write_cursor(last: UUID) -> str:
    """Return the cursor of the page that follows a job."""
    return base64.urlsafe_b64encode(last.bytes).decode().rstrip("=")


def read_cursor(cursor: str | None) -> UUID | None:
    """Return where a page begins.

    Raises:
        VidqueueError: `invalid_request`.
    """
    if cursor is None:
        return None
    try:
        return UUID(bytes=base64.b64decode(f"{cursor}==", altchars=b"-_", validate=True))
    except (ValueError, binascii.Error):
        fault = {"pointer": "?cursor", "detail": "This is not a cursor of ours; take it from `next`."}
        raise VidqueueError("invalid_request", "The cursor cannot be read.", errors=[fault]) from None
