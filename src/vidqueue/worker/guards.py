"""Guards: suspend an attempt, or end it early, for a cancel, a lost lease, a drain, its wall time, or a stall.

One `Guards` serves all lanes of a daemon, so that one statement renews the leases of all of them; each attempt has a
`Guard`, whose future is the first reason that came.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Self

import structlog

from vidqueue.db.event_feed import EventFeed
from vidqueue.db.pool import Database
from vidqueue.db.tables import attempts
from vidqueue.db.tables.attempts import Wanted
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
# Events after which a running attempt may have to be canceled, suspended or resumed.
REQUEST_EVENTS = frozenset({"cancel_requested", "suspended", "resumed"})

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
    """Ends one attempt early. The future `ended` gets the outcome for the first reason that occurs.

    Its timers follow the clock of the attempt (`now`), which stands still while the attempt is suspended.

    Attributes:
        suspended: whether the suspension of the attempt was requested.
        suspend_changed: set when `suspended` has changed.
        on_suspend: called then.
    """

    def __init__(self, ref: AttemptRef) -> None:
        self.ref = ref
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[Outcome | Lost] = self._loop.create_future()
        self.suspended = False
        self.suspend_changed = asyncio.Event()
        self.on_suspend: Callable[[], None] | None = None
        self._suspended_at = 0.0
        self._stood_still_s = 0.0
        self._due: dict[str, tuple[float, Callable[[], None]]] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def end(self, outcome: Outcome | Lost) -> None:
        """End the attempt, unless another reason came first."""
        if not self.ended.done():
            self.ended.set_result(outcome)

    def now(self) -> float:
        """Return the time of the attempt's own clock, in seconds."""
        return (self._suspended_at if self.suspended else self._loop.time()) - self._stood_still_s

    def suspend(self, wanted: bool) -> None:
        """Stop the clock of the attempt, or let it go on; `suspend_changed` wakes the task that stops the processes."""
        if wanted == self.suspended:
            return
        self.stop()
        if wanted:
            self._suspended_at = self._loop.time()
        else:
            self._stood_still_s += self._loop.time() - self._suspended_at
        self.suspended = wanted
        self._start_timers()
        self.suspend_changed.set()
        if self.on_suspend is not None:
            self.on_suspend()

    def watch_wall(self, timeout_s: float) -> None:
        """Let the attempt run for `timeout_s` at most."""
        ran_out = Failed(Failure.of("timed_out", f"The attempt ran longer than {timeout_s:g} s."))
        self._call_at("wall", self.now() + timeout_s, partial(self.end, ran_out))

    def watch_stall(self, reporter: Reporter, stall_timeout_s: float, *, reset_at: float = float("-inf")) -> None:
        """End the attempt after `stall_timeout_s` seconds without progress; replaces an earlier stall timeout.

        A daemon that was stopped itself has received no reports, so the time starts again after such a gap.
        """
        due = max(reporter.heard_at, reset_at) + stall_timeout_s

        def look() -> None:
            late = self.now() - due
            reset = self.now() if late > LONGEST_GAP_S else reset_at
            if max(reporter.heard_at, reset) + stall_timeout_s > self.now():
                self.watch_stall(reporter, stall_timeout_s, reset_at=reset)
            else:
                self.end(Failed(Failure.of("stalled", f"There was no progress for {stall_timeout_s:g} s.")))

        self._call_at("stall", due, look)

    def stop(self) -> None:
        """Stop the timers."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _call_at(self, name: str, due: float, act: Callable[[], None]) -> None:
        self._due[name] = (due, act)
        if (earlier := self._timers.pop(name, None)) is not None:
            earlier.cancel()
        self._start_timers()

    def _start_timers(self) -> None:
        if not self.suspended:
            for name in self._due.keys() - self._timers:
                due, act = self._due[name]
                self._timers[name] = self._loop.call_later(due - self.now(), act)


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
        # One renewal at a time: two that lock the same attempts may wait for each other.
        self._renewing = asyncio.Lock()
        self._recheck_waits = False
        self._request_heard_at = float("-inf")
        self._drained = False

    async def __aenter__(self) -> Self:
        self._tasks = [supervise(self._keep_leases, "leases"), supervise(self._end_for_drain, "drain")]
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
        """Yield the guard of an attempt; its lease is renewed until the attempt has been finished."""
        guard = Guard(ref)
        self._guards.add(guard)
        if cancel_requested:
            guard.end(Canceled())
        if self._drained:
            guard.end(Interrupted("the daemon shut down"))
        if self._request_heard_at > asyncio.get_running_loop().time() - RECENT_S and not self._recheck_waits:
            # The event of a request for this attempt may have arrived before its guard existed.
            self._recheck_waits = True
            self._rechecks.add(recheck := asyncio.create_task(self._recheck(), name="leases-recheck"))
            recheck.add_done_callback(self._rechecks.discard)
        try:
            yield guard
        finally:
            self._guards.discard(guard)
            guard.stop()

    async def _keep_leases(self) -> None:
        """Renew all leases periodically, and at once after a request: the renewal returns the requests."""
        loop = asyncio.get_running_loop()
        with self._event_feed.wakes_on(REQUEST_EVENTS) as asked:
            while True:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._running.lease_s / 3):
                        await asked.wait()
                if asked.is_set():
                    self._request_heard_at = loop.time()
                    asked.clear()
                async with self._renewing:
                    await self._renew()

    async def _recheck(self) -> None:
        """Renew all leases, also for the guards that came while this waited for the renewal before."""
        async with self._renewing:
            self._recheck_waits = False
            await self._renew()

    async def _renew(self) -> None:
        """Renew all leases once; retry while the database is away."""
        while guards := list(self._guards):
            try:
                async with self._database.statement() as connection:
                    refs = [guard.ref for guard in guards]
                    wanted = await attempts.renew(connection, refs, lease_s=self._running.lease_s)
            except VidqueueError as error:
                if self._database.abandoned:
                    for guard in guards:
                        guard.end(Interrupted("the database was away when the daemon shut down"))
                    return
                log.warning("leases_not_renewed", error=error.message)
                await asyncio.sleep(RETRY_S)
                continue
            for guard in guards:
                self._apply_request(guard, wanted.get(guard.ref.fence))
            return

    def _apply_request(self, guard: Guard, wanted: Wanted | None) -> None:
        """Apply a request to an attempt; None means that the attempt no longer belongs to this daemon."""
        if wanted is None:
            guard.end(Lost())
        elif wanted.cancel:
            guard.end(Canceled())
        else:
            guard.suspend(wanted.suspended)
            if wanted.suspended and self._drain.begun.is_set():
                guard.end(Interrupted("the daemon is shutting down"))

    async def _end_for_drain(self) -> None:
        """Give running jobs back when a drain is hurried, or when its time is over; suspended ones at once."""
        await self._drain.begun.wait()
        for guard in self._guards:
            if guard.suspended:
                guard.end(Interrupted("the daemon is shutting down"))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._running.drain_timeout_s):
                await self._drain.hurried.wait()
        self._drained = True
        for guard in list(self._guards):
            guard.end(Interrupted("the daemon shut down"))
        await asyncio.Event().wait()
