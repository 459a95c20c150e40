"""Suspensions of running jobs: the columns suspended_at and suspended_by of jobs."""

from __future__ import annotations

from uuid import UUID

from vidqueue.db.pool import Connection, execute, rows


async def suspend(connection: Connection, ids: list[UUID], *, owner: str | None) -> None:
    """Request the suspension of running jobs; other jobs are left unchanged."""
    await execute(connection, "suspensions", "suspend", ids=ids, owner=owner)


async def resume(connection: Connection, ids: list[UUID], *, owner: str | None) -> None:
    """Resume suspended jobs; other jobs are left unchanged."""
    await execute(connection, "suspensions", "resume", ids=ids, owner=owner)


async def suspend_lane(connection: Connection, lane: UUID, *, but: set[int]) -> set[int]:
    """Suspend the job of a lane because its window has ended, but not these attempts; return the fence of what is."""
    found = await rows(connection, "suspensions", "suspend_lane", lane=lane, but=list(but))
    return {one["fence"] for one in found}


async def resume_lane(connection: Connection, lane: UUID) -> None:
    """Resume the job of a lane that was suspended at the end of a window."""
    await execute(connection, "suspensions", "resume_lane", lane=lane)
