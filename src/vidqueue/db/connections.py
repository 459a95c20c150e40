"""Connections to PostgreSQL and their pool.

A transaction is bounded in time: libpq has no read timeout, and a frozen backend must not freeze the daemon.
"""

from __future__ import annotations

import asyncio
import select
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool

from vidqueue.db.timeouts import SilentError, hung_up_after

T = TypeVar("T")

# procrastinate's functions name their tables without a schema.
SEARCH_PATH = "procrastinate, public"
RECONNECT_S = 0.5  # after a failed attempt to connect the second is made, and a new pair begun
# Limit for a session inside a transaction: it may hold the lock of the event log, and would block every writer.
IDLE_IN_TRANSACTION_MS = 3000
CONNECT_OPTIONS: dict[str, Any] = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
    "application_name": "vidqueue",
}
# psycopg wakes up ten times a second to notice Ctrl-C. The event loop handles signals already, and an idle listener
# would cause ten wake-ups a second.
WAIT_S = 3600.0
# The statement timeout as a share of the transaction's, so that the server cancels a statement before the client closes
# the connection.
STATEMENT_SHARE = 0.9
# Methods of the planner that read more than the rows that are looked up.
_NOT_BY_INDEX = ("seqscan", "bitmapscan", "hashjoin", "mergejoin")


class EventLoopConnection(psycopg.AsyncConnection[DictRow]):
    """A psycopg connection that waits on the event loop until its socket is readable or its timeout expires.

    Attributes:
        cursors: the cursors of queries by their text and row factory, if they are kept. One that runs its query again
            knows how to load each column, which a new one finds out.
    """

    cursors: dict[tuple[str, object], psycopg.AsyncCursor[Any]] | None = None

    async def wait(  # the signature is psycopg's
        self,
        gen: PQGen[T],
        interval: float = WAIT_S,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> T:
        """Run one exchange with the server until it is complete."""
        return await super().wait(gen, interval=interval, timeout=timeout)


class Pool(AsyncConnectionPool[EventLoopConnection]):
    """psycopg's pool, faster after a restart of the server, and with timeouts for a frozen server.

    Its own `check` costs a round trip at each checkout and waits a second or more after each dead connection, so that
    a pool full of them times out. Here a dead connection is seen without asking the server, and the next one is taken
    at once. A server that is away is asked twice a second while anybody waits, not at growing distances.
    """

    def __init__(
        self, url: str, *, query_timeout_s: float, keep_plans: bool = False, by_index: bool = False, **options: Any
    ) -> None:
        # Autocommit, so that a single statement costs one round trip and not three.
        kwargs = {**CONNECT_OPTIONS, "row_factory": dict_row, "autocommit": True}
        super().__init__(
            url,
            # Prepared at its first execution, a statement is planned once in the life of a connection.
            kwargs=kwargs | {"prepare_threshold": 0} if keep_plans else kwargs,
            connection_class=EventLoopConnection,
            reconnect_timeout=RECONNECT_S,
            configure=partial(_prepare, timeout_s=query_timeout_s, keep_plans=keep_plans, by_index=by_index),
            open=False,
            **options,
        )
        self._query_timeout_s = query_timeout_s

    @asynccontextmanager
    async def connection(self, timeout: float | None = None) -> AsyncIterator[EventLoopConnection]:  # noqa: ASYNC109 - the signature of psycopg_pool
        """Yield a connection for one transaction; if that takes too long, close it and replace the idle connections.

        Raises:
            PoolTimeout: none could be had within `timeout` seconds.
            psycopg.OperationalError: the server was lost, or silent for too long.
        """
        try:
            with hung_up_after(self._query_timeout_s) as holds:
                connection = await self.getconn(timeout)
                try:
                    holds(connection)
                    yield connection
                finally:
                    # There is nothing to commit (autocommit), which psycopg's own would do here. What a caller has
                    # left open is rolled back.
                    await self.putconn(connection)
        except SilentError:
            await self.drain()
            raise

    async def getconn(self, timeout: float | None = None) -> EventLoopConnection:  # noqa: ASYNC109 - the signature of psycopg_pool
        """Return a connection that the server has not closed.

        Raises:
            PoolTimeout: none could be had within `timeout` seconds.
        """
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        while True:
            connection = await self._given_or_cancelled(max(0.001, deadline - time.monotonic()))
            if not _hung_up(connection):
                return connection
            await connection.close()
            await self.putconn(connection)

    async def _given_or_cancelled(self, timeout_s: float) -> EventLoopConnection:
        """Get a connection from the pool without losing a cancellation that arrives at the same moment.

        The pool waits with asyncio.wait_for, and Python 3.11's returns the result then. A guard that was told to end
        would go on for ever, and its lane with it.
        """
        task = asyncio.current_task()
        asked_before = task.cancelling() if task else 0
        connection = await super().getconn(timeout_s)
        if task and task.cancelling() > asked_before:
            await self.putconn(connection)
            raise asyncio.CancelledError
        return connection

    async def _get_ready_connection(self, timeout: float | None) -> EventLoopConnection | None:  # noqa: ASYNC109 - the signature of psycopg_pool
        """Take the connection that was used last: what its session keeps is in the caches of a CPU."""
        self._pool.rotate(1)
        return await super()._get_ready_connection(timeout)

    async def reconnect_failed(self) -> None:
        """Try to connect again while callers wait; psycopg would only do so for the next caller."""
        if self._waiting:
            self._maybe_grow_pool()


async def _prepare(
    connection: psycopg.AsyncConnection[Any], *, timeout_s: float, keep_plans: bool, by_index: bool
) -> None:
    """Configure a new session: search path, timeouts, time zone, plans and cursors."""
    with hung_up_after(timeout_s, connection):
        await connection.execute(f"SET search_path = {SEARCH_PATH}")
        await connection.execute(f"SET statement_timeout = {int(timeout_s * STATEMENT_SHARE * 1000)}")
        await connection.execute(f"SET idle_in_transaction_session_timeout = {IDLE_IN_TRANSACTION_MS}")
        await connection.execute("SET timezone = 'UTC'")
        # To compile a statement takes 100 ms and more. PostgreSQL before 18 would compile each one that must use a
        # method which is off, because it makes that method seem to cost ten billion.
        await connection.execute("SET jit = off")
        if keep_plans and isinstance(connection, EventLoopConnection):
            await connection.execute("SET plan_cache_mode = force_generic_plan")
            connection.cursors = {}
        for method in _NOT_BY_INDEX if by_index else ():
            await connection.execute(f"SET enable_{method} = off")


def _hung_up(connection: EventLoopConnection) -> bool:
    """True if an idle connection has something to read, which means that the server has closed it."""
    poller = select.poll()
    poller.register(connection.fileno(), select.POLLIN | select.POLLHUP)
    return bool(poller.poll(0))
