"""The connection pool, and the stable codes that its errors mean.

A transaction is bounded in time: libpq has no read timeout, and a frozen backend must not freeze the daemon.
"""

from __future__ import annotations

import asyncio
import select
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeAlias, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from vidqueue.db import queries
from vidqueue.db.server_check import ServerCheck
from vidqueue.db.timeouts import SilentError, hung_up_after
from vidqueue.errors import VidqueueError

Connection: TypeAlias = psycopg.AsyncConnection[DictRow]
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

# Temporary errors; a managed server turns read-only while it is full.
_TEMPORARY = (psycopg.errors.IdleInTransactionSessionTimeout, psycopg.errors.ReadOnlySqlTransaction)
AWAY = (PoolTimeout, psycopg.OperationalError, *_TEMPORARY)
# The server is well, and one statement is not: it took too long, or waited too long for a lock.
_TOO_SLOW = (psycopg.errors.QueryCanceled, psycopg.errors.LockNotAvailable)
# The server is well, and the values of one statement are beyond what it can store or work on (class 54 of SQLSTATE).
# psycopg counts them among the errors of a connection.
BEYOND_LIMITS = (
    psycopg.errors.ProgramLimitExceeded,
    psycopg.errors.StatementTooComplex,
    psycopg.errors.TooManyColumns,
    psycopg.errors.TooManyArguments,
)
# Two transactions conflicted, and the server ended one of them.
_CONFLICT = (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure)
# The statement timeout as a share of the transaction's, so that the server cancels a statement before the client closes
# the connection.
STATEMENT_SHARE = 0.9


# Methods of the planner that read more than the rows that are looked up.
_NOT_BY_INDEX = ("seqscan", "bitmapscan", "hashjoin", "mergejoin")


