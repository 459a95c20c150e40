"""Suspend and resume running jobs over HTTP."""

from __future__ import annotations

from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response

from vidqueue.api.http.context import scope_of, services_of
from vidqueue.api.http.endpoint import JSON, Answer, Endpoint, Handler
from vidqueue.api.v1.jobs import job_answer
from vidqueue.api.v1.views import JobView
from vidqueue.jobs import control
from vidqueue.principal import Role


async def suspend_job(request: Request, job_id: UUID) -> Response:
    """Suspend a running job: its processes are stopped, and its time limits are paused.

    It keeps its lane, its memory and that of the GPU. A restart of the daemon ends the suspension with the attempt.
    """
    job = await control.suspend(services_of(request).database, job_id, owner=scope_of(request))
    return job_answer(job, status=202)


async def resume_job(request: Request, job_id: UUID) -> Response:
    """Resume a suspended job; a running job that is not suspended is left unchanged."""
    job = await control.resume(services_of(request).database, job_id, owner=scope_of(request))
    return job_answer(job, status=202)


_VERBS: dict[str, Handler] = {"suspend": suspend_job, "resume": resume_job}

ENDPOINTS = tuple(
    Endpoint(
        method="POST",
        path=f"/v1/jobs/{{job_id:uuid}}/{verb}",
        handler=handler,
        tag="jobs",
        # Restricted to operators, because a suspended job blocks a lane for other owners.
        role=Role.OPERATE,
        answers={202: Answer("The job.", {JSON: JobView}, {"ETag": "Changes whenever the answer does."})},
        errors=("conflict",),
    )
    for verb, handler in _VERBS.items()
)
