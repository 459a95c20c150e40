"""Jobs over HTTP: submit, read, list, change, cancel, retry, delete. `jobs.submit` and `jobs.control` do the work."""

from __future__ import annotations

import asyncio
import re
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from vidqueue.api.http.context import closing_of, principal_of, scope_of, services_of
from vidqueue.api.http.endpoint import JSON
from vidqueue.api.v1.etas import eta_of
from vidqueue.api.v1.job_json import job_json
from vidqueue.api.v1.job_reader import JobReader, tag_of
from vidqueue.db.event_feed import Subscription
from vidqueue.db.tables.jobs import JobRow
from vidqueue.errors import VidqueueError
from vidqueue.job import FINAL
from vidqueue.jobs import control
from vidqueue.jobs.submit import JobRequest, Submitted, Tag, submit
from vidqueue.services import Services

_WAIT = re.compile(r"(?:^|[,;\s])wait\s*=\s*\"?(\d{1,6})", re.IGNORECASE)
_ETAG = re.compile(r'"(\d{1,9})\.[0-9a-f]+"')


class SubmitHeaders(BaseModel):
    """How a job is submitted."""

    idempotency_key: str | None = Field(
        None,
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        description="Send the same key again to get the same job instead of a second one.",
    )
    prefer: str | None = Field(
        None, alias="Prefer", description="`wait=N`: answer when the job has ended, or after N seconds."
    )


class ForOwner(BaseModel):
    """Whose job it is."""

    model_config = ConfigDict(extra="forbid")

    owner: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        description="Submit for this owner; needs the role operate. The default is the owner of the key.",
    )


class ReadHeaders(BaseModel):
    """Conditional headers of a read."""

    if_none_match: str | None = Field(
        None,
        alias="If-None-Match",
        description="ETags of copies that the client has; the answer is 304 if one of them is current.",
    )


class PatchHeaders(BaseModel):
    """Conditional headers of a change."""

    if_match: str | None = Field(
        None,
        alias="If-Match",
        description="ETag of the copy that the change is based on; the answer is 412 if the job has changed since.",
    )


class JobChanges(BaseModel):
    """Changes to a job; a field that is left out is not changed."""

    model_config = ConfigDict(extra="forbid")

    priority: int | None = Field(None, ge=-1000, le=1000, description="Higher goes first.")
    title: str | None = Field(None, max_length=500, description="A label for people; null removes it.")
    tags: list[Tag] | None = Field(None, max_length=32, description="Replaces all tags.")


async def submit_job(request: Request, body: JobRequest, headers: SubmitHeaders, query: ForOwner) -> Response:
    """Submit a job.

    The job is durable when this answers. 200 says that it has ended within the time of `Prefer: wait=N`, 202 that it
    goes on.
    """
    services, owner = services_of(request), principal_of(request).acting_for(query.owner)
    submitted = await submit(
        body,
        database=services.database,
        inputs=services.inputs,
        owner=owner,
        idempotency_key=headers.idempotency_key,
        queue=request.app.state.submit_queue,
        examine=True,
    )
    job = submitted.job
    wait_s = _wanted_wait(headers.prefer, services.settings.api.max_wait_s)
    if wait_s is not None:
        job = await until_final(services, job, wait_s, closing_of(request))
    ended = wait_s is not None and job.state in FINAL
    return job_answer(job, status=200 if ended else 202, headers=_submit_headers(submitted, wait_s))


async def get_job(request: Request, job_id: UUID, headers: ReadHeaders) -> Response:
    """Read a job."""
    found = await reader_of(request).read(job_id, owner=scope_of(request))
    body, etag = found.encoded(await eta_of(request, found.row))
    if matches(headers.if_none_match, etag):
        return Response(status_code=304, headers={"ETag": etag})
    return Response(body, 200, {"ETag": etag}, JSON)


