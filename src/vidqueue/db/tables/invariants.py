"""Rows that break a promise, from the views of `vidqueue_report`, for some jobs at a time."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from vidqueue.db.pool import Connection, row, rows
from vidqueue.db.tables.jobs import FIRST_ID, LAST_ID


@dataclass(frozen=True, slots=True)
class Violation:
    """A row that breaks an invariant; `broken` says how many there are where this one was found."""

    id: str
    invariant: str
    job_id: UUID | None
    detail: str
    broken: int


async def known(connection: Connection) -> dict[str, str]:
    """Each invariant that the database can check: its sentence by its number."""
    return {one["id"]: one["invariant"] for one in await rows(connection, "system", "invariants")}


async def of_jobs(connection: Connection, after: UUID, upto: UUID) -> list[Violation]:
    """The first of each kind among the jobs above one id up to another."""
    # A plan that fits every range would read all rows for each.
    await connection.execute("SET LOCAL plan_cache_mode = force_custom_plan")
    return [Violation(**one) for one in await rows(connection, "system", "violations_of_jobs", after=after, upto=upto)]


async def of_newest_jobs(connection: Connection, number: int) -> list[Violation]:
    """The first of each kind among so many of the newest jobs."""
    found = await row(connection, "system", "newest", jobs=number)
    return await of_jobs(connection, found["id"] if found else FIRST_ID, LAST_ID)


async def between_jobs(connection: Connection) -> list[Violation]:
    """The first of each kind that is seen only where all jobs are looked at together."""
    return [Violation(**one) for one in await rows(connection, "system", "violations_between_jobs")]


async def miscounted(connection: Connection) -> list[str]:
    """Which counters of jobs are wrong, and by how much."""
    return [one["detail"] for one in await rows(connection, "system", "miscounted")]


async def end_of_range(connection: Connection, after: UUID, jobs: int) -> UUID:
    """The id up to which the next jobs of that number are."""
    found = await row(connection, "system", "last_of_next", after=after, jobs=jobs)
    return found["id"] if found else LAST_ID
