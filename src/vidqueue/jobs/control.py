"""Cancel, suspend, retry, change and delete jobs and files. Each is one transaction."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from vidqueue.db.pool import Connection, Database
from vidqueue.db.tables import bulk_actions, files, jobs, suspensions
from vidqueue.db.tables.jobs import JobRow
from vidqueue.errors import VidqueueError
from vidqueue.job import FINAL, State
from vidqueue.jobs import removal
from vidqueue.storage.local import Storage


async def read(database: Database, job_id: UUID, *, owner: str | None) -> JobRow:
    """Return a job.

    Raises:
        VidqueueError: `not_found`, also for another owner's job.
    """
    async with database.statement() as connection:
        return await _require(connection, job_id, owner)


async def cancel(database: Database, job_id: UUID, *, owner: str | None) -> JobRow:
    """Cancel a waiting job at once, or ask a running one to stop; a second request changes nothing.

    Raises:
        VidqueueError: `not_found`; `conflict` once the job has succeeded or failed.
    """
    async with database.transaction() as connection:
        # Otherwise another client could retry a failed job between the update and the read of its state.
        await jobs.lock(connection, job_id)
        await jobs.request_cancel(connection, [job_id], owner=owner)
        job = await _require(connection, job_id, owner)
    if job.state in FINAL - {State.CANCELED}:
        raise VidqueueError("conflict", f"The job has {job.state} already and cannot be canceled.")
    return job


async def suspend(database: Database, job_id: UUID, *, owner: str | None) -> JobRow:
    """Request the suspension of a running job: it keeps its lane and its memory, and uses no CPU or GPU time.

    Raises:
        VidqueueError: `not_found`; `conflict` unless the job runs, or if it is being canceled.
    """
    async with database.transaction() as connection:
        await suspensions.suspend(connection, [job_id], owner=owner)
        job = await _require(connection, job_id, owner)
    if job.suspended_at is None:
        how = "being canceled" if job.state is State.RUNNING else job.state
        raise VidqueueError("conflict", f"Only a running job can be suspended; this one is {how}.")
    return job


async def resume(database: Database, job_id: UUID, *, owner: str | None) -> JobRow:
    """Resume a suspended job; a running job that is not suspended is left unchanged.

    Raises:
        VidqueueError: `not_found`; `conflict` unless the job runs.
    """
    async with database.transaction() as connection:
        await suspensions.resume(connection, [job_id], owner=owner)
        job = await _require(connection, job_id, owner)
    if job.state is not State.RUNNING:
        raise VidqueueError("conflict", f"Only a suspended job can be resumed; this one is {job.state}.")
    return job


async def retry(database: Database, job_id: UUID, *, owner: str | None) -> JobRow:
    """Queue a failed or canceled job again; a queued or running job stays as it is.

    Raises:
        VidqueueError: `not_found`; `conflict` once the job has succeeded; `dependency_failed`.
    """
    async with database.transaction() as connection:
        if dependency := await jobs.failed_dependency(connection, job_id):
            await _require(connection, job_id, owner)
            raise VidqueueError("dependency_failed", f"Job {dependency}, whose output this one needs, did not succeed.")
        await jobs.retry(connection, [job_id], owner=owner)
        job = await _require(connection, job_id, owner)
    if job.state is State.SUCCEEDED:
        raise VidqueueError("conflict", "The job has succeeded; submit it again to run it again.")
    return job


async def run_next(database: Database, job_id: UUID, *, owner: str | None) -> JobRow:
    """Move a waiting job to the front of the queue by raising its priority as far as necessary, to 1000 at most.

    Raises:
        VidqueueError: `not_found`; `conflict` if it does not wait.
    """
    async with database.transaction() as connection:
        await jobs.lock(connection, job_id)
        moved = await bulk_actions.run_next(connection, job_id, owner=owner)
        job = await _require(connection, job_id, owner)
    if not moved:
        raise VidqueueError("conflict", f"The job is {job.state}; only a waiting job can run next.")
    return job


async def patch(
    database: Database, job_id: UUID, changes: dict[str, Any], *, owner: str | None, version: int | None = None
) -> JobRow:
    """Change `priority`, `title` or `tags`, if the job is still at `version`.

    Raises:
        VidqueueError: `not_found`, `precondition_failed`.
    """
    async with database.transaction() as connection:
        changed = await jobs.patch(connection, job_id, owner=owner, version=version, changes=changes)
        job = await _require(connection, job_id, owner)
    if not changed:
        raise VidqueueError("precondition_failed", f"The job is now at version {job.version}.")
    return job


async def delete(
    database: Database, storage: Storage, job_id: UUID, *, owner: str | None, with_uploads: bool = False
) -> None:
    """Delete a finished job with its log and its outputs; on request with the uploads that no other job names.

    Raises:
        VidqueueError: `not_found`; `conflict` while it runs, waits, or a waiting job needs its outputs.
    """
    async with database.transaction() as connection:
        await jobs.lock(connection, job_id)
        job = await _require(connection, job_id, owner)
        await jobs.lock_dependents(connection, job_id)
        removed = await removal.removable(connection, [job_id])
        if not removed:
            what = (
                "an unfinished job or a schedule needs it"
                if job.state in FINAL
                else f"it is {job.state}; cancel it first"
            )
            raise VidqueueError("conflict", f"The job cannot be deleted: {what}.")
        uploads = await files.uploads_of_jobs(connection, [job_id]) if with_uploads else []
        await removal.remove_rows(connection, removed)
        unread = await files.unread(connection, list(await files.lock(connection, uploads))) if uploads else set()
        await files.delete_many(connection, list(unread))
    await removal.remove_bytes(storage, [*removed[job_id], *unread])


async def delete_file(database: Database, storage: Storage, file_id: UUID, *, owner: str | None) -> None:
    """Delete an uploaded file.

    Raises:
        VidqueueError: `not_found`; `conflict` while a job published it or still has to read it.
    """
    async with database.transaction() as connection:
        if await files.get(connection, file_id, owner=owner) is None:
            raise VidqueueError("not_found", f"There is no file {file_id}.")
        locked = await files.lock(connection, [file_id])
        if not await files.unused(connection, list(locked)):
            raise VidqueueError(
                "conflict", "The file is an output of a job, or an unfinished job or a schedule needs it."
            )
        await files.delete_many(connection, [file_id])
    await removal.remove_bytes(storage, [file_id])


async def _require(connection: Connection, job_id: UUID, owner: str | None) -> JobRow:
    job = await jobs.get(connection, job_id, owner=owner)
    if job is None:
        raise VidqueueError("not_found", f"There is no job {job_id}.")
    return job
