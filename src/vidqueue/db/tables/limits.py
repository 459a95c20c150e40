"""Rows of what owners may have at most. The database refuses what goes beyond (migrations/0026_keys.sql)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from vidqueue.db.pool import Connection, execute, row, rows

# The row of owners that have none of their own.
EVERYBODY_ELSE = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnerLimits:
    """The most of each that an owner may have; None is no limit. `max_stored_bytes` counts uploads and outputs."""

    max_queued: int | None = None
    max_running: int | None = None
    max_per_minute: int | None = None
    max_stored_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsRow(OwnerLimits):
    """The limits of an owner."""

    owner: str
    changed_at: datetime


async def every(connection: Connection) -> list[LimitsRow]:
    """Return all limits, those of everybody else first."""
    return [LimitsRow(**found) for found in await rows(connection, "limits", "every")]


async def set_limits(connection: Connection, owner: str, limits: OwnerLimits) -> LimitsRow:
    """Write the limits of an owner, in place of those before."""
    values = {name: getattr(limits, name) for name in OwnerLimits.__dataclass_fields__}
    found = await row(connection, "limits", "set", owner=owner, **values)
    assert found is not None
    return LimitsRow(**found)


async def remove(connection: Connection, owner: str) -> bool:
    """Delete the limits of an owner; False if there are none."""
    return await execute(connection, "limits", "remove", owner=owner) > 0


async def storage_left(connection: Connection, owner: str) -> int | None:
    """Return how many more bytes an owner may store; None without a limit."""
    found = await row(connection, "limits", "storage_left", owner=owner)
    return int(found["bytes"]) if found else None
