"""Rows of vidqueue.batches: jobs that were submitted together, with counts of their states."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb
from pydantic_core import to_json

from vidqueue.db.pool import Connection, execute, row, rows
from vidqueue.db.tables.jobs import NewJob
from vidqueue.job import State

# What belongs to the batch and not to each of its jobs.
_OF_BATCH = {"owner", "idempotency_key", "request_hash"}
_OF_JOB = [field.name for field in fields(NewJob) if field.name not in _OF_BATCH]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewBatch:
    """A batch that is about to be queued."""

    id: UUID
    owner: str
    title: str | None
    idempotency_key: str | None
    request_hash: str | None


@dataclass(frozen=True, slots=True)
class Member:
    """A job of a batch: its id, the jobs whose outputs it needs, and those that it only begins after."""

    id: UUID
    job: NewJob
    needs: frozenset[UUID]
    after: frozenset[UUID] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRow:
    """A batch as the database tells it. `size` counts the jobs that were submitted, `deleted` those that are gone."""

    id: UUID
    owner: str
    title: str | None
    size: int
    queued: int
    running: int
    succeeded: int
    failed: int
    canceled: int
    deleted: int
    progress: float | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    failed_jobs: list[UUID]


async def new_ids(connection: Connection, count: int) -> list[UUID]:
    """Ids that rise, of the server's clock as those of all other jobs."""
    found = await row(connection, "batches", "new_ids", count=count)
    assert found is not None
    ids: list[UUID] = found["ids"]
    return ids


async def of_key(connection: Connection, owner: str, key: str) -> tuple[UUID, str | None] | None:
    """The batch that an idempotency key has made, and the fingerprint of the request that made it."""
    found = await row(connection, "batches", "of_key", owner=owner, key=key)
    return (found["id"], found["request_hash"]) if found else None


async def insert(connection: Connection, batch: NewBatch, members: Sequence[Member]) -> bool:
    """Queue a batch with all its jobs; False where its idempotency key is in use already."""
    values = {field.name: getattr(batch, field.name) for field in fields(batch)}
    if await row(connection, "batches", "create", **values, size=len(members)) is None:
        return False
    given = [{"id": member.id, **_values(member.job)} for member in members]
    encoded = Jsonb(given, dumps=to_json)
    await execute(connection, "batches", "add_jobs", batch_id=batch.id, owner=batch.owner, members=encoded)
    await execute(connection, "batches", "add_owner", owner=batch.owner)
    for reads in (True, False):
        pairs = [(member.id, other) for member in members for other in (member.needs if reads else member.after)]
        if pairs:
            job_ids, others = (list(ids) for ids in zip(*pairs, strict=True))
            await execute(connection, "batches", "add_dependencies", job_ids=job_ids, depends_on=others, reads=reads)
    if forgetting := [member.id for member in members if member.job.forget_uploads]:
        await row(connection, "batches", "forget_uploads", job_ids=forgetting)
    return True


async def lock_dependencies(connection: Connection, ids: Iterable[UUID], owner: str) -> dict[UUID, State]:
    """Lock the jobs that new ones will depend on; the state of each that this owner has."""
    found = await rows(connection, "batches", "lock_dependencies", ids=list(ids), owner=owner)
    return {one["id"]: State(one["state"]) for one in found}


async def get(connection: Connection, batch_id: UUID, *, owner: str | None = None) -> BatchRow | None:
    """One batch, or None where this owner has none of that id."""
    found = await row(connection, "batches", "get", id=batch_id, owner=owner)
    return BatchRow(**found) if found else None


async def page(connection: Connection, *, owner: str | None, before: UUID, limit: int) -> list[BatchRow]:
    """Return batches that are older than `before`, newest first, without the ids of their failed jobs."""
    return [
        BatchRow(**found)
        for found in await rows(connection, "batches", "page", owner=owner, before=before, limit=limit)
    ]


async def jobs(connection: Connection, batch_id: UUID) -> list[UUID]:
    """Ids of the jobs of a batch, in the order of the request."""
    return [found["id"] for found in await rows(connection, "batches", "jobs", id=batch_id)]


async def lock_jobs(connection: Connection, batch_id: UUID, states: Iterable[State]) -> list[UUID]:
    """Lock the jobs of a batch that are in one of these states; their ids."""
    found = await rows(connection, "batches", "lock_jobs", id=batch_id, states=[state.value for state in states])
    return [one["id"] for one in found]


async def not_retryable(connection: Connection, ids: list[UUID]) -> set[UUID]:
    """Those of these locked jobs that need the output of a job which will not come."""
    return {found["id"] for found in await rows(connection, "batches", "not_retryable", ids=ids)}


async def lock(connection: Connection, ids: list[UUID]) -> None:
    """Lock batches before some of their jobs are deleted."""
    await execute(connection, "batches", "lock", ids=ids)


async def delete_empty(connection: Connection, ids: list[UUID]) -> None:
    """Delete those of these locked batches that have no job any more."""
    await execute(connection, "batches", "delete_empty", ids=ids)


def _values(job: NewJob) -> dict[str, Any]:
    # What is left out is NULL there.
    return {name: value for name in _OF_JOB if (value := getattr(job, name)) is not None}
