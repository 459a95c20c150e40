"""Rows of schedules and of their runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from psycopg.types.json import Jsonb

from vidqueue.db.pool import Connection, execute, row, rows

RunOutcome = Literal["submitted", "missed", "overlapped", "refused"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleRow:
    """A schedule: the request `job` is submitted at the times of `cron`, next at `next_at`.

    `declared_by` is the data folder of the daemon whose configuration has it; None where a person made it.
    """

    id: UUID
    owner: str
    name: str
    cron: str
    timezone: str
    job: dict[str, Any]
    missed: str
    one_at_a_time: bool
    paused: bool
    declared_by: UUID | None
    next_at: datetime
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSchedule:
    """A schedule to write. `files` and `jobs` are what its request names, and are kept for it."""

    owner: str
    name: str
    cron: str
    timezone: str
    job: dict[str, Any]
    files: list[UUID]
    jobs: list[UUID]
    missed: str
    one_at_a_time: bool
    paused: bool
    next_at: datetime

    def values(self) -> dict[str, Any]:
        """Return the values as queries take them."""
        return {name: getattr(self, name) for name in self.__slots__} | {"job": Jsonb(self.job)}


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRun:
    """What came of the time of a schedule: the job, or why there is none."""

    outcome: RunOutcome
    job_id: UUID | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    """A run as it was written; `state` is the present one of the job."""

    due_at: datetime
    at: datetime
    outcome: str
    job_id: UUID | None
    error: str | None
    state: str | None


async def add(connection: Connection, new: NewSchedule) -> ScheduleRow | None:
    """Write a schedule; None if the owner has one of that name, or as many as there may be."""
    found = await row(connection, "schedules", "add", **new.values())
    return ScheduleRow(**found) if found else None


async def declare(connection: Connection, new: NewSchedule, node: UUID) -> None:
    """Write a schedule of the configuration of a data folder, over one of the same name."""
    await execute(connection, "schedules", "declare", **new.values(), node=node)


async def undeclare(connection: Connection, node: UUID, *, keep: Sequence[str]) -> list[str]:
    """Delete the schedules that the configuration of a data folder does not have any more; return their names."""
    return [found["name"] for found in await rows(connection, "schedules", "undeclare", node=node, names=list(keep))]


async def change(connection: Connection, schedule_id: UUID, new: NewSchedule) -> ScheduleRow | None:
    """Replace everything but the name; None if there is no such schedule."""
    found = await row(connection, "schedules", "change", **new.values(), id=schedule_id)
    return ScheduleRow(**found) if found else None


async def of_owner(connection: Connection, owner: str) -> list[ScheduleRow]:
    """Return the schedules of an owner by name."""
    return [ScheduleRow(**found) for found in await rows(connection, "schedules", "list", owner=owner)]


async def every(connection: Connection, *, owner: str | None) -> list[ScheduleRow]:
    """Return the schedules of an owner, or of everybody, by name; the first thousand."""
    return [ScheduleRow(**found) for found in await rows(connection, "schedules", "every", owner=owner)]


async def last_runs(connection: Connection, ids: list[UUID], *, limit: int) -> dict[UUID, list[RunRow]]:
    """Return the newest runs of each of these schedules, newest first."""
    runs_of: dict[UUID, list[RunRow]] = {}
    for found in await rows(connection, "schedules", "last_runs", ids=ids, limit=limit):
        runs_of.setdefault(found.pop("schedule_id"), []).append(RunRow(**found))
    return runs_of


async def get(connection: Connection, schedule_id: UUID, *, owner: str) -> ScheduleRow | None:
    """Return one schedule."""
    found = await row(connection, "schedules", "get", id=schedule_id, owner=owner)
    return ScheduleRow(**found) if found else None


async def lock(connection: Connection, schedule_id: UUID) -> ScheduleRow | None:
    """Lock a schedule until the end of the transaction, and return it as it is then."""
    found = await row(connection, "schedules", "lock", id=schedule_id)
    return ScheduleRow(**found) if found else None


async def remove(connection: Connection, schedule_id: UUID, *, owner: str) -> bool:
    """Delete a schedule with its history; its jobs stay."""
    return await execute(connection, "schedules", "remove", id=schedule_id, owner=owner) > 0


async def due(connection: Connection, now: datetime) -> list[ScheduleRow]:
    """Return schedules whose time has come."""
    return [ScheduleRow(**found) for found in await rows(connection, "schedules", "due", now=now)]


async def next_time(connection: Connection) -> datetime | None:
    """Return the earliest time of any schedule."""
    found = await row(connection, "schedules", "next")
    return found["next_at"] if found else None


async def is_unfinished(connection: Connection, schedule_id: UUID) -> bool:
    """True if the job of an earlier run has not ended."""
    found = await row(connection, "schedules", "unfinished", id=schedule_id)
    return bool(found and found["unfinished"])


async def ran(connection: Connection, schedule: ScheduleRow, run: NewRun, *, next_at: datetime, paused: bool) -> None:
    """Write what came of the time of a locked schedule, and its next one."""
    await execute(connection, "schedules", "advance", id=schedule.id, next_at=next_at, paused=paused)
    values = {"outcome": run.outcome, "job_id": run.job_id, "error": run.error}
    await execute(connection, "schedules", "ran", id=schedule.id, due_at=schedule.next_at, **values)
    await execute(connection, "schedules", "forget_oldest", id=schedule.id)


async def runs(connection: Connection, schedule_id: UUID, *, limit: int) -> list[RunRow]:
    """Return the history of a schedule, newest first."""
    return [RunRow(**found) for found in await rows(connection, "schedules", "runs", id=schedule_id, limit=limit)]
