"""Decides when lanes may work: inside their time windows, and while no other program needs the machine.

A lane is closed while its windows are, while a named program runs, or while others keep its GPU busy. `LaneHealth`
writes the reason into the lane's row. An executor that stands idle gives back what it holds: at once where its lane
closes or somebody asks, otherwise after a while.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID

import structlog

from vidqueue.db.event_feed import EventFeed
from vidqueue.db.pool import Database
from vidqueue.db.tables import lane_availability, suspensions
from vidqueue.db.tables.lane_availability import Noted, WantedOfLane
from vidqueue.errors import VidqueueError
from vidqueue.ops import processes, windows
from vidqueue.settings.neighbours import NeighboursSettings
from vidqueue.worker import gpus
from vidqueue.worker.lane import Lane

LOOK_EVERY_S = 1.0
# Requests of users are read after each event, and at this interval in case an event was missed.
READ_EVERY_S = 15.0
# Consecutive samples that are needed to change the busy state, because utilization fluctuates.
LOOKS = 2

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Busy:
    """Whether other programs keep a GPU busy, with hysteresis."""

    is_busy: bool = False
    against: int = 0

    def see(self, busy: bool | None) -> bool:
        """Add a sample; None if the utilization is unknown."""
        self.against = self.against + 1 if busy is not None and busy != self.is_busy else 0
        if self.against >= LOOKS:
            self.is_busy, self.against = not self.is_busy, 0
        return self.is_busy


@dataclass(slots=True)
class LaneAvailability:
    """Opens and closes the lanes of one daemon.

    Attributes:
        closed: the reasons why lanes take no work at present, by their ids.
        changed: set when `closed` has changed.
    """

    database: Database
    event_feed: EventFeed
    lanes: Sequence[Lane]
    neighbours: NeighboursSettings
    closed: dict[UUID, str] = field(default_factory=dict)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    _wanted: dict[UUID, WantedOfLane] = field(default_factory=dict, init=False)
    _read_at: float = field(default=float("-inf"), init=False)
    _busy: dict[UUID, _Busy] = field(default_factory=dict, init=False)
    _noted: dict[UUID, Noted] = field(default_factory=dict, init=False)
    # Attempts that the end of a window has suspended, by lane. A user may have resumed them since.
    _suspended: dict[UUID, set[int]] = field(default_factory=dict, init=False)

    async def run(self) -> None:
        """Check all lanes once a second, and after each request, until cancelled."""
        with self.event_feed.wakes_on(frozenset({"windows", "free_requested"})) as wake:
            while True:
                if wake.is_set():
                    self._read_at = float("-inf")
                    wake.clear()
                try:
                    await self.look()
                except VidqueueError as error:
                    log.warning("lane_availability_waits_for_database", error=error.message)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_EVERY_S):
                        await wake.wait()

    async def look(self) -> None:
        """Check all lanes once, and close, open, suspend or unload them.

        Raises:
            VidqueueError: `database_unavailable`.
        """
        await self._read_requests()
        now = datetime.now(UTC)
        openings = {
            lane.id: windows.look(wanted.windows.open, wanted.windows.zone, now)
            for lane in self.lanes
            if (wanted := self._wanted.get(lane.id))
        }
        program = await self._program()
        seen, closed = dict[UUID, Noted](), dict[UUID, str]()
        for lane in self.lanes:
            opening = openings.get(lane.id, windows.ALWAYS)
            seen[lane.id] = Noted(await self._others_mb(lane), None if opening.is_open else opening.until)
            if reason := self._reason(lane, program, opening):
                closed[lane.id] = reason
        if closed != self.closed:
            self.closed.clear()
            self.closed.update(closed)
            self.changed.set()
        await self._keep_windows(openings)
        await self._write(seen)
        for lane in self.lanes:
            await self._unload(lane)

    async def _read_requests(self) -> None:
        loop = asyncio.get_running_loop()
        if loop.time() - self._read_at >= READ_EVERY_S:
            async with self.database.statement() as connection:
                self._wanted = await lane_availability.wanted(connection, [lane.id for lane in self.lanes])
            self._read_at = loop.time()

    async def _program(self) -> bool:
        """True if one of `neighbours.programs` runs."""
        names = frozenset(self.neighbours.programs)
        if not names or not any(lane.gpu_uuid for lane in self.lanes):
            return False
        return bool(await asyncio.to_thread(processes.running, names))

    async def _others_mb(self, lane: Lane) -> int:
        """Return the MiB that other programs hold of a lane's GPU, by the latest sample."""
        if lane.gpu_uuid is None:
            return 0
        usage = lane.executor.meter.measured
        await gpus.answers_in_time(lane.gpu_uuid)
        others = gpus.others(lane.gpu_uuid)
        # Not if another attempt has begun in the meantime.
        if others is not None and usage is not None and usage is lane.executor.meter.measured:
            usage.device_mb = max(usage.device_mb or 0, others.held_mib(lane.queue)) or None
        if others is None or not self.neighbours.yield_memory:
            return 0
        # If the driver reports memory only for the whole GPU, the value is usable only while the lane holds none.
        known = others.memory_is_exact or not lane.holds
        return others.memory_mib if known else self._noted.get(lane.id, Noted()).others_mb

    def _reason(self, lane: Lane, program: bool, opening: windows.Opening) -> str | None:
        if lane.gpu_uuid is not None:
            if program:
                return "program_runs"
            if self._is_busy(lane, lane.gpu_uuid):
                return "gpu_busy"
        return None if opening.is_open else "outside_window"

    def _is_busy(self, lane: Lane, uuid: str) -> bool:
        busy, others = self._busy.setdefault(lane.id, _Busy()), gpus.others(uuid)
        threshold = self.neighbours.busy_percent
        if threshold == 0 or others is None:
            return busy.see(False)
        known = others.utilization is not None and (others.utilization_is_exact or lane.idle)
        return busy.see((others.utilization or 0) >= threshold if known else None)

    async def _write(self, seen: dict[UUID, Noted]) -> None:
        if seen != self._noted:
            async with self.database.statement() as connection:
                await lane_availability.note(connection, seen)
            self._noted = seen

    async def _keep_windows(self, openings: dict[UUID, windows.Opening]) -> None:
        """Suspend jobs in lanes whose window has ended, if so configured; resume them in the next window."""
        for lane in self.lanes:
            wanted, opening = self._wanted.get(lane.id), openings.get(lane.id)
            if wanted is None or opening is None or lane.idle:
                continue
            known = self._suspended.setdefault(lane.id, set())
            closes = not opening.is_open and wanted.windows.at_end == "suspend"
            if closes:
                async with self.database.statement() as connection:
                    known |= await suspensions.suspend_lane(connection, lane.id, but=known)
            elif known:
                async with self.database.statement() as connection:
                    await suspensions.resume_lane(connection, lane.id)
                known.clear()

    async def _unload(self, lane: Lane) -> None:
        """Stop the executor of an idle lane that should free its memory."""
        wanted = self._wanted.get(lane.id)
        lane.free_wanted = wanted is not None and wanted.free_requested
        asked = lane.free_wanted or lane.id in self.closed
        if not (lane.free_wanted or (lane.holds and asked and self._is_idle_gpu_lane(lane)) or self._stands_long(lane)):
            return
        # Managed servers are stopped after their own `idle_stop_s`.
        if await lane.release(peers=asked):
            lane.warm = []
            async with self.database.statement() as connection:
                await lane_availability.freed(connection, lane.id)
            log.info("lane_freed", lane=lane.name)
            self._read_at = float("-inf")
            lane.free_wanted = False
            lane.came_to_rest.set()

    def _is_idle_gpu_lane(self, lane: Lane) -> bool:
        return lane.gpu_uuid is not None and lane.idle

    def _stands_long(self, lane: Lane) -> bool:
        """True if the executor of an idle lane has been idle for longer than `unload_after_s`."""
        after_s = self.neighbours.unload_after_s
        rested_s = asyncio.get_running_loop().time() - lane.rested_at
        return lane.executor.alive and self._is_idle_gpu_lane(lane) and 0 < after_s <= rested_s
