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
_Queued = JobRow | VidqueueError | None


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
            if isinstance(queued, VidqueueError):
                raise queued
            if queued is not None:
                return queued, True
        async with self._alone.statement() as connection:
            return await _queue_alone(connection, job)


async def _queue(connection: Connection, together: Sequence[NewJob]) -> list[_Queued]:
    """Queue jobs of one owner."""
    if len(together) == 1:
        return [(await _queue_alone(connection, together[0]))[0]]
    await failpoints.reach("submit.before_commit")
    ids = await new_jobs.enqueue_together(connection, together)
    await failpoints.reach("submit.committed")
    queued = [job_id for job_id in ids if job_id]
    found = await jobs.get_many(connection, queued) if queued else {}
    return [None if job_id is None else found.get(job_id, _deleted()) for job_id in ids]


async def _queue_alone(connection: Connection, job: NewJob) -> tuple[JobRow, bool]:
    await failpoints.reach("submit.before_commit")
    # One statement that queues the job, tells of it, and commits.
    job_id, created = await new_jobs.enqueue(connection, job)
    await failpoints.reach("submit.committed")
    row = await jobs.get(connection, job_id)
    if row is None:
        raise _deleted()
    return row, created


def _deleted() -> VidqueueError:
    return VidqueueError("not_found", "The job was deleted a moment ago.")
