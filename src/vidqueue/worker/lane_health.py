"""Lane health: blocks the lanes of this daemon while its disk is full or their GPU is lost.

The reason stands in the lane's row, so a job that waits for the lane says so. Lanes are unblocked when it is over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import structlog

from vidqueue.db.pool import Database
from vidqueue.db.tables import lanes
from vidqueue.errors import VidqueueError
from vidqueue.ops.watchdog import Heartbeat
from vidqueue.storage.disk_space import is_short_of_space
from vidqueue.worker import gpus

LOOK_EVERY_S = 2.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class WatchedLane:
    """A lane of this daemon, and the UUID of its GPU if it has one."""

    id: UUID
    gpu_uuid: str | None = None


@dataclass(slots=True)
class LaneHealth:
    """Watches the lanes of one daemon. With less free space than `low_water_mib` no new work begins; 0 is no bound."""

    database: Database
    folders: Sequence[Path]
    low_water_mib: int
    watched: Sequence[WatchedLane]
    heartbeat: Heartbeat
    _full: bool = field(default=False, init=False)

    async def run(self) -> None:
        """Check every two seconds, until cancelled."""
        while True:
            self.heartbeat()
            try:
                await self.look()
            except VidqueueError as error:
                log.warning("lane_health_waits_for_database", error=error.message)
            await asyncio.sleep(LOOK_EVERY_S)

    async def look(self) -> None:
        """Check once, and write the lanes' rows.

        Raises:
            VidqueueError: `database_unavailable`.
        """
        marks = [is_short_of_space(folder, self.low_water_mib, was_short=self._full) for folder in self.folders]
        self._full = any(marks)
        lost = await _lost_gpus(self.watched)
        otherwise = "no_space" if self._full else None
        wanted = {lane.id: "gpu_lost" if lane.gpu_uuid in lost else otherwise for lane in self.watched}
        async with self.database.statement() as connection:
            changed = await lanes.block(connection, wanted)
        for name, reason in changed.items():
            log.warning("lane_blocked" if reason else "lane_unblocked", lane=name, reason=reason)


async def _lost_gpus(watched: Sequence[WatchedLane]) -> set[str | None]:
    uuids = [lane.gpu_uuid for lane in watched if lane.gpu_uuid is not None]
    # All at once: several GPUs that hang delay a round no longer than one.
    reached = await asyncio.gather(*map(gpus.answers_in_time, uuids))
    return {uuid for uuid, is_reached in zip(uuids, reached, strict=True) if not is_reached}
