"""Cancel, retry and delete many jobs that somebody has selected; what does not allow it is left as it is."""

from __future__ import annotations

from uuid import UUID

from vidqueue.db.pool import Database
from vidqueue.db.tables import batches, dashboard, jobs
from vidqueue.errors import VidqueueError
from vidqueue.job import FINAL, State
from vidqueue.jobs import control
from vidqueue.storage.local import Storage

CANCELABLE = frozenset({State.QUEUED, State.RUNNING})
RETRYABLE = frozenset({State.FAILED, State.CANCELED})
DELETABLE = FINAL


async def cancel(database: Database, ids: list[UUID], *, owner: str | None) -> int:
    """Cancel those that wait, and ask those that run to stop, in one transaction; return how many."""
    async with database.transaction() as connection:
        locked = await dashboard.lock_jobs(connection, ids, CANCELABLE, owner=owner)
        await jobs.request_cancel(connection, locked, owner=owner)
    return len(locked)


async def retry(database: Database, ids: list[UUID], *, owner: str | None) -> int:
    """Queue those that failed or were canceled again, in one transaction; return how many.

    A job stays as it is if it needs the output of a job that will not come.
    """
    async with database.transaction() as connection:
        locked = await dashboard.lock_jobs(connection, ids, RETRYABLE, owner=owner)
        blocked = await batches.not_retryable(connection, locked) if locked else set()
        free = [job_id for job_id in locked if job_id not in blocked]
        await jobs.retry(connection, free, owner=owner)
    return len(free)


async def delete(database: Database, storage: Storage, ids: list[UUID], *, owner: str | None) -> int:
    """Delete those that have ended, each in a transaction of its own; return how many."""
    deleted = 0
    for job_id in ids:
        try:
            await control.delete(database, storage, job_id, owner=owner)
        except VidqueueError as error:
            if error.code not in ("conflict", "not_found"):
                raise
        else:
            deleted += 1
    return deleted