class EventLoopConnection(psycopg.AsyncConnection[DictRow]):
    """A psycopg connection that waits on the event loop until its socket is readable or its timeout expires."""

    async def wait(  # the signature is psycopg's
        self,
        gen: PQGen[T],
        interval: float = WAIT_S,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> T:
        """Run one exchange with the server until it is complete."""
        return await super().wait(gen, interval=interval, timeout=timeout)


class Pool(AsyncConnectionPool[Connection]):
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
    async def connection(self, timeout: float | None = None) -> AsyncIterator[Connection]:  # noqa: ASYNC109 - the signature of psycopg_pool
        """Yield a connection for one transaction; if that takes too long, close it and replace the idle connections.

        Raises:
            PoolTimeout: none could be had within `timeout` seconds.
            psycopg.OperationalError: the server was lost, or silent for too long.
        """
        try:
            with hung_up_after(self._query_timeout_s) as holds:
                async with super().connection(timeout) as connection:
                    holds(connection)
                    yield connection
        except SilentError:
            await self.drain()
            raise

    async def getconn(self, timeout: float | None = None) -> Connection:  # noqa: ASYNC109 - the signature of psycopg_pool
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

    async def _given_or_cancelled(self, timeout_s: float) -> Connection:
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

    async def reconnect_failed(self) -> None:
        """Try to connect again while callers wait; psycopg would only do so for the next caller."""
        if self._waiting:
            self._maybe_grow_pool()


class Database:
    """A pool of connections, open for the time of an `async with`.

    With `keep_plans` the statements stay prepared with one plan each: for the few that every job needs, which must not
    be planned anew. Others are better off with a plan for the values at hand. With `by_index` the plans read tables by
    their indexes only: a kept plan that was made while a table was nearly empty would read all of it when it has grown.
    """

    def __init__(
        self,
        url: str,
        *,
        pool_size: int = 8,
        query_timeout_s: float = 10,
        keep_plans: bool = False,
        by_index: bool = False,
    ) -> None:
        self.url = url
        self.query_timeout_s = query_timeout_s
        # Set when the process exits: whoever waits for the database stops waiting.
        self.abandoned = False
        self.pool = Pool(
            url,
            query_timeout_s=query_timeout_s,
            keep_plans=keep_plans,
            by_index=by_index,
            min_size=2,
            max_size=pool_size,
            # Short, so that a request is answered with 503 while the database is away.
            timeout=1.5,
        )
        self._server = ServerCheck(url, CONNECT_OPTIONS)

    async def __aenter__(self) -> Self:
        await self.pool.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.pool.close()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """One transaction: committed at the end of the block, rolled back when it raises.

        Raises:
            VidqueueError: `database_unavailable`, `overloaded`, `query_timeout`, or the code that the database raised.
        """
        async with self.statement() as connection, connection.transaction():
            yield connection

    @asynccontextmanager
    async def statement(self) -> AsyncIterator[Connection]:
        """A connection on which each statement is a transaction of its own; for a block that runs just one.

        Raises:
            VidqueueError: as `transaction`.
        """
        try:
            async with self.pool.connection() as connection:
                yield connection
        except BEYOND_LIMITS:
            raise  # a fault of ours, not of the connection
        except _TOO_SLOW as error:
            raise VidqueueError("query_timeout", f"The database did not finish in time: {error}") from error
        except _CONFLICT as error:
            raise VidqueueError("overloaded", f"Another transaction was in the way: {error}") from error
        except (PoolTimeout, SilentError) as error:
            raise await self._refusal(error) from error
        except AWAY as error:
            raise VidqueueError("database_unavailable", f"The database does not answer: {error}") from error
        except psycopg.DatabaseError as error:
            if translated := _raised_by_schema(error):
                raise translated from None
            raise

    async def _refusal(self, error: PoolTimeout | SilentError) -> VidqueueError:
        """Return the error for a caller without a connection or an answer; the server may be healthy all the same."""
        if not await self._server.answers():
            return VidqueueError("database_unavailable", f"The database does not answer: {error}")
        if isinstance(error, PoolTimeout):
            return VidqueueError("overloaded", "Every connection to the database is in use.")
        return VidqueueError("query_timeout", f"The database did not finish in time: {error}")


async def _prepare(
    connection: psycopg.AsyncConnection[Any], *, timeout_s: float, keep_plans: bool, by_index: bool
) -> None:
    """Configure a new session: search path, timeouts, time zone, plans."""
    with hung_up_after(timeout_s, connection):
        await connection.execute(f"SET search_path = {SEARCH_PATH}")
        await connection.execute(f"SET statement_timeout = {int(timeout_s * STATEMENT_SHARE * 1000)}")
        await connection.execute(f"SET idle_in_transaction_session_timeout = {IDLE_IN_TRANSACTION_MS}")
        await connection.execute("SET timezone = 'UTC'")
        if keep_plans:
            await connection.execute("SET plan_cache_mode = force_generic_plan")
        for method in _NOT_BY_INDEX if by_index else ():
            await connection.execute(f"SET enable_{method} = off")


async def rows(connection: Connection, family: str, name: str, /, **values: Any) -> list[DictRow]:
    """Run the named query and return all rows."""
    cursor = await connection.execute(_text(family, name), values)
    return await cursor.fetchall()


async def row(connection: Connection, family: str, name: str, /, **values: Any) -> DictRow | None:
    """Run the named query and return the first row, if there is one."""
    cursor = await connection.execute(_text(family, name), values)
    return await cursor.fetchone()


async def execute(connection: Connection, family: str, name: str, /, **values: Any) -> int:
    """Run the named query and return the number of rows that it affected."""
    cursor = await connection.execute(_text(family, name), values)
    return cursor.rowcount


async def listen(url: str, channel: str) -> Connection:
    """Open a connection outside the pool that listens on `channel`."""
    connection = await EventLoopConnection.connect(url, autocommit=True, row_factory=dict_row, **CONNECT_OPTIONS)
    async with asyncio.timeout(5):
        await connection.execute(f'LISTEN "{channel}"')
    return connection


def _hung_up(connection: Connection) -> bool:
    """True if an idle connection has something to read, which means that the server has closed it."""
    poller = select.poll()
    poller.register(connection.fileno(), select.POLLIN | select.POLLHUP)
    return bool(poller.poll(0))


def _text(family: str, name: str) -> str:
    return queries.load(family)[name]


def _raised_by_schema(error: psycopg.DatabaseError) -> VidqueueError | None:
    if not (error.sqlstate or "").startswith("VQ"):
        return None
    code, _, message = (error.diag.message_primary or "").partition(": ")
    detail = error.diag.message_detail or ""
    retry_after_s = int(detail) if code == "limit_reached" and detail.isdecimal() else None
    return VidqueueError(code, message, hint=error.diag.message_hint, retry_after_s=retry_after_s)
