"""Dispatch: gives each idle lane its next job, in one statement with the delivery to that lane's queue."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

import structlog

from vidqueue.db.event_feed import EventFeed
from vidqueue.db.pool import Database
from vidqueue.db.tables import attempts
from vidqueue.db.tables.attempts import Begun
from vidqueue.errors import VidqueueError
from vidqueue.ops import failpoints
from vidqueue.ops.watchdog import Heartbeat

# How often to look for jobs whose run_at has come and for lanes that are rested; everything else is notified.
TICK_S = 1.0
# Events after which a job may be ready that was not before.
WAKING = frozenset({"queued", "interrupted", "succeeded", "failed", "canceled", "updated", "resumed"})
# The one after which lanes take jobs that took none.
OPENING = frozenset({"resumed"})

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Dispatcher:
    """Dispatches to the idle lanes of one daemon; any number of daemons may do so against one database.

    Busy lanes are left out: the statement that ends its attempt gives it the next one. `deliver` gets each attempt and
    the queue of its lane.
    """

    database: Database
    event_feed: EventFeed
    deliver: Callable[[Begun, str], None]
    lease_s: float
    heartbeat: Heartbeat

    async def run(
        self, idle: Callable[[], Sequence[UUID]], came_to_rest: asyncio.Event, stopping: asyncio.Event
    ) -> None:
        """Dispatch after every event that may ready a job, when a lane becomes idle, and once a tick.

        `idle` returns the lanes that may be given work. While they are all paused or blocked, jobs that are submitted
        cost no dispatch.
        """
        closed, asked_at = frozenset[UUID](), float("-inf")
        with self.event_feed.wakes_on(WAKING, came_to_rest) as wake, self.event_feed.wakes_on(OPENING) as opened:
            while not stopping.is_set():
                wake.clear()
                self.heartbeat()
                lanes = idle()
                if opened.is_set() or not closed.issuperset(lanes) or time.monotonic() >= asked_at + TICK_S:
                    opened.clear()
                    asked_at = time.monotonic()
                    closed = frozenset() if await self._serve(lanes) else frozenset(lanes)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(TICK_S):
                        await wake.wait()

    async def _serve(self, lanes: Sequence[UUID]) -> bool:
        """Dispatch to these lanes; False if none of them takes jobs now."""
        if not lanes:
            return True
        try:
            return await self.dispatch(lanes)
        except VidqueueError as error:
            log.warning("dispatch_waits_for_database", error=error.message)
            return True

    async def dispatch(self, lanes: Sequence[UUID]) -> bool:
        """Give the best waiting job to each of these lanes that is free and for which there is one.

        False if none of the lanes takes jobs now.

        Raises:
            VidqueueError: `database_unavailable`; nothing was dispatched, or only the answer to the commit was lost.
        """
        async with self.database.statement() as connection:
            dispatched = await attempts.dispatch(connection, lanes, lease_s=self.lease_s)
        if dispatched.given:
            await failpoints.reach("dispatch.committed")
        for begun, queue in dispatched.given:
            self.deliver(begun, queue)
            log.info("job_dispatched", job_id=str(begun.ref.job_id), attempt=begun.ref.attempt, queue=queue)
        return dispatched.is_open
