"""Reads the event log for replays, on a few connections of its own: readers of history delay nobody else's statements.

Readers that want the same page at the same moment, as many do when a daemon has been restarted, share one answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self
from uuid import UUID

from vidqueue.db.pool import Connection, Database
from vidqueue.db.tables import events
from vidqueue.db.tables.events import Event

CONNECTIONS = 3
PAGE = 500

_Wanted = tuple[int, UUID | None, str | None]


class EventLog:
    """Pages of the event log, for the time of an `async with`. Who finds every connection in use waits for his turn."""

    def __init__(self, url: str, *, query_timeout_s: float) -> None:
        self._database = Database(url, pool_size=CONNECTIONS, query_timeout_s=query_timeout_s)
        self._turns = asyncio.Semaphore(CONNECTIONS)
        self._reading: dict[_Wanted, asyncio.Task[list[Event]]] = {}

    async def __aenter__(self) -> Self:
        await self._database.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._reading.values():
            task.cancel()
        await self._database.__aexit__(kind, error, trace)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection for a short question of somebody who follows events.

        Raises:
            VidqueueError: as `Database.statement`.
        """
        async with self._turns, self._database.statement() as connection:
            yield connection

    async def page(self, number: int, *, job_id: UUID | None, owner: str | None) -> list[Event]:
        """Up to PAGE events above `number`, oldest first.

        Raises:
            VidqueueError: as `Database.statement`.
        """
        wanted = (number, job_id, owner)
        task = self._reading.get(wanted)
        if task is None:
            task = self._reading[wanted] = asyncio.create_task(self._read(wanted))
            task.add_done_callback(lambda done: self._forget(wanted, done))
        # One reader who leaves takes the answer from none of the others.
        return await asyncio.shield(task)

    async def _read(self, wanted: _Wanted) -> list[Event]:
        number, job_id, owner = wanted
        async with self.connection() as connection:
            return await events.after(connection, number, job_id=job_id, owner=owner, limit=PAGE)

    def _forget(self, wanted: _Wanted, done: asyncio.Task[list[Event]]) -> None:
        del self._reading[wanted]
        if not done.cancelled():
            # Nobody may be left to see a failure; asyncio would complain.
            done.exception()
