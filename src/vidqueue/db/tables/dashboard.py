"""Rows for the dashboard: why jobs failed lately, related jobs, previews, and locks of jobs that somebody selected."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from vidqueue.db.pool import Connection, rows
from vidqueue.job import State


@dataclass(frozen=True, slots=True)
class FailureCount:
    """How many of the newest thousand failed jobs failed with a code in the last 24 hours."""

    code: str
    jobs: int
    last_at: datetime


@dataclass(frozen=True, slots=True)
class Relative:
    """A job that another one needs, is needed by, was split from, or was split into."""

    relation: Literal["needs", "needed by", "parent", "child"]
    id: UUID
    processor: str
    title: str | None
    state: State
    progress: float


async def failures(connection: Connection, *, owner: str | None) -> list[FailureCount]:
    """Return why jobs failed in the last 24 hours, most frequent first."""
    return [FailureCount(**found) for found in await rows(connection, "dashboard", "failures", owner=owner)]


async def relatives(connection: Connection, job_id: UUID) -> list[Relative]:
    """Return the jobs that a job is related to."""
    found = await rows(connection, "dashboard", "relatives", id=job_id)
    return [Relative(**{**one, "state": State(one["state"])}) for one in found]


async def previews(connection: Connection, ids: list[UUID]) -> dict[UUID, str]:
    """Return the jobs among these that have a preview, each with a word that changes with the picture."""
    return {one["job_id"]: one["version"] for one in await rows(connection, "dashboard", "previews", ids=ids)}


async def lock_jobs(
    connection: Connection, ids: list[UUID], states: Iterable[State], *, owner: str | None
) -> list[UUID]:
    """Lock those of these jobs that are in one of the states, and return their ids in order."""
    values = {"ids": ids, "states": [state.value for state in states], "owner": owner}
    return [found["id"] for found in await rows(connection, "dashboard", "lock_jobs", **values)]
