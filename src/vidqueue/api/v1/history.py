"""What happened to a job: its attempts, and the log of each."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from vidqueue.api.http.context import scope_of, services_of
from vidqueue.api.http.endpoint import json_answer
from vidqueue.api.v1.views import AttemptList, LogPage, attempt_view, log_line_view
from vidqueue.db.tables import attempts
from vidqueue.db.tables.attempts import LogRow
from vidqueue.errors import VidqueueError
from vidqueue.jobs import control


class LogQuery(BaseModel):
    """Attempt and part of its log."""

    model_config = ConfigDict(extra="forbid")

    attempt: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = Field(None, description="The newest one by default.")
    after: int = Field(0, ge=0, le=2**63 - 1, description="Only lines with a number above this.")
    limit: int = Field(1000, ge=1, le=10_000, description="Lines at once.")


class LogHeaders(BaseModel):
    """Format of the log."""

    accept: str | None = Field(None, alias="Accept", description="`text/plain` for lines instead of JSON.")


async def list_attempts(request: Request, job_id: UUID) -> Response:
    """List the attempts of a job, first to last."""
    services, owner = services_of(request), scope_of(request)
    await control.read(services.database, job_id, owner=owner)
    async with services.database.statement() as connection:
        found = await attempts.of_job(connection, job_id, owner=owner)
    return json_answer(AttemptList(attempts=[attempt_view(job_id, one) for one in found]))


async def read_log(request: Request, job_id: UUID, query: LogQuery, headers: LogHeaders) -> Response:
    """Read the log of an attempt, as JSON or as plain text."""
    services = services_of(request)
    job = await control.read(services.database, job_id, owner=scope_of(request))
    number = query.attempt or job.attempt
    if number > job.attempt:
        raise VidqueueError("not_found", f"The job has {job.attempt} attempts, and no attempt {number}.")
    async with services.database.statement() as connection:
        lines = await attempts.read_log(connection, job_id, number, after=query.after, limit=query.limit)
    follows = _address(request, number, lines[-1].number, query.limit) if len(lines) == query.limit else None
    link = {"Link": f'<{follows}>; rel="next"'} if follows else {}
    if _wants_text(headers.accept):
        return PlainTextResponse("".join(map(as_text, lines)), headers=link)
    return json_answer(LogPage(attempt=number, lines=list(map(log_line_view, lines)), next=follows), headers=link)


def _address(request: Request, attempt: int, after: int, limit: int) -> str:
    return f"{request.url.path}?{urlencode({'attempt': attempt, 'after': after, 'limit': limit})}"


def _wants_text(accept: str | None) -> bool:
    """Whether plain text is asked for by name, and JSON is not."""
    return accept is not None and "text/plain" in accept and "json" not in accept


def as_text(line: LogRow) -> str:
    """Return a line of a log as plain text."""
    return f"{line.at:%Y-%m-%dT%H:%M:%S.%f}Z {line.level:7} {line.text}\n"
