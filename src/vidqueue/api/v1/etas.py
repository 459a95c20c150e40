"""When waiting jobs will be done, added to their rows."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.requests import Request

from vidqueue.db.tables.jobs import JobRow
from vidqueue.job import State
from vidqueue.jobs.estimates import Estimates


async def with_eta(request: Request, jobs: Sequence[JobRow]) -> list[JobRow]:
    """Return the jobs, those that wait in line with their `eta_s`."""
    if not any(_stands_in_line(job) for job in jobs):
        return list(jobs)
    estimates: Estimates = request.app.state.estimates
    done = await estimates.waiting()
    return [job._replace(eta_s=done.get(job.id)) if _stands_in_line(job) else job for job in jobs]


async def eta_of(request: Request, job: JobRow) -> float | None:
    """Return the `eta_s` of one job, as `with_eta` does."""
    if not _stands_in_line(job):
        return job.eta_s
    estimates: Estimates = request.app.state.estimates
    return (await estimates.waiting()).get(job.id)


def _stands_in_line(job: JobRow) -> bool:
    return job.state is State.QUEUED and job.position is not None
