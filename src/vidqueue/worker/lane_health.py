"""Lane health: blocks the lanes of this daemon while its disk is full, their GPU is lost, or they are closed.

The reason is written to the lane's row, from which waiting jobs get their `wait_reason`. A lane is unblocked when the
reason is gone. The gauges of the lanes are written here too.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field
from functools import partial
from pathlib import Path
from uuid import UUID

import structlog

from vidqueue.db.pool import Database
from vidqueue.db.tables import lanes
from vidqueue.db.tables.lanes import LaneGauges
from vidqueue.errors import VidqueueError
from vidqueue.ops.threads import ThreadPool
from vidqueue.ops.watchdog import Heartbeat
from vidqueue.storage.disk_space import is_short_of_space
from vidqueue.worker import gpus
from vidqueue.worker.executor.parent import Executor

LOOK_EVERY_S = 2.0
HANGS_AFTER_S = 10.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class WatchedLane:
    """A lane of this daemon, its executor, and the UUID of its GPU if it has one."""

    id: UUID
    executor: Executor
    gpu_uuid: str | None = None


@dataclass(slots=True)
class LaneHealth:
    """Blocks and unblocks the lanes of one daemon; with less free space than `low_water_mib`, all (0: never).

    `closed` has the lanes that are closed for another reason; `closed_changed` is set when that changes.
    """

    database: Database
    folders: Sequence[Path]
    low_water_mib: int
    watched: Sequence[WatchedLane]
    heartbeat: Heartbeat
    closed: Mapping[UUID, str] = field(default_factory=dict)
    closed_changed: asyncio.Event = field(default_factory=asyncio.Event)
    _full: bool = field(default=False, init=False)
    _written: list[LaneGauges] = field(default_factory=list, init=False)
    _threads: ThreadPool = field(init=False)

    def __post_init__(self) -> None:
        """Make the threads that ask for free space."""
        self._threads = ThreadPool("free space", size=2, hangs_after_s=HANGS_AFTER_S, code="storage_unreachable")

    async def run(self) -> None:
        """Check every two seconds, until cancelled."""
        while True:
            self.heartbeat()
            try:
                await self.look()
            except VidqueueError as error:
                log.warning("lane_health_waits_for_database", error=error.message)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self.closed_changed.wait()
            self.closed_changed.clear()

    async def look(self) -> None:
        """Check once, and write the lanes' rows.

        Raises:
            VidqueueError: `database_unavailable`.
        """
        await self._look_at_disk()
        lost = await _lost_gpus(self.watched)
        wanted = {
            lane.id: "gpu_lost" if lane.gpu_uuid in lost else "no_space" if self._full else self.closed.get(lane.id)
            for lane in self.watched
        }
        async with self.database.statement() as connection:
            changed = await lanes.block(connection, wanted)
        for name, reason in changed.items():
            log.warning("lane_blocked" if reason else "lane_unblocked", lane=name, reason=reason)
        await self._write_gauges()

    async def _write_gauges(self) -> None:
        """Write how busy the GPUs are, for `/metrics` of any daemon on this database; nothing while nothing changes."""
        gauges = [_gauges(lane) for lane in self.watched]
        if gauges != self._written:
            async with self.database.statement() as connection:
                await lanes.write_gauges(connection, gauges)
            self._written = gauges

    async def _look_at_disk(self) -> None:
        """Compare the free space with the mark; what is known of a disk that does not respond stays as it is."""
        is_short = partial(is_short_of_space, low_water_mib=self.low_water_mib, was_short=self._full)
        with contextlib.suppress(VidqueueError):
            self._full = any([await self._threads.run(is_short, folder) for folder in self.folders])


def _gauges(lane: WatchedLane) -> LaneGauges:
    readings = gpus.latest(lane.gpu_uuid) if lane.gpu_uuid else None
    return LaneGauges(lane.id, lane.executor.starts, *(astuple(readings) if readings else ()))


async def _lost_gpus(watched: Sequence[WatchedLane]) -> set[str | None]:
    uuids = [lane.gpu_uuid for lane in watched if lane.gpu_uuid is not None]
    # All at once: several GPUs that hang delay a round no longer than one.
    reached = await asyncio.gather(*map(gpus.answers_in_time, uuids))
    return {uuid for uuid, is_reached in zip(uuids, reached, strict=True) if not is_reached}
