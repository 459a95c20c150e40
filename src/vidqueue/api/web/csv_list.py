"""The list of jobs as CSV: all jobs that match the filters, read page by page while they are sent."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator, Iterable, Sequence

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from vidqueue.api.http.context import scope_of, services_of
from vidqueue.api.v1.job_list import find_jobs
from vidqueue.api.web.jobs import ListQuery
from vidqueue.db.tables.jobs import JobRow
from vidqueue.services import Services

COLUMNS = (
    "id", "processor", "state", "title", "owner", "tags", "priority", "progress", "attempt", "failures", "lane",
    "wait_reason", "position", "error_code", "error_message", "created_at", "started_at", "finished_at", "batch_id",
)  # fmt: skip
AT_ONCE = 200
# A spreadsheet takes a text that begins so for a formula.
FORMULAS = ("=", "+", "-", "@", "\t", "\r")


async def download(request: Request, query: ListQuery) -> Response:
    """Send the jobs that match as CSV, newest first."""
    query = query.model_copy(update={"limit": AT_ONCE})
    first = await find_jobs(services_of(request).database, query, owner=scope_of(request))
    headers = {"Content-Disposition": 'attachment; filename="jobs.csv"'}
    lines = _lines(services_of(request), query, scope_of(request), first)
    return StreamingResponse(lines, 200, headers, "text/csv; charset=utf-8")


async def _lines(
    services: Services, query: ListQuery, owner: str | None, page: tuple[list[JobRow], str | None]
) -> AsyncIterator[bytes]:
    yield _written([COLUMNS])
    while True:
        found, cursor = page
        yield _written([_row(job) for job in found])
        if cursor is None:
            return
        page = await find_jobs(services.database, query.model_copy(update={"cursor": cursor}), owner=owner)


def _row(job: JobRow) -> list[str]:
    values = ((name, getattr(job, name)) for name in COLUMNS)
    return [_cell(" ".join(value) if name == "tags" else value) for name, value in values]


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return f"'{value}" if value.startswith(FORMULAS) else value
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _written(rows: Iterable[Sequence[str]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()
