"""Removes finished jobs and unused files: lock, delete the rows in the same transaction, then remove the bytes.

Nothing that an unfinished job needs is removed. The callers are `control` and `retention`.
"""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

import structlog

from vidqueue.db.pool import Connection
from vidqueue.db.tables import batches, files, jobs
from vidqueue.storage.local import Storage

FilesOf = dict[UUID, list[UUID]]

log = structlog.get_logger(__name__)


async def removable(connection: Connection, locked: list[UUID]) -> FilesOf:
    """Return those of these locked jobs that no unfinished job needs, with their output files, which are locked too."""
    published: FilesOf = {job_id: [] for job_id in locked}
    for job_id, file_id in await files.of_jobs(connection, locked):
        published[job_id].append(file_id)
    theirs = await files.lock(connection, [file_id for of_job in published.values() for file_id in of_job])
    free = await jobs.unneeded(connection, [job_id for job_id, ids in published.items() if theirs.issuperset(ids)])
    return {job_id: published[job_id] for job_id in locked if job_id in free}


async def remove_rows(connection: Connection, removed: FilesOf) -> None:
    """Delete removable jobs with everything that is written of them and of their files."""
    of_batches = sorted(await jobs.delete_many(connection, list(removed)))
    if of_batches:
        # Locked, or two who delete the last two jobs at once would each leave the batch to the other.
        await batches.lock(connection, of_batches)
        await batches.delete_empty(connection, of_batches)
    await files.delete_many(connection, [file_id for ids in removed.values() for file_id in ids])


async def remove_bytes(storage: Storage, file_ids: Iterable[UUID]) -> None:
    """Remove the bytes of files whose rows are deleted; after a crash before that, reconcile removes them."""

    def remove() -> None:
        for file_id in file_ids:
            try:
                storage.delete(file_id)
            except OSError as error:
                log.error("file_not_removed", file=str(file_id), error=str(error))

    await storage.long_threads.run(remove)
