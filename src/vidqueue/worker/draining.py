"""Draining lanes: their executors are stopped once the running job has ended, so that memory and GPU are free."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from vidqueue.db.event_feed import EventFeed
from vidqueue.db.pool import Database
from vidqueue.db.tables import pauses
from vidqueue.errors import VidqueueError
from vidqueue.worker.lane import Lane

# How often to look for the end of a running job; nothing is asked while no lane drains.
LOOK_EVERY_S = 1.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Draining:
    """Watches for pauses of one daemon's lanes that say `drain`."""

    database: Database
    event_feed: EventFeed
    lanes: Sequence[Lane]

    async def run(self) -> None:
        """Release lanes after each pause, until cancelled."""
        with self.event_feed.wakes_on(frozenset({"paused", "resumed"})) as wake:
            while True:
                wake.clear()
                at_work = await self._release()
                # While a lane is at work its end is looked for; otherwise only a pause makes a difference.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_EVERY_S if at_work else None):
                        await wake.wait()

    async def _release(self) -> bool:
        """Stop the executors of lanes that drain; True if one of them is still at work, or the database is away."""
        try:
            async with self.database.statement() as connection:
                draining = await pauses.draining(connection, [lane.id for lane in self.lanes])
        except VidqueueError as error:
            log.warning("draining_waits_for_database", error=error.message)
            return True
        at_work = False
        for lane in self.lanes:
            if lane.id in draining and lane.holds:
                if await lane.release():
                    log.info("lane_drained", lane=lane.name)
                else:
                    at_work = True
        return at_work
