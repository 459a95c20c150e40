"""Rows of the limits of owners and processors, and of the weights of owners.

The database enforces them (migrations 0026, 0053 and 0087).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from vidqueue.db.pool import Connection, execute, row, rows

# The row of owners that have none of their own.
EVERYBODY_ELSE = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnerLimits:
    """The most of each that an owner may have; None is no limit. `max_stored_bytes` counts uploads and outputs.

    `max_gpu_s_per_day` is seconds of GPU lanes within 24 hours; `weight` is the share beside others, None is 1.
    """

    max_queued: int | None = None
    max_running: int | None = None
    max_per_minute: int | None = None
    max_stored_bytes: int | None = None
    max_gpu_s_per_day: int | None = None
    weight: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsRow(OwnerLimits):
    """The limits of an owner."""

    owner: str
    changed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessorLimits:
    """The most that all jobs of a processor together may have, whoever owns them; None is no limit."""

    max_queued: int | None = None
    max_running: int | None = None
    max_per_minute: int | None = None
    max_gpu_s_per_day: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessorLimitsRow(ProcessorLimits):
    """The limits of a processor."""

    processor: str
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


async def of_processors(connection: Connection) -> list[ProcessorLimitsRow]:
    """Return the limits of all processors that have some."""
    return [ProcessorLimitsRow(**found) for found in await rows(connection, "limits", "of_processors")]


async def set_of_processor(connection: Connection, processor: str, limits: ProcessorLimits) -> ProcessorLimitsRow:
    """Write the limits of a processor, in place of those before."""
    values = {name: getattr(limits, name) for name in ProcessorLimits.__dataclass_fields__}
    found = await row(connection, "limits", "set_of_processor", processor=processor, **values)
    assert found is not None
    return ProcessorLimitsRow(**found)


async def remove_of_processor(connection: Connection, processor: str) -> bool:
    """Delete the limits of a processor; False if there are none."""
    return await execute(connection, "limits", "remove_of_processor", processor=processor) > 0


async def storage_left(connection: Connection, owner: str) -> int | None:
    """Return how many more bytes an owner may store; None without a limit."""
    found = await row(connection, "limits", "storage_left", owner=owner)
    return int(found["bytes"]) if found else None
