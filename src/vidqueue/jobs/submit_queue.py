"""Queues the jobs that one owner submits at one moment with one statement and one commit.

A commit waits for the disk, and those of submits wait for each other: the log of events is numbered in their order.
"""

from __future__ import annotations

from collections.abc import Sequence
from weakref import WeakValueDictionary

from vidqueue.db.gathered import Gathered
from vidqueue.db.pool import Connection, Database
from vidqueue.db.tables import jobs, new_jobs
from vidqueue.db.tables.jobs import JobRow, NewJob
from vidqueue.errors import VidqueueError
from vidqueue.ops import failpoints

# None for a job that must be queued alone.
_Queued = JobRow | None


class SubmitQueue:
    """Checked jobs on their way into the queue.

    `alone` has the connections for jobs that may share no statement. They may wait for the transactions of others, such
    as one that has used the same idempotency key, and keep those of `together` from nobody meanwhile.
    """

    def __init__(self, together: Database, alone: Database) -> None:
        self._together = together
        self._alone = alone
        # Owners wait for each other's limits in no statement, and one owner's refusal is no other's. An entry lasts for
        # as long as somebody waits for it.
        self._of_owner: WeakValueDictionary[str, Gathered[NewJob, _Queued]] = WeakValueDictionary()

    async def add(self, job: NewJob) -> tuple[JobRow, bool]:
        """Queue a job, durably, or find the one its idempotency key made; the flag says whether it is new.

        Raises:
            VidqueueError: the database refuses it, or as `Database.statement`.
        """
        if new_jobs.may_share_statement(job):
            gathered = self._of_owner.get(job.owner)
            if gathered is None:
                gathered = self._of_owner[job.owner] = Gathered(self._together, _queue)
            queued = await gathered.answer(job)
            if queued is not None:
                return queued, True
        async with self._alone.statement() as connection:
            return await _queue_alone(connection, job)


async def _queue(connection: Connection, together: Sequence[NewJob]) -> list[_Queued]:
    """Queue jobs of one owner."""
    await failpoints.reach("submit.before_commit")
    # One statement that queues the jobs, tells of them, and commits.
    queued = await new_jobs.enqueue_together(connection, together)
    await failpoints.reach("submit.committed")
    return queued


async def _queue_alone(connection: Connection, job: NewJob) -> tuple[JobRow, bool]:
    await failpoints.reach("submit.before_commit")
    # As above.
    job_id, created = await new_jobs.enqueue(connection, job)
    await failpoints.reach("submit.committed")
    row = await jobs.get(connection, job_id)
    if row is None:
        raise VidqueueError("not_found", "The job was deleted a moment ago.")
    return row, created
