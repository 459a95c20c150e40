"""Tally of attempts: follows the event log, and counts what begins and ends since this process started.

Events rise in commit order, so each attempt is counted once, on whichever machine it ran, and no job waits for it.
"""

from __future__ import annotations

import asyncio

import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram

from vidqueue.db.event_feed import EventFeed
from vidqueue.db.pool import Database
from vidqueue.db.tables import events, metrics
from vidqueue.db.tables.metrics import Move
from vidqueue.errors import VidqueueError

# Events that are read at a time, and the time in which they gather.
PAGE = 1000
GATHER_S = 1.0
# Without a hint the log is read all the same: an event may come while the connection that listens is lost.
POLL_S = 30.0
KINDS = frozenset({"running", "interrupted", "succeeded", "failed", "canceled"})
WAITS = (0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 12 * 3600, 86_400)
RUNS = (0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 3 * 3600, 12 * 3600)

log = structlog.get_logger(__name__)


class Tally:
    """Counters and histograms of attempts, of all lanes on this database."""

    def __init__(self, database: Database, event_feed: EventFeed, registry: CollectorRegistry) -> None:
        self._database = database
        self._event_feed = event_feed
        self._position = event_feed.position
        self._attempts = Counter(
            "vidqueue_attempts", "Attempts that ended.", ["processor", "outcome"], registry=registry
        )
        self._failures = Counter(
            "vidqueue_attempt_failures",
            "Attempts that failed, by error code.",
            ["processor", "code"],
            registry=registry,
        )
        self._waits = Histogram(
            "vidqueue_job_wait_seconds",
            "Time from which a job might run until its first attempt began.",
            ["processor"],
            buckets=WAITS,
            registry=registry,
        )
        self._runs = Histogram(
            "vidqueue_attempt_run_seconds",
            "Time on the lane of attempts that succeeded.",
            ["processor"],
            buckets=RUNS,
            registry=registry,
        )
        self._lanes = Counter(
            "vidqueue_lane_work_seconds",
            "Time on the lane of attempts that ended.",
            ["host", "lane"],
            registry=registry,
        )

    async def follow(self) -> None:
        """Count until cancelled."""
        with self._event_feed.wakes_on(KINDS) as waker:
            while True:
                try:
                    while await self.catch_up():
                        pass
                except VidqueueError as error:
                    log.debug("tally_waits_for_database", error=error.message)
                await asyncio.sleep(GATHER_S)
                try:
                    async with asyncio.timeout(POLL_S):
                        await waker.wait()
                except TimeoutError:
                    continue
                waker.clear()

    async def catch_up(self) -> bool:
        """Count a page of events; True if there may be more.

        Raises:
            VidqueueError: `database_unavailable`; nothing was counted.
        """
        async with self._database.statement() as connection:
            page = await events.kinds_after(connection, self._position, limit=PAGE)
            if not KINDS.isdisjoint(page.kinds):
                for move in await metrics.moves(connection, after=self._position, upto=page.latest):
                    self._count(move)
        self._position = page.latest
        return page.count == PAGE

    def _count(self, move: Move) -> None:
        if move.began:
            # Later attempts have waited before, and that was counted.
            if move.number == 1 and move.waited_s is not None:
                self._waits.labels(move.processor).observe(max(0.0, move.waited_s))
            return
        self._attempts.labels(move.processor, move.outcome).inc()
        if move.outcome == "failed":
            self._failures.labels(move.processor, move.error_code).inc()
        if move.ran_s is not None:
            self._lanes.labels(move.host, move.lane).inc(max(0.0, move.ran_s))
            if move.outcome == "succeeded":
                self._runs.labels(move.processor).observe(max(0.0, move.ran_s))
