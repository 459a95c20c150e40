"""Queries of the dashboard: causes of recent failures, related jobs, previews, and gauges of lanes."""

from __future__ import annotations

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


@dataclass(frozen=True, slots=True)
class Related:
    """A job of the graph of another one."""

    id: UUID
    processor: str
    title: str | None
    state: State
    progress: float


@dataclass(frozen=True, slots=True)
class Edge:
    """An edge of the graph: a job depends on another one, or is its child."""

    before: UUID
    after: UUID
    is_parent: bool


@dataclass(frozen=True, slots=True)
class Gauges:
    """How busy the GPU of a lane is."""

    memory_used_mb: int
    utilization: int | None
    temperature_c: int | None
    power_w: float | None


async def related(connection: Connection, job_id: UUID) -> tuple[list[Related], list[Edge]]:
    """Return the graph of jobs related to a job, over several steps: the jobs and the edges."""
    found = await rows(connection, "dashboard", "related", id=job_id)
    jobs = [Related(**{**one, "state": State(one["state"])}) for one in found]
    edges = await rows(connection, "dashboard", "edges", ids=[job.id for job in jobs]) if len(jobs) > 1 else []
    return jobs, [Edge(**one) for one in edges]


async def gauges(connection: Connection) -> dict[str, Gauges]:
    """Return the gauges of online lanes that have a GPU, by `host/name`."""
    return {one.pop("lane"): Gauges(**one) for one in await rows(connection, "dashboard", "gauges")}


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
