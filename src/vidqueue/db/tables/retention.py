"""What may go: cut-off times, and batches of locked rows that are older. What is needed stands in `jobs`, `files`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal
from uuid import UUID

from vidqueue.db.pool import Connection, execute, row, rows

History = Literal["logs", "events"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a walk through rows in the order of time has got to."""

    at: datetime
    id: UUID


BEGINNING = Place(datetime(1970, 1, 1, tzinfo=UTC), UUID(int=0))


@dataclass(frozen=True, slots=True)
class Cutoffs:
    """What ended before these times may go; None where it is kept for ever."""

    jobs: datetime | None
    logs: datetime | None
    events: datetime | None
    uploads: datetime | None


async def cutoffs(
    connection: Connection, *, jobs_days: float, logs_days: float, events_days: float, uploads_days: float
) -> Cutoffs:
    """The cut-off times of ages in days, where 0 is for ever."""
    days = {"jobs_days": jobs_days, "logs_days": logs_days, "events_days": events_days, "uploads_days": uploads_days}
    found = await row(connection, "retention", "cutoffs", **{name: value or None for name, value in days.items()})
    assert found is not None
    return Cutoffs(**found)


async def beyond_count(connection: Connection, keep: int) -> datetime | None:
    """The time before which finished jobs are too many, or None."""
    found = await row(connection, "retention", "beyond_count", keep=keep)
    return found["before"] if found else None


async def beyond_size(connection: Connection, node: UUID, keep: int) -> datetime | None:
    """The time before which the files of a folder are more than `keep` bytes, or None."""
    here = await row(connection, "retention", "bytes_here", node=node)
    assert here is not None
    if here["bytes"] <= keep:
        return None
    found = await row(connection, "retention", "beyond_size", node=node, keep=keep)
    return found["before"] if found else None


async def hold_history(connection: Connection, what: History, before: datetime, *, limit: int) -> list[UUID]:
    """Lock the oldest finished jobs that still have logs or events."""
    found = await rows(connection, "retention", f"hold_with_{what}", before=before, limit=limit)
    return [one["id"] for one in found]


async def forget(connection: Connection, what: History, ids: list[UUID], *, limit: int) -> int:
    """Delete at most `limit` log lines or events of these jobs, and tell how many."""
    return await execute(connection, "retention", f"forget_{what}", ids=ids, limit=limit)


async def pruned(connection: Connection, what: History, ids: list[UUID]) -> None:
    """Write down that these jobs have no logs or events left."""
    await execute(connection, "retention", f"{what}_pruned", ids=ids)


async def hold_jobs(
    connection: Connection, before: datetime, after: Place, *, node: UUID, only_here: bool, limit: int
) -> list[Place]:
    """Lock the next finished jobs; with `only_here`, those with outputs in the folder `node`."""
    found = await rows(
        connection, "retention", "hold_jobs",
        before=before, after=after.at, after_id=after.id, node=node, only_here=only_here, limit=limit,
    )  # fmt: skip
    return [Place(one["finished_at"], one["id"]) for one in found]


async def hold_uploads(
    connection: Connection, before: datetime, after: Place, *, node: UUID, only_here: bool, limit: int
) -> list[Place]:
    """Lock the next uploads; with `only_here`, those in the folder `node`."""
    found = await rows(
        connection, "retention", "hold_uploads",
        before=before, after=after.at, after_id=after.id, node=node, only_here=only_here, limit=limit,
    )  # fmt: skip
    return [Place(one["created_at"], one["id"]) for one in found]
