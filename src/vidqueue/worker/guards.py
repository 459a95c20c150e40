"""Guards: end an attempt early, for a cancel, a lost lease, a drain, its wall time, or a stall.

One `Guards` serves all lanes of a daemon, so that one statement renews the leases of all of them; each attempt has a
`Guard`, whose future is the first reason that came.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import structlog

from vidqueue.db.event_feed import EventFeed
from vidqueue.db.pool import Database
from vidqueue.db.tables import attempts
from vidqueue.errors import VidqueueError
from vidqueue.job import AttemptRef, Canceled, Failed, Failure, Interrupted, Outcome
from vidqueue.ops.supervise import supervise
from vidqueue.settings.sections import RunningSettings
from vidqueue.worker.reporter import Reporter

# If a timer fires later than this, the whole process was stopped.
LONGEST_GAP_S = 2.0
RETRY_S = 0.5
# Longer than an attempt takes from the statement that opened it to its guard.
RECENT_S = 10.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Lost:
    """The attempt was given to another lane; its outcome is discarded."""


@dataclass(frozen=True, slots=True)
class Drain:
    """Tells a daemon's lanes to drain.

    Attributes:
        begun: set when no new work is taken; running jobs may finish.
        hurried: set when running jobs are given back at once.
    """

    begun: asyncio.Event = field(default_factory=asyncio.Event)
    hurried: asyncio.Event = field(default_factory=asyncio.Event)


class Guard:
    """Ends one attempt early. The future `ended` gets the outcome for the first reason that occurs."""

    def __init__(self, ref: AttemptRef) -> None:
        self.ref = ref
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[Outcome | Lost] = self._loop.create_future()
        self._wall: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None

    def end(self, outcome: Outcome | Lost) -> None:
        """End the attempt, unless another reason came first."""
        if not self.ended.done():
            self.ended.set_result(outcome)

    def watch_wall(self, timeout_s: float) -> None:
        """Let the attempt run for `timeout_s` at most."""
        ran_out = Failed(Failure.of("timed_out", f"The attempt ran longer than {timeout_s:g} s."))
        self._wall = self._loop.call_later(timeout_s, self.end, ran_out)

    def watch_stall(self, reporter: Reporter, stall_timeout_s: float, *, deaf_until: float = float("-inf")) -> None:
        """Let the attempt run for `stall_timeout_s` without a step forward, from now on in place of any earlier bound.

        A daemon that was stopped itself has received no reports, so the time starts again after such a gap.
        """
        due = max(reporter.heard_at, deaf_until) + stall_timeout_s

        def look() -> None:
            late = self._loop.time() - due
            deaf = self._loop.time() if late > LONGEST_GAP_S else deaf_until
            if max(reporter.heard_at, deaf) + stall_timeout_s > self._loop.time():
                self.watch_stall(reporter, stall_timeout_s, deaf_until=deaf)
            else:
                self.end(Failed(Failure.of("stalled", f"There was no progress for {stall_timeout_s:g} s.")))

        if self._stall is not None:
            self._stall.cancel()
        self._stall = self._loop.call_at(due, look)

    def stop(self) -> None:
        """Stop the clocks."""
        for timer in (self._wall, self._stall):
            if timer is not None:
                timer.cancel()


class Guards:
    """Guards the attempts of one daemon's lanes, for the duration of an `async with`.

    While the database is away the work continues, even past the lease: nobody else can take the job without the
    database, and the first renewal after its return tells whether somebody has.
    """

    def __init__(self, database: Database, event_feed: EventFeed, drain: Drain, running: RunningSettings) -> None:
        self._database = database
        self._event_feed = event_feed
        self._drain = drain
        self._running = running
        self._guards: set[Guard] = set()
        self._rechecks: set[asyncio.Task[None]] = set()
        self._cancel_heard_at = float("-inf")
        self._drained = False

    async def __aenter__(self) -> Self:
        self._tasks = [supervise(self._keep_leases, "leases"), supervise(self._heed_drain, "drain")]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        tasks = [*self._tasks, *self._rechecks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @contextmanager
    def over(self, ref: AttemptRef, *, cancel_requested: bool = False) -> Iterator[Guard]:
        """Yield the guard of an attempt; its lease is renewed inside the block, to the end of the finish."""
        guard = Guard(ref)
        self._guards.add(guard)
        if cancel_requested:
            guard.end(Canceled())
        if self._drained:
            guard.end(Interrupted("the daemon shut down"))
        if self._cancel_heard_at > asyncio.get_running_loop().time() - RECENT_S:
            # The event of this attempt's cancel may have arrived before its guard existed.
            self._rechecks.add(recheck := asyncio.create_task(self._renew(), name="leases-recheck"))
            recheck.add_done_callback(self._rechecks.discard)
        try:
            yield guard
        finally:
            self._guards.discard(guard)
            guard.stop()

    async def _keep_leases(self) -> None:
        """Renew all leases periodically, and at once after a cancel event: the renewal returns what is canceled."""
        loop = asyncio.get_running_loop()
        with self._event_feed.wakes_on(frozenset({"cancel_requested"})) as asked:
            while True:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._running.lease_s / 3):
                        await asked.wait()
                if asked.is_set():
                    self._cancel_heard_at = loop.time()
                    asked.clear()
                await self._renew()

    async def _renew(self) -> None:
        """Renew all leases once; retry while the database is away."""
        while guards := list(self._guards):
            try:
                async with self._database.statement() as connection:
                    refs = [guard.ref for guard in guards]
                    canceled = await attempts.renew(connection, refs, lease_s=self._running.lease_s)
            except VidqueueError as error:
                if self._database.abandoned:
                    for guard in guards:
                        guard.end(Interrupted("the database was away when the daemon shut down"))
                    return
                log.warning("leases_not_renewed", error=error.message)
                await asyncio.sleep(RETRY_S)
                continue
            for guard in guards:
                if guard.ref.fence not in canceled:
                    guard.end(Lost())
                elif canceled[guard.ref.fence]:
                    guard.end(Canceled())
            return

    async def _heed_drain(self) -> None:
        """Give running jobs back when a drain is hurried, or when its time is over."""
        await self._drain.begun.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._running.drain_timeout_s):
                await self._drain.hurried.wait()
        self._drained = True
        for guard in list(self._guards):
            guard.end(Interrupted("the daemon shut down"))
        await asyncio.Event().wait()
