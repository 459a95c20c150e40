"""The page of one job: what happened to it, attempt by attempt, what it reads, and what it made."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from vidqueue.api.http.context import scope_of, services_of
from vidqueue.api.v1.etas import with_eta
from vidqueue.api.v1.job_json import job_view
from vidqueue.api.web import causes, commands, graph, inputs, render, timeline
from vidqueue.db.tables import attempts, dashboard
from vidqueue.db.tables.attempts import AttemptRow, LogRow
from vidqueue.db.tables.jobs import JobRow
from vidqueue.errors import VidqueueError
from vidqueue.job import FINAL, State
from vidqueue.jobs import control, webhooks
from vidqueue.processors import registry
from vidqueue.services import Services

LAST_LINES = 200
LINES_OF_A_PAGE = 1000

AttemptNumber = Annotated[int, Field(ge=1, le=2**31 - 1)]


class JobPageQuery(BaseModel):
    """Which attempt is open on the page."""

    model_config = ConfigDict(extra="forbid")

    attempt: AttemptNumber | None = None


class LogQuery(BaseModel):
    """Part of a log."""

    model_config = ConfigDict(extra="forbid")

    after: int = Field(0, ge=0, le=2**63 - 1)
    text: str = Field("", max_length=200, description="Only lines that contain this, in any case.")


@dataclass(frozen=True, slots=True)
class Verbs:
    """What a person can do to a job in its state."""

    cancel: bool
    run_next: bool
    retry: bool
    delete: bool
    suspend: bool
    resume: bool

    @classmethod
    def of(cls, job: JobRow) -> Verbs:
        """Return what can be done to a job."""
        return cls(
            cancel=job.state not in FINAL and job.cancel_requested_at is None,
            run_next=job.state is State.QUEUED and job.position != 1,
            retry=job.state in (State.FAILED, State.CANCELED),
            delete=job.state in FINAL,
            suspend=job.state is State.RUNNING and job.suspended_by != "person" and job.cancel_requested_at is None,
            resume=job.suspended_at is not None,
        )


async def show(request: Request, job_id: UUID, query: JobPageQuery) -> Response:
    """Show a job."""
    services, owner = services_of(request), scope_of(request)
    (job,) = await with_eta(request, [await control.read(services.database, job_id, owner=owner)])
    async with services.database.transaction() as connection:
        tries = await attempts.of_job(connection, job_id, owner=owner)
        shown = _shown_attempt(tries, query.attempt)
        lines = await attempts.read_log_end(connection, job_id, shown.number, limit=LAST_LINES) if shown else []
        relatives = await dashboard.relatives(connection, job_id)
        drawn = graph.of(job_id, *await dashboard.related(connection, job_id))
        previews = await dashboard.previews(connection, [job_id])
    return render.page(
        request,
        "job.html",
        job=job,
        view=job_view(job),
        verbs=Verbs.of(job),
        cause=causes.of(job.error_code),
        attempts=tries,
        shown=shown,
        lines=lines,
        all_lines=len(lines) < LAST_LINES,
        timeline=timeline.of(job, tries),
        relatives=relatives,
        graph=drawn,
        preview=previews.get(job_id),
        inputs=await inputs.of(services, job),
        deliveries=await webhooks.deliveries_of_job(services.database, job_id),
        warnings=_warnings(job),
        clonable=job.processor in registry.catalogue(),
        commands=commands.of(job, str(request.base_url).rstrip("/")),
    )


async def show_log(request: Request, job_id: UUID, number: int, query: LogQuery) -> Response:
    """Show a page of the log of an attempt; each line has an address."""
    services = services_of(request)
    job = await _job_with_attempt(request, job_id, number)
    async with services.database.statement() as connection:
        if query.text:
            lines = await attempts.search_log(connection, job_id, number, query.text, limit=LINES_OF_A_PAGE)
        else:
            lines = await attempts.read_log(connection, job_id, number, after=query.after, limit=LINES_OF_A_PAGE)
    follows = lines[-1].number if len(lines) == LINES_OF_A_PAGE else None
    return render.page(
        request,
        "log.html",
        job=job,
        number=number,
        lines=lines,
        after=query.after,
        text=query.text,
        follows=None if query.text else follows,
    )


async def download_log(request: Request, job_id: UUID, number: int) -> Response:
    """Send the whole log of an attempt as text."""
    await _job_with_attempt(request, job_id, number)
    headers = {"Content-Disposition": f'attachment; filename="job-{job_id}-attempt-{number}.log"'}
    return StreamingResponse(_text(services_of(request), job_id, number), 200, headers, "text/plain")


async def _text(services: Services, job_id: UUID, number: int) -> AsyncIterator[bytes]:
    after = 0
    while True:
        # A connection for each part: a slow reader must not keep one.
        async with services.database.statement() as connection:
            lines = await attempts.read_log(connection, job_id, number, after=after, limit=LINES_OF_A_PAGE)
        yield "".join(map(_as_text, lines)).encode()
        if len(lines) < LINES_OF_A_PAGE:
            return
        after = lines[-1].number


def _as_text(line: LogRow) -> str:
    return f"{line.at:%Y-%m-%dT%H:%M:%S.%f}Z {line.level:7} {line.text}\n"


async def _job_with_attempt(request: Request, job_id: UUID, number: int) -> JobRow:
    job = await control.read(services_of(request).database, job_id, owner=scope_of(request))
    if not 1 <= number <= job.attempt:
        raise VidqueueError("not_found", f"The job has {job.attempt} attempts, and no attempt {number}.")
    return job


def _shown_attempt(tries: list[AttemptRow], number: int | None) -> AttemptRow | None:
    if number is None:
        return tries[-1] if tries else None
    found = next((one for one in tries if one.number == number), None)
    if found is None:
        raise VidqueueError("not_found", f"The job has no attempt {number}.")
    return found


def _warnings(job: JobRow) -> list[str]:
    """What the facts of the outputs warn of, each once."""
    found: dict[str, None] = {}
    for output in job.outputs:
        facts: dict[str, Any] = output["facts"] or {}
        for warning in facts.get("warnings", ()):
            found[str(warning.get("message", warning) if isinstance(warning, dict) else warning)] = None
    return list(found)
