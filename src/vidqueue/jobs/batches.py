"""Batches: jobs that are submitted together in one transaction, and what people do to all of them at once."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from vidqueue.db.pool import Connection, Database
from vidqueue.db.tables import batches, jobs
from vidqueue.db.tables.batches import BatchRow, NewBatch
from vidqueue.errors import VidqueueError
from vidqueue.job import State
from vidqueue.jobs import members
from vidqueue.jobs.inputs import Inputs
from vidqueue.jobs.members import BatchRequest, Checked
from vidqueue.jobs.outlook import refuse_what_no_lane_takes
from vidqueue.jobs.parsing import accepted, parsed
from vidqueue.jobs.submit import fingerprint
from vidqueue.ops import failpoints


@dataclass(frozen=True, slots=True)
class SubmittedBatch:
    """The batch, its jobs in the order of the request, and whether this request made it."""

    batch: BatchRow
    jobs: list[UUID]
    created: bool


async def submit(
    request: BatchRequest, *, database: Database, inputs: Inputs, owner: str, idempotency_key: str | None = None
) -> SubmittedBatch:
    """Accept all jobs of a batch, durably, or none of them.

    Raises:
        VidqueueError: the code of the first fault, with every fault in `errors`; nothing was queued.
    """
    inputs_of_all = [getattr(member, "input", None) for member in request.jobs]
    request_hash = None
    if idempotency_key is not None:
        request_hash = await parsed(inputs_of_all, fingerprint, request)
    async with database.statement() as connection:
        if earlier := await _made_before(connection, owner, idempotency_key, request_hash):
            return earlier
        batch_id, *ids = await batches.new_ids(connection, len(request.jobs) + 1)
    checked = await accepted(request.jobs, members.check, request, ids, owner)
    await _check_inputs(checked, inputs, owner)
    await refuse_what_no_lane_takes(database, [member.job for member in checked.members])
    new = NewBatch(
        id=batch_id,
        owner=owner,
        title=request.title,
        idempotency_key=idempotency_key,
        request_hash=request_hash,
    )
    async with database.transaction() as connection:
        await _check_dependencies(connection, checked, set(ids), owner)
        checked.faults.raise_if_any()
        if not await batches.insert(connection, new, checked.members):
            if earlier := await _made_before(connection, owner, idempotency_key, request_hash):
                return earlier
            raise VidqueueError("conflict", "The batch that this key had made is just being deleted; try again.")
        row = await batches.get(connection, batch_id)
        await failpoints.reach("submit.before_commit")
    await failpoints.reach("submit.committed")
    assert row is not None
    return SubmittedBatch(row, ids, created=True)


async def read(database: Database, batch_id: UUID, *, owner: str | None) -> BatchRow:
    """The batch with counts of the states of its jobs.

    Raises:
        VidqueueError: `not_found`, also for another owner's batch.
    """
    async with database.statement() as connection:
        return await _require(connection, batch_id, owner)


async def cancel(database: Database, batch_id: UUID, *, owner: str | None) -> BatchRow:
    """Cancel every waiting job of a batch and ask every running one to stop; asking again changes nothing.

    Raises:
        VidqueueError: `not_found`; `conflict` once all jobs have succeeded or failed.
    """
    async with database.transaction() as connection:
        await _require(connection, batch_id, owner)
        ids = await batches.lock_jobs(connection, batch_id, [State.QUEUED, State.RUNNING])
        await jobs.request_cancel(connection, ids, owner=owner)
        batch = await _require(connection, batch_id, owner)
    if not ids and not batch.canceled:
        raise VidqueueError("conflict", "Every job of the batch has ended already; none can be canceled.")
    return batch


async def retry(database: Database, batch_id: UUID, *, owner: str | None) -> BatchRow:
    """Queue the failed jobs of a batch once more; a batch without a failed job that goes on is left as it is.

    A failed job stays failed if it needs the output of a job that will not come.

    Raises:
        VidqueueError: `not_found`; `conflict` once all jobs have ended and none has failed; `dependency_failed` where
            no failed job can be queued.
    """
    async with database.transaction() as connection:
        await _require(connection, batch_id, owner)
        failed = await batches.lock_jobs(connection, batch_id, [State.FAILED])
        # Looked at once the locks are had: somebody else may have retried the same jobs meanwhile.
        batch = await _require(connection, batch_id, owner)
        if not failed and batch.finished_at is not None:
            raise VidqueueError("conflict", "No job of the batch has failed.")
        blocked = await batches.not_retryable(connection, failed) if failed else set()
        if failed and blocked.issuperset(failed):
            raise VidqueueError("dependency_failed", "Each failed job needs the output of a job that did not succeed.")
        await jobs.retry(connection, [job_id for job_id in failed if job_id not in blocked], owner=owner)
        return await _require(connection, batch_id, owner)


async def _made_before(
    connection: Connection, owner: str, key: str | None, request_hash: str | None
) -> SubmittedBatch | None:
    known = await batches.of_key(connection, owner, key) if key is not None else None
    if known is None:
        return None
    if known[1] != request_hash:
        raise VidqueueError("idempotency_mismatch", f"key {key!r} was used for another request")
    row = await batches.get(connection, known[0])
    if row is None:
        # Deleted a moment ago, together with its key.
        return None
    return SubmittedBatch(row, await batches.jobs(connection, row.id), created=False)


async def _check_inputs(checked: Checked, inputs: Inputs, owner: str) -> None:
    for pointer, receiver in checked.receivers.items():
        try:
            inputs.check_receiver(receiver)
        except VidqueueError as refusal:
            checked.faults.add(refusal.code, pointer, refusal.message)
    if not checked.references:
        return
    refused = await inputs.check_many(checked.references, owner=owner, examine=True)
    for reference, pointers in checked.references.items():
        if error := refused.get(reference):
            for pointer in pointers:
                checked.faults.add(error.code, pointer, error.message)


async def _check_dependencies(connection: Connection, checked: Checked, own: set[UUID], owner: str) -> None:
    """Lock the jobs outside the batch that members need, and note those that are not there or will not succeed."""
    others = checked.others.keys() - own
    if not others:
        return
    states = await batches.lock_dependencies(connection, others, owner)
    for job_id in sorted(others):
        for pointer in checked.others[job_id]:
            if job_id not in states:
                checked.faults.add("input_not_found", pointer, f"there is no job {job_id}")
            elif states[job_id] in (State.FAILED, State.CANCELED):
                checked.faults.add("dependency_failed", pointer, f"job {job_id} ended as {states[job_id]}")


async def _require(connection: Connection, batch_id: UUID, owner: str | None) -> BatchRow:
    batch = await batches.get(connection, batch_id, owner=owner)
    if batch is None:
        raise VidqueueError("not_found", f"There is no batch {batch_id}.")
    return batch
