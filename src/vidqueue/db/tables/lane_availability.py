"""Columns of lanes about availability: time windows, GPU memory of other programs, and requests to free memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from vidqueue.db.pool import Connection, execute, rows
from vidqueue.ops.windows import Windows


@dataclass(frozen=True, slots=True)
class WantedOfLane:
    """Requests of users for a lane."""

    windows: Windows
    free_requested: bool


async def wanted(connection: Connection, lanes: Sequence[UUID]) -> dict[UUID, WantedOfLane]:
    """Return the requests of users for these lanes."""
    found = await rows(connection, "lane_availability", "of_lanes", ids=list(lanes))
    return {
        one["id"]: WantedOfLane(
            Windows(tuple(one["windows"]), one["windows_zone"], one["windows_end"]), one["free_requested"]
        )
        for one in found
    }


@dataclass(frozen=True, slots=True)
class Noted:
    """Observations of a lane: the MiB that other programs hold of its GPU, and when its next window begins."""

    others_mb: int = 0
    opens_at: datetime | None = None


async def note(connection: Connection, seen: dict[UUID, Noted]) -> None:
    """Write the observations of lanes."""
    noted = seen.values()
    values = {"others_mb": [one.others_mb for one in noted], "opens_at": [one.opens_at for one in noted]}
    await execute(connection, "lane_availability", "note", ids=list(seen), **values)


async def set_windows(connection: Connection, lane: UUID, windows: Windows) -> None:
    """Set a lane's time windows at the request of a user."""
    await execute(connection, "lane_availability", "set_windows", id=lane, by="person", **_columns(windows))


async def configure_windows(connection: Connection, lane: UUID, windows: Windows) -> None:
    """Set a lane's time windows from the configuration; without an entry there, those of a user stay."""
    await execute(connection, "lane_availability", "configure_windows", id=lane, **_columns(windows))


async def request_free(connection: Connection, lane: UUID) -> None:
    """Request that the daemon of a lane frees the memory of its executor."""
    await execute(connection, "lane_availability", "free", id=lane)


async def freed(connection: Connection, lane: UUID) -> None:
    """Record that the memory of a lane's executor is free."""
    await execute(connection, "lane_availability", "freed", id=lane)


def _columns(windows: Windows) -> dict[str, object]:
    return {"windows": list(windows.open), "zone": windows.zone, "at_end": windows.at_end}