async def patch_job(request: Request, job_id: UUID, body: JobChanges, headers: PatchHeaders) -> Response:
    """Change a job's priority, title or tags."""
    services, owner = services_of(request), scope_of(request)
    version = None
    if headers.if_match is not None and headers.if_match.strip() != "*":
        job = await control.read(services.database, job_id, owner=owner)
        # Position and waiting time are part of the ETag, but nobody's change is lost when only they move.
        if str(job.version) not in _ETAG.findall(headers.if_match):
            raise VidqueueError("precondition_failed", f"The job is now at version {job.version}.")
        version = job.version
    changes = body.model_dump(exclude_unset=True)
    return job_answer(await control.patch(services.database, job_id, changes, owner=owner, version=version))


class DeleteQuery(BaseModel):
    """Query of a deletion."""

    model_config = ConfigDict(extra="forbid")

    uploads: bool = Field(
        False, description="Delete the files too that were uploaded for it and that no other job names."
    )


async def delete_job(request: Request, job_id: UUID, query: DeleteQuery) -> Response:
    """Delete a finished job, its logs and its outputs, and on request its uploads."""
    services = services_of(request)
    await control.delete(
        services.database, services.storage, job_id, owner=scope_of(request), with_uploads=query.uploads
    )
    return Response(status_code=204)


async def cancel_job(request: Request, job_id: UUID) -> Response:
    """Cancel a job.

    A waiting job is canceled when this answers; a running one has been asked to stop. Asking again changes nothing.
    """
    job = await control.cancel(services_of(request).database, job_id, owner=scope_of(request))
    return job_answer(job, status=202)


async def retry_job(request: Request, job_id: UUID) -> Response:
    """Run a failed or canceled job once more.

    A job that waits or runs is left as it is. Earlier attempts and their logs are kept.
    """
    job = await control.retry(services_of(request).database, job_id, owner=scope_of(request))
    return job_answer(job, status=202)


async def run_job_next(request: Request, job_id: UUID) -> Response:
    """Move a waiting job to the front of the queue.

    Its priority is raised as far as necessary, to 1000 at most.
    """
    job = await control.run_next(services_of(request).database, job_id, owner=scope_of(request))
    return job_answer(job, status=202)


def matches(if_none_match: str | None, etag: str) -> bool:
    """True if `If-None-Match` names this ETag."""
    if if_none_match is None:
        return False
    known = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return "*" in known or etag in known


def job_answer(job: JobRow, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Answer with a job and its ETag."""
    body = job_json(job)
    return Response(body, status, {"ETag": tag_of(job, body), **(headers or {})}, JSON)


def reader_of(request: Request) -> JobReader:
    """Return what reads single jobs."""
    reader: JobReader = request.app.state.job_reader
    return reader


def _submit_headers(submitted: Submitted, wait_s: float | None) -> dict[str, str]:
    headers = {"Location": f"/v1/jobs/{submitted.job.id}"}
    if not submitted.created:
        headers["Idempotency-Replayed"] = "true"
    if wait_s is not None:
        headers["Preference-Applied"] = f"wait={wait_s:g}"
    return headers


def _wanted_wait(prefer: str | None, longest_s: float) -> float | None:
    """Seconds to wait; a preference that cannot be read is no error (RFC 7240)."""
    found = _WAIT.search(prefer or "")
    return min(float(found[1]), longest_s) if found else None


async def until_final(services: Services, job: JobRow, wait_s: float, closing: asyncio.Event) -> JobRow:
    """The job when it has ended, or as it is when the time is over or the server closes."""
    with services.event_feed.subscribe(job_id=job.id) as subscription:
        tasks = (asyncio.create_task(_watch(services, job, subscription)), asyncio.create_task(closing.wait()))
        try:
            await asyncio.wait(tasks, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    try:
        return await control.read(services.database, job.id, owner=job.owner)
    except VidqueueError:
        # The job is accepted, whatever happens to the waiting: an error here would say that it is not.
        return job


async def _watch(services: Services, job: JobRow, subscription: Subscription) -> None:
    """Wait until the row says that the job has ended; events only tell when to look."""
    while (await control.read(services.database, job.id, owner=job.owner)).state not in FINAL:
        event = await subscription.next()
        while event is not None and event.kind == "progress":
            event = await subscription.next()
        if event is None:
            return
