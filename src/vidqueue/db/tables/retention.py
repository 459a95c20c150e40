"""What may go: cut-off times, and batches of locked rows that are older. What is needed stands in `jobs`, `files`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal
from uuid import UUID

from vidqueue.db.pool import Connection, execute, row, rows

History = Literal["logs", "events"]
# Jobs in the order of their end, or of the time until which they or their processor want them kept.
By = Literal["jobs", "kept_until"]
# Rows that belong to no job, and go by their age alone.
Aged = Literal["events_of_no_job", "schedule_runs", "audit"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a walk through rows in the order of time has got to."""

    at: datetime
    id: UUID


@dataclass(frozen=True, slots=True)
class Used:
    """A job or an upload, the time of its last use, and how many bytes would go with it."""

    what: Literal["job", "upload"]
    last: Place
    size: int


BEGINNING = Place(datetime(1970, 1, 1, tzinfo=UTC), UUID(int=0))


@dataclass(frozen=True, slots=True)
class Cutoffs:
    """The time, and what ended before these times may go; None where it is kept for ever."""

    now: datetime
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


async def bytes_here(connection: Connection, node: UUID) -> int:
    """How many bytes the files of a folder have."""
    found = await row(connection, "retention", "bytes_here", node=node)
    assert found is not None
    return int(found["bytes"])


async def oldest_jobs(connection: Connection, node: UUID, after: Place, *, limit: int) -> list[Used]:
    """The next finished jobs in the order of their end, with the bytes that each has in the folder `node`."""
    found = await rows(
        connection, "retention", "oldest_jobs", node=node, after=after.at, after_id=after.id, limit=limit
    )
    return [Used("job", Place(one["since"], one["id"]), one["size"]) for one in found]


async def oldest_uploads(
    connection: Connection, node: UUID, after: Place, *, limit: int
) -> tuple[list[Used], set[UUID]]:
    """The next uploads of a folder in the order of their coming, and which of them a job has read or has to."""
    found = await rows(
        connection, "retention", "oldest_uploads", node=node, after=after.at, after_id=after.id, limit=limit
    )
    uploads = [Used("upload", Place(one["since"], one["id"]), one["size"]) for one in found]
    return uploads, {one["id"] for one in found if one["read"]}


async def last_read_by(connection: Connection, node: UUID, jobs: list[UUID]) -> list[Used]:
    """Uploads of a folder that were of use for the last time when one of these jobs ended."""
    found = await rows(connection, "retention", "last_read_by", node=node, ids=jobs)
    return [Used("upload", Place(one["since"], one["id"]), one["size"]) for one in found]


async def lock_listed(connection: Connection, ids: list[UUID], node: UUID) -> list[UUID]:
    """Lock those of these jobs that nobody has locked, and whose bytes no other running daemon has to remove."""
    return [one["id"] for one in await rows(connection, "retention", "lock_listed", ids=ids, node=node)]


async def lock_history(connection: Connection, what: History, before: datetime, *, limit: int) -> list[UUID]:
    """Lock the oldest finished jobs that still have logs or events."""
    found = await rows(connection, "retention", f"lock_with_{what}", before=before, limit=limit)
    return [one["id"] for one in found]


async def forget(connection: Connection, what: History, ids: list[UUID], *, limit: int) -> int:
    """Delete at most `limit` log lines or events of these jobs, and tell how many."""
    return await execute(connection, "retention", f"forget_{what}", ids=ids, limit=limit)


async def pruned(connection: Connection, what: History, ids: list[UUID]) -> None:
    """Write down that these jobs have no logs or events left."""
    await execute(connection, "retention", f"{what}_pruned", ids=ids)


async def forget_aged(connection: Connection, what: Aged, before: datetime, *, limit: int) -> int:
    """Delete at most `limit` of the oldest of these rows, and return how many."""
    return await execute(connection, "retention", f"forget_{what}", before=before, limit=limit)


async def lock_jobs(
    connection: Connection, by: By, before: datetime, after: Place, *, node: UUID, limit: int
) -> list[Place]:
    """Lock the next jobs by their end or their own time, whose bytes no other running daemon has to remove."""
    found = await rows(
        connection, "retention", f"lock_{by}", before=before, after=after.at, after_id=after.id, node=node, limit=limit
    )
    return [Place(one["finished_at"], one["id"]) for one in found]


async def lock_expiring(connection: Connection, after: Place, *, node: UUID, limit: int) -> list[Place]:
    """Lock the next uploads that expire with their jobs; as with `lock_uploads`, none of another daemon."""
    found = await rows(
        connection, "retention", "lock_expiring", after=after.at, after_id=after.id, node=node, limit=limit
    )
    return [Place(one["created_at"], one["id"]) for one in found]


async def lock_uploads(
    connection: Connection, before: datetime, after: Place, *, node: UUID, limit: int
) -> list[Place]:
    """Lock the next uploads whose bytes no other running daemon has to remove."""
    found = await rows(
        connection, "retention", "lock_uploads",
        before=before, after=after.at, after_id=after.id, node=node, limit=limit,
    )  # fmt: skip
    return [Place(one["created_at"], one["id"]) for one in found]
