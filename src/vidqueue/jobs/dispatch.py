"""Dispatch: give each free lane its next job, in one transaction with the delivery to that lane's queue."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

import structlog

from vidqueue.db.event_feed import EventFeed
from vidqueue.db.pool import Database
from vidqueue.db.tables import attempts
from vidqueue.db.transport import Transport
from vidqueue.errors import VidqueueError
from vidqueue.job import AttemptRef
from vidqueue.ops import failpoints
from vidqueue.ops.watchdog import Heartbeat

TICK_S = 1.0
# After these a lane may be free, or a job may wait that did not before.
WAKING = frozenset({"queued", "interrupted", "succeeded", "failed", "canceled", "updated"})

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Dispatcher:
    """Serves the lanes of one daemon; any number of daemons may do so against one database."""

    database: Database
    transport: Transport
    event_feed: EventFeed
    lease_s: float
    heartbeat: Heartbeat

    async def run(self, lanes: Callable[[], Sequence[UUID]], stopping: asyncio.Event) -> None:
        """Dispatch at every event that may free a lane or ready a job, and once a tick without one.

        `lanes` tells each time which ones may be given work.
        """
        with self.event_feed.wakes_on(WAKING) as wake:
            while not stopping.is_set():
                wake.clear()
                self.heartbeat()
                await self._serve(lanes())
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(TICK_S):
                        await wake.wait()

    async def _serve(self, lanes: Sequence[UUID]) -> None:
        for lane_id in lanes:
            self.heartbeat()
            try:
                await self.dispatch(lane_id)
            except VidqueueError as error:
                log.warning("dispatch_waits_for_database", error=error.message)
                return

    async def dispatch(self, lane_id: UUID) -> AttemptRef | None:
        """Give the best waiting job to a lane; None where it is busy or nothing fits.

        Raises:
            VidqueueError: `database_unavailable`; nothing was dispatched.
        """
        async with self.database.transaction() as connection:
            given = await attempts.dispatch(connection, lane_id, lease_s=self.lease_s)
            if given is None:
                return None
            ref, queue = given
            await self.transport.hand_over(connection, queue, ref)
            await failpoints.reach("dispatch.before_commit")
        await failpoints.reach("dispatch.committed")
        log.info("job_dispatched", job_id=str(ref.job_id), attempt=ref.attempt, queue=queue)
        return ref
