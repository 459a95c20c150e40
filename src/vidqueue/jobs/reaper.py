"""Reaper: gives back the attempts of daemons that are dead or silent, and fails jobs that have passed their deadline.

It acts on proof (this data folder is ours now; the process is gone from this machine) or on an expired lease, never on
how long a job has run. Every daemon runs one; the fence makes any number of them safe.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from uuid import UUID

import structlog

from vidqueue.db.pool import Database
from vidqueue.db.tables import attempts, jobs, lanes
from vidqueue.db.tables.lanes import Suspects
from vidqueue.errors import KINDS, VidqueueError
from vidqueue.job import AttemptRef, Interrupted
from vidqueue.jobs.finish import finish
from vidqueue.ops import failpoints, processes
from vidqueue.ops.watchdog import Heartbeat
from vidqueue.storage.local import Storage

ROUND_S = 1.0
# If rounds are further apart than this, the daemon itself was stopped.
LONGEST_GAP_S = 5.0
# How often a daemon updates its lanes' seen_at, and after how long without that its lanes are marked offline.
SEEN_EVERY_S = 5.0
UNSEEN_S = 30.0
# How long one attempt may delay the others; a later round finds it again.
PATIENCE_S = 30.0

log = structlog.get_logger(__name__)


async def recover(database: Database, storage: Storage, node: UUID) -> int:
    """Give back the open attempts of the last daemon on this data folder, and return how many there were.

    The lock on the folder is ours, so that daemon has ended, and its executors with it (PR_SET_PDEATHSIG): no
    lease has to expire first.
    """
    reason = "the daemon was killed and started again"
    orphans = await give_back(database, storage, node, Interrupted(reason, lost=True))
    await storage.long_threads.run(storage.clear_scratch)
    return orphans


async def give_back(database: Database, storage: Storage, node: UUID, why: Interrupted) -> int:
    """Mark the lanes of a data folder offline and interrupt their open attempts; return how many there were."""
    async with database.transaction() as connection:
        await lanes.node_offline(connection, node)
        open_ = await attempts.open_of_node(connection, node)
    for ref in open_:
        await finish(database, storage, ref, why)
    return len(open_)


@dataclass(slots=True)
class Reaper:
    """Reaps dead attempts: gives back those whose daemon has ended or whose lease has expired, of any daemon.

    An expired lease is ignored while its holder had no chance to renew it. So after a time in which this daemon had no
    database, or stood still itself, or was not there at all, lanes first get time to renew their leases; after a start
    of the server the query gives them one.
    """

    database: Database
    storage: Storage
    node: UUID
    lease_s: float
    heartbeat: Heartbeat

    async def run(self) -> None:
        """Look once a second, until cancelled."""
        # At the start and after an error nothing is known about the time before.
        looked_at, seen_at, judges_from = float("-inf"), float("-inf"), float("-inf")
        while True:
            self.heartbeat()
            await asyncio.sleep(ROUND_S)
            now = _clock()
            if now - looked_at > LONGEST_GAP_S:
                judges_from = now + self.lease_s / 3 + LONGEST_GAP_S
            looked_at = now
            try:
                if now - seen_at >= SEEN_EVERY_S:
                    await self._update_seen_at()
                    seen_at = now
                found = await self._look()
                await self._give_back_lost(neighbours=found.neighbours, leases=found.leases and now >= judges_from)
                if found.deadlines:
                    await self._expire()
            except VidqueueError as error:
                looked_at = float("-inf")
                log.warning("reaper_waits_for_database", error=error.message)

    async def _update_seen_at(self) -> None:
        async with self.database.transaction() as connection:
            await lanes.seen(connection, self.node, processes.own_name())
            await lanes.unseen_offline(connection, patience_s=max(UNSEEN_S, 2 * self.lease_s))

    async def _look(self) -> Suspects:
        """Ask in one statement whether there is anything to do; usually there is not."""
        async with self.database.statement() as connection:
            return await lanes.suspects(connection, processes.machine(), but_of=self.node, lease_s=self.lease_s)

    async def _give_back_lost(self, *, neighbours: bool = True, leases: bool) -> None:
        for ref in await self._of_dead_neighbours() if neighbours else []:
            await self._give_back(ref, "its daemon's process is gone")
        for ref in await self._expired() if leases else []:
            await self._give_back(ref, "its lane stopped renewing the lease")

    async def _give_back(self, ref: AttemptRef, reason: str) -> None:
        log.warning("attempt_given_back", job_id=str(ref.job_id), attempt=ref.attempt, reason=reason)
        self.heartbeat()
        await failpoints.reach("reaper.found")
        try:
            async with asyncio.timeout(PATIENCE_S):
                await finish(self.database, self.storage, ref, Interrupted(reason, lost=True))
        except TimeoutError:
            log.warning("attempt_not_given_back_yet", job_id=str(ref.job_id), attempt=ref.attempt)
            return
        await failpoints.reach("reaper.given_back")

    async def _of_dead_neighbours(self) -> list[AttemptRef]:
        """Return the open attempts of daemons of this machine that are gone, and mark their lanes offline."""
        async with self.database.transaction() as connection:
            neighbours = await lanes.online_on_machine(connection, processes.machine(), but_of=self.node)
            gone = {name for name in neighbours if processes.is_gone(name)}
            for name in gone:
                await lanes.process_offline(connection, name)
            held = await attempts.open_on_machine(connection, processes.machine(), but_of=self.node)
        return [ref for ref, name in held if name in gone or processes.is_gone(name)]

    async def _expired(self) -> list[AttemptRef]:
        async with self.database.transaction() as connection:
            return await attempts.expired(connection, lease_s=self.lease_s)

    async def _expire(self) -> None:
        message = "The job had not begun when its expires_at came."
        while True:
            async with self.database.transaction() as connection:
                expired = await jobs.expire(connection, message=message, hint=KINDS["expired"].hint)
            if not expired:
                return
            log.info("jobs_expired", jobs=[str(job_id) for job_id in expired])


def _clock() -> float:
    """Return CLOCK_BOOTTIME in seconds: it also runs while the machine sleeps, and is never set back."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
