"""Queries of the compatible APIs about tasks, which are jobs with a tag: their number, and the progress of one."""

from __future__ import annotations

from uuid import UUID

from vidqueue.db.pool import Connection, row

MOST_EVENTS = 2000


async def count(connection: Connection, tag: str, *, owner: str | None, limit: int) -> int:
    """Return the number of jobs with a tag, counted up to a limit."""
    found = await row(connection, "tasks", "count", tag=tag, owner=owner, limit=limit)
    return int(found["jobs"]) if found else 0


async def furthest(connection: Connection, job_id: UUID) -> float:
    """Return the highest progress that any attempt of a job has reached."""
    found = await row(connection, "tasks", "furthest", job_id=job_id, limit=MOST_EVENTS)
    return float(found["progress"]) if found else 0.0
