"""Rows of pauses: of everything, of processors, of lanes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from vidqueue.db.pool import Connection, execute, rows

Scope = Literal["everything", "processor", "lane"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """What does not begin at present.

    Attributes:
        name: the processor or the lane; None for everything.
        host: the machine of the lane.
        until: when it ends by itself; None if somebody must end it.
        draining: the executor of the lane is stopped once the running job has ended.
    """

    scope: Scope
    name: str | None
    host: str | None
    since: datetime | None
    until: datetime | None
    reason: str | None
    draining: bool


@dataclass(frozen=True, slots=True)
class Terms:
    """How long a pause lasts, in seconds (None: until somebody ends it), and why."""

    for_s: float | None = None
    reason: str | None = None


async def every(connection: Connection) -> list[Pause]:
    """Return all pauses that hold at present."""
    return [Pause(**found) for found in await rows(connection, "pauses", "all")]


async def pause(connection: Connection, processor: str | None, terms: Terms) -> None:
    """Pause a processor, or everything."""
    await execute(connection, "pauses", "pause", processor=processor, for_s=terms.for_s, reason=terms.reason)


async def resume(connection: Connection, processor: str | None) -> None:
    """End the pause of a processor, or that of everything; without one nothing happens."""
    await execute(connection, "pauses", "resume", processor=processor)


async def lanes_named(connection: Connection, name: str, host: str | None) -> dict[str, UUID]:
    """Return the lanes of a name by host: those that are online, and those that are paused."""
    found = await rows(connection, "pauses", "lanes_named", name=name, host=host)
    return {one["host"]: one["id"] for one in found}


async def online(connection: Connection) -> list[UUID]:
    """Return all lanes that are online."""
    return [found["id"] for found in await rows(connection, "pauses", "online")]


async def pause_lane(connection: Connection, lane: UUID, terms: Terms, *, drain: bool = False) -> None:
    """Pause a lane."""
    values = {"for_s": terms.for_s, "reason": terms.reason, "drain": drain}
    await execute(connection, "pauses", "pause_lane", id=lane, **values)


async def resume_lane(connection: Connection, lane: UUID) -> None:
    """End the pause of a lane; without one nothing happens."""
    await execute(connection, "pauses", "resume_lane", id=lane)


async def draining(connection: Connection, lanes: Sequence[UUID]) -> set[UUID]:
    """Return those of these lanes that shall give back what their executors hold."""
    return {found["id"] for found in await rows(connection, "pauses", "draining", ids=list(lanes))}
