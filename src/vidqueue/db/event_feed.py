"""Event feed: one LISTEN connection that distributes events to bounded queues of many listeners.

A notification is only a hint to read the event log. One task follows the log by number, so a lost notification, a
reconnect or a forged payload adds latency but loses no event.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from types import TracebackType
from typing import Self
from uuid import UUID

import psycopg
import structlog

from vidqueue.db.event_log import EventLog
from vidqueue.db.pool import Connection, Database, listen
from vidqueue.db.tables import events
from vidqueue.db.tables.events import Event
from vidqueue.db.timeouts import hung_up_after
from vidqueue.errors import VidqueueError
from vidqueue.ops.supervise import supervise
from vidqueue.ops.watchdog import Watchdog

POLL_S = 2.0
READ_S = 10.0
# Notifications within this time are handled together; the first one after a pause does not wait. Without a listener the
# daemon only learns that there is work for a lane, and a lane at work is given its next job without that. The kinds
# that the notifications tell are enough for that, so the log is read less often.
GATHER_S = 0.005
GATHER_UNHEARD_S = 0.02
READ_UNHEARD_S = 0.1
PAGE = 500

log = structlog.get_logger(__name__)


class Subscription:
    """A bounded queue of events for one listener. It is closed with `overflowed` set if the listener is too slow."""

    def __init__(self, *, owner: str | None, size: int) -> None:
        self._owner = owner
        self._size = size
        self._events: deque[Event] = deque()
        self._waiting: asyncio.Future[None] | None = None
        self._waits_until = float("inf")
        self._timer: asyncio.TimerHandle | None = None
        self.overflowed = False
        self.closed = False

    async def next(self) -> Event | None:
        """Return the next event, or None when the feed has closed or events were dropped (`overflowed`)."""
        await self._wait(None)
        return self._events.popleft() if self._events else None

    async def next_many(self, within_s: float | None = None) -> list[Event]:
        """Return all queued events: none after `within_s` without one, and none once `closed`."""
        await self._wait(within_s)
        found = list(self._events)
        self._events.clear()
        return found

    def offer(self, event: Event) -> None:
        """Queue an event if its owner is the one of this subscription."""
        if self.closed or not (self._owner is None or event.job_id is None or self._owner == event.owner):
            return
        if len(self._events) >= self._size:
            self.overflowed = True
            self.close()
            return
        self._events.append(event)
        self._wake()

    def close(self) -> None:
        """End the queue after the events that it has."""
        self.closed = True
        self._wake()
        if self._timer is not None:
            self._timer.cancel()

    async def _wait(self, within_s: float | None) -> None:
        if self._events or self.closed:
            return
        loop = asyncio.get_running_loop()
        self._waiting = loop.create_future()
        if within_s is not None:
            # A timer goes on from one wait to the next: a new one for each would cost much of what an event costs.
            self._waits_until = loop.time() + within_s
            if self._timer is None:
                self._timer = loop.call_at(self._waits_until, self._end_wait)
        try:
            await self._waiting
        finally:
            self._waiting, self._waits_until = None, float("inf")

    def _end_wait(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        if loop.time() >= self._waits_until:
            self._wake()
        elif self._waits_until < float("inf"):
            self._timer = loop.call_at(self._waits_until, self._end_wait)

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)


class EventFeed:
    """Follows the event log inside an `async with` block and queues each event for every listener.

    Attributes:
        log: reads past events.
    """

    def __init__(self, database: Database, watchdog: Watchdog | None = None) -> None:
        self._database = database
        self._heartbeat = (watchdog or Watchdog()).register("event_feed")
        # By job; those of all jobs under None.
        self._subscriptions: dict[UUID | None, set[Subscription]] = {}
        self._wakers: dict[asyncio.Event, frozenset[str]] = {}
        self._position: int | None = None
        self._heard_at = float("-inf")
        self.log = EventLog(database.url, query_timeout_s=database.query_timeout_s)

    async def __aenter__(self) -> Self:
        await self.log.__aenter__()
        async with self._database.transaction() as connection:
            self._position = await events.latest(connection)
        self._follower = supervise(self._follow, "event_feed")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._follower.cancel()
        await asyncio.gather(self._follower, return_exceptions=True)
        for subscription in chain.from_iterable(self._subscriptions.values()):
            subscription.close()
        await self.log.__aexit__(kind, error, trace)

    @property
    def position(self) -> int:
        """Number of the newest event that was distributed."""
        return self._position or 0

    @contextmanager
    def subscribe(
        self, *, job_id: UUID | None = None, owner: str | None = None, size: int = 1000
    ) -> Iterator[Subscription]:
        """Subscribe to events from now on, of one job or one owner if given."""
        subscription = Subscription(owner=owner, size=size)
        alike = self._subscriptions.setdefault(job_id, set())
        alike.add(subscription)
        try:
            yield subscription
        finally:
            subscription.close()
            alike.discard(subscription)
            if not alike:
                del self._subscriptions[job_id]

    @contextmanager
    def wakes_on(self, kinds: frozenset[str], waker: asyncio.Event | None = None) -> Iterator[asyncio.Event]:
        """Yield a flag that is set at each event of one of these kinds; the waiter clears it. Others may set it too."""
        waker = waker or asyncio.Event()
        self._wakers[waker] = kinds
        try:
            yield waker
        finally:
            del self._wakers[waker]

    async def _follow(self) -> None:
        while True:
            self._heartbeat()
            try:
                async with await listen(self._database.url, "vidqueue") as connection:
                    await self._relay(connection)
            except (psycopg.OperationalError, VidqueueError, TimeoutError) as error:
                log.warning("event_feed_reconnecting", error=str(error))
                await asyncio.sleep(0.5)

    async def _relay(self, connection: Connection) -> None:
        """Read new events after notifications, and after each poll interval, on the listening connection."""
        while True:
            with hung_up_after(READ_S, connection):
                await self._catch_up(connection)
            read_at = time.monotonic()
            due = read_at + POLL_S
            while await self._notified(connection, due - time.monotonic()) and not self._subscriptions:
                due = read_at + READ_UNHEARD_S

    async def _notified(self, connection: Connection, timeout_s: float) -> bool:
        """Wait for notifications and, if nobody reads events, set the flags of their kinds; False after the timeout."""
        if timeout_s <= 0:
            return False
        kinds = {one.payload async for one in connection.notifies(timeout=timeout_s, stop_after=1)}
        if not kinds:
            return False
        gather_s = GATHER_S if self._subscriptions else GATHER_UNHEARD_S
        await asyncio.sleep(max(0.0, self._heard_at + gather_s - time.monotonic()))
        kinds.update([one.payload async for one in connection.notifies(timeout=0)])
        self._heard_at = time.monotonic()
        if not self._subscriptions:
            self._wake(kinds)
        return True

    async def _catch_up(self, connection: Connection) -> None:
        assert self._position is not None
        while True:
            self._heartbeat()
            found = await (self._distribute_events if self._subscriptions else self._wake_by_kind)(connection)
            if found < PAGE:
                return

    async def _distribute_events(self, connection: Connection) -> int:
        assert self._position is not None
        page = await events.after(connection, self._position, limit=PAGE)
        for event in page:
            self._distribute(event)
            self._position = event.number
        return len(page)

    async def _wake_by_kind(self, connection: Connection) -> int:
        """Set flags by the kinds of new events, without reading the events: there are no subscriptions."""
        assert self._position is not None
        summary = await events.kinds_after(connection, self._position, limit=PAGE)
        self._wake(summary.kinds)
        self._position = summary.latest
        return summary.count

    def _distribute(self, event: Event) -> None:
        for job_id in {event.job_id, None}:
            for subscription in self._subscriptions.get(job_id, ()):
                subscription.offer(event)
        self._wake([event.kind])

    def _wake(self, kinds: Iterable[str]) -> None:
        for waker, wanted in self._wakers.items():
            if not wanted.isdisjoint(kinds):
                waker.set()
