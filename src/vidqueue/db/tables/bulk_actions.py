"""Rows of bulk actions and their progress; and `run_next`, which moves one job to the front of the queue."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from psycopg.types.json import Jsonb

from vidqueue.db.pool import Connection, execute, row, rows
from vidqueue.db.tables.jobs import JobFilter, list_of
from vidqueue.job import State

VerbName = Literal["cancel", "retry", "priority", "delete"]
BulkState = Literal["pending", "running", "done", "undone", "stopped", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewBulkAction:
    """A bulk action to create: the verb, the jobs, and the delay in seconds. `scope` is their owner, None for all."""

    owner: str
    scope: str | None
    verb: VerbName
    priority: int | None
    selection: dict[str, Any]
    states: list[str]
    delay_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkActionRow:
    """A bulk action. `matched` is None until the jobs are counted, or if that took too long."""

    id: UUID
    owner: str
    verb: VerbName
    priority: int | None
    selection: dict[str, Any]
    states: list[str]
    state: BulkState
    matched: int | None
    looked: int
    changed: int
    begins_at: datetime
    created_at: datetime
    ended_at: datetime | None
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """The verb and the selection of a bulk action; it continues after the job `reached`."""

    id: UUID
    scope: str | None
    verb: VerbName
    priority: int | None
    selection: dict[str, Any]
    states: list[str]
    created_at: datetime
    reached: UUID | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Open:
    """A bulk action that has not ended."""

    id: UUID
    uncounted: bool
    begins_in_s: float


async def add(connection: Connection, new: NewBulkAction) -> UUID | None:
    """Insert a bulk action; None if the highest number of unfinished ones is reached."""
    values = {name: getattr(new, name) for name in new.__slots__} | {"selection": Jsonb(new.selection)}
    found = await row(connection, "bulk_actions", "add", **values)
    return found["id"] if found else None


async def get(connection: Connection, action_id: UUID, *, owner: str | None) -> BulkActionRow | None:
    """Return one bulk action."""
    found = await row(connection, "bulk_actions", "get", id=action_id, owner=owner)
    return BulkActionRow(**found) if found else None


async def newest(connection: Connection, *, owner: str | None, limit: int) -> list[BulkActionRow]:
    """Return the newest bulk actions of an owner, or of everybody."""
    return [BulkActionRow(**one) for one in await rows(connection, "bulk_actions", "newest", owner=owner, limit=limit)]


async def undo(connection: Connection, action_id: UUID, *, owner: str | None) -> bool:
    """End a bulk action where it is; False if it has ended already."""
    return await row(connection, "bulk_actions", "undo", id=action_id, owner=owner) is not None


async def unfinished(connection: Connection) -> list[Open]:
    """Return the bulk actions that have not ended, first to begin first."""
    return [Open(**one) for one in await rows(connection, "bulk_actions", "open")]


async def work_of(connection: Connection, action_id: UUID) -> Work | None:
    """Return the verb and the selection of a bulk action."""
    found = await row(connection, "bulk_actions", "work_of", id=action_id)
    return Work(**found) if found else None


async def lock(connection: Connection, action_id: UUID) -> Work | None:
    """Lock a bulk action for its next step; None if there is none for this daemon to do."""
    found = await row(connection, "bulk_actions", "lock", id=action_id)
    return Work(**found) if found else None


async def counted(connection: Connection, action_id: UUID, matched: int) -> None:
    """Record the number of jobs that match."""
    await execute(connection, "bulk_actions", "counted", id=action_id, matched=matched)


async def advance(
    connection: Connection, action_id: UUID, *, looked: int, changed: int, reached: UUID | None, ends: bool
) -> None:
    """Record the progress of a step."""
    values = {"looked": looked, "changed": changed, "reached": reached, "ends": ends}
    await execute(connection, "bulk_actions", "advance", id=action_id, **values)


async def fail(connection: Connection, action_id: UUID, error: str) -> None:
    """End a bulk action that cannot go on."""
    await execute(connection, "bulk_actions", "fail", id=action_id, error=error)


async def ids(connection: Connection, wanted: JobFilter) -> list[UUID]:
    """Return the ids of a page of jobs; with a text, fewer than `limit` of them are no sign of the end."""
    query, values = list_of(wanted)
    return [found["id"] for found in await rows(connection, "jobs", query.replace("page_", "ids_"), **values)]


async def run_next(connection: Connection, job_id: UUID, *, owner: str | None) -> bool:
    """Move a waiting job to the front of the queue by raising its priority; False if it does not wait."""
    return await execute(connection, "jobs", "run_next", id=job_id, owner=owner) > 0


async def lock_jobs(
    connection: Connection, ids: list[UUID], states: Iterable[State], *, owner: str | None
) -> list[UUID]:
    """Lock those of these jobs that are in one of the states, and return their ids in order."""
    values = {"ids": ids, "states": [state.value for state in states], "owner": owner}
    return [found["id"] for found in await rows(connection, "bulk_actions", "lock_jobs", **values)]


async def set_priority(connection: Connection, ids: list[UUID], priority: int) -> int:
    """Give locked jobs another priority; return how many had a different one."""
    return len(await rows(connection, "bulk_actions", "set_priority", ids=ids, priority=priority))
