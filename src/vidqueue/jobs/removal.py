"""Removes finished jobs and unused files: lock, delete the rows in the same transaction, then remove the bytes.

Nothing that an unfinished job needs is removed. The callers are `control`, `retention` and `bulk`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from uuid import UUID

import structlog

from vidqueue.db.pool import Connection
from vidqueue.db.tables import batches, files, jobs, retention
from vidqueue.storage.local import Storage

FilesOf = dict[UUID, list[UUID]]
# Log lines and events per transaction: one job may have 100,000 of them.
LINES = 2000

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Removed:
    """Jobs whose rows were deleted, with their files, and the lines of their history that were deleted, by kind.

    Where `whole` is False, only part of the history was deleted, and no job.
    """

    files: FilesOf
    whole: bool
    history: Counter[str] = field(default_factory=Counter)


async def remove_some(connection: Connection, locked: list[UUID]) -> Removed:
    """Delete the rows of those of these locked jobs that are not needed, or a bounded part of their history."""
    removed = await removable(connection, await jobs.with_locked_dependents(connection, locked))
    logs = await retention.forget(connection, "logs", list(removed), limit=LINES)
    events = await retention.forget(connection, "events", list(removed), limit=LINES)
    history = Counter(logs=logs, events=events)
    if LINES in (logs, events):
        return Removed({}, False, history)
    await remove_rows(connection, removed)
    return Removed(removed, True, history)


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
