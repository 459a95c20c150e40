"""LISTEN turned into bounded queues for many listeners. A notification is only a hint to re-read the event log.

One task follows the log by number, so that a lost notification, a reconnect or a forged payload costs latency and
never an event.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
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
# Many notifications in a short time are answered by one read; the first one after a pause does not wait.
GATHER_S = 0.005
PAGE = 500

log = structlog.get_logger(__name__)


class Subscription:
    """A bounded queue of events for one listener; a listener that is too slow is told so and re-reads the log."""

    def __init__(self, *, job_id: UUID | None, owner: str | None, size: int) -> None:
        self._job_id = job_id
        self._owner = owner
        self._queue: asyncio.Queue[Event | None] = asyncio.Queue(size)
        self.overflowed = False

    async def next(self) -> Event | None:
        """The next event, or None when the feed closes or events were dropped (`overflowed`)."""
        return await self._queue.get()

    async def next_many(self) -> list[Event]:
        """All events that wait, at least one; empty when the feed closes or events were dropped (`overflowed`)."""
        found = [] if (first := await self._queue.get()) is None else [first]
        while found and not self._queue.empty():
            event = self._queue.get_nowait()
            if event is None:
                # Put back for the next call, which then returns nothing.
                self._queue.put_nowait(None)
                break
            found.append(event)
        return found

    def offer(self, event: Event) -> None:
        """Queue an event if it is one this listener wants."""
        if self.overflowed or not self._wants(event):
            return
        try:
            self._queue.put_nowait(event)
        except asyncio.QueueFull:
            self.overflowed = True
            self.close()

    def close(self) -> None:
        """Wake the listener with None after what is queued already, dropping the oldest if there is no room."""
        if self._queue.full():
            self._queue.get_nowait()
        self._queue.put_nowait(None)

    def _wants(self, event: Event) -> bool:
        return self._job_id in (None, event.job_id) and self._owner in (None, event.owner)


class EventFeed:
    """Follows the event log for the time of an `async with` and hands each event to every listener.

    Attributes:
        log: what listeners read of the past.
    """

    def __init__(self, database: Database, watchdog: Watchdog | None = None) -> None:
        self._database = database
        self._beat = (watchdog or Watchdog()).register("event_feed")
        self._subscriptions: set[Subscription] = set()
        self._alarms: dict[asyncio.Event, frozenset[str]] = {}
        self._position: int | None = None
        self._read_at = float("-inf")
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
        for subscription in self._subscriptions:
            subscription.close()
        await self.log.__aexit__(kind, error, trace)

    @contextmanager
    def subscribe(
        self, *, job_id: UUID | None = None, owner: str | None = None, size: int = 1000
    ) -> Iterator[Subscription]:
        """Listen to the events from now on, of one job or one owner if given."""
        subscription = Subscription(job_id=job_id, owner=owner, size=size)
        self._subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)

    @contextmanager
    def wakes_on(self, kinds: frozenset[str], alarm: asyncio.Event | None = None) -> Iterator[asyncio.Event]:
        """A flag that is set at each event of one of these kinds; the waiter clears it, and others may set it too."""
        alarm = alarm or asyncio.Event()
        self._alarms[alarm] = kinds
        try:
            yield alarm
        finally:
            del self._alarms[alarm]

    async def _follow(self) -> None:
        while True:
            self._beat()
            try:
                async with await listen(self._database.url, "vidqueue") as connection:
                    await self._relay(connection)
            except (psycopg.OperationalError, VidqueueError, TimeoutError) as error:
                log.warning("event_feed_reconnects", error=str(error))
                await asyncio.sleep(0.5)

    async def _relay(self, connection: Connection) -> None:
        """Read on at each notification, and once a poll interval without one; both on the connection that listens."""
        while True:
            with hung_up_after(READ_S, connection):
                await self._catch_up(connection)
            # However many notifications wait, they are one reason to read.
            async for _ in connection.notifies(timeout=POLL_S, stop_after=1):
                pass
            await asyncio.sleep(max(0.0, self._read_at + GATHER_S - time.monotonic()))
            async for _ in connection.notifies(timeout=0):
                pass

    async def _catch_up(self, connection: Connection) -> None:
        assert self._position is not None
        while True:
            self._beat()
            found = await (self._tell_events if self._subscriptions else self._wake_by_kind)(connection)
            if found:
                self._read_at = time.monotonic()
            if found < PAGE:
                return

    async def _tell_events(self, connection: Connection) -> int:
        assert self._position is not None
        page = await events.after(connection, self._position, limit=PAGE)
        for event in page:
            self._tell(event)
            self._position = event.number
        return len(page)

    async def _wake_by_kind(self, connection: Connection) -> int:
        """Without subscriptions only the kinds of the events matter."""
        assert self._position is not None
        summary = await events.kinds_after(connection, self._position, limit=PAGE)
        for alarm, kinds in self._alarms.items():
            if not kinds.isdisjoint(summary.kinds):
                alarm.set()
        self._position = summary.latest
        return summary.count

    def _tell(self, event: Event) -> None:
        for subscription in tuple(self._subscriptions):
            subscription.offer(event)
        for alarm, kinds in self._alarms.items():
            if event.kind in kinds:
                alarm.set()
