"""Transactions and named queries on a pool of connections, and the stable codes that their errors mean."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import cache
from types import TracebackType
from typing import Any, Self, TypeAlias, TypeVar

import psycopg
from psycopg.rows import AsyncRowFactory, DictRow, args_row, dict_row
from psycopg_pool import PoolTimeout

from vidqueue.db import queries
from vidqueue.db.connections import CONNECT_OPTIONS, EventLoopConnection, Pool
from vidqueue.db.server_check import ServerCheck
from vidqueue.db.timeouts import SilentError
from vidqueue.errors import VidqueueError

Connection: TypeAlias = psycopg.AsyncConnection[DictRow]
T = TypeVar("T")

# Temporary errors; a managed server turns read-only while it is full.
_TEMPORARY = (psycopg.errors.IdleInTransactionSessionTimeout, psycopg.errors.ReadOnlySqlTransaction)
AWAY = (PoolTimeout, psycopg.OperationalError, *_TEMPORARY)
# The server is well, and one statement is not: it took too long, or waited too long for a lock.
_TOO_SLOW = (psycopg.errors.QueryCanceled, psycopg.errors.LockNotAvailable)
# The server is well, and the values of one statement are beyond what it can store or work on (class 54 of SQLSTATE).
# psycopg counts them among the errors of a connection.
_BEYOND_LIMITS = (
    psycopg.errors.ProgramLimitExceeded,
    psycopg.errors.StatementTooComplex,
    psycopg.errors.TooManyColumns,
    psycopg.errors.TooManyArguments,
)
# Two transactions conflicted, and the server ended one of them.
_CONFLICT = (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure)


def is_of_one_statement(error: psycopg.DatabaseError) -> bool:
    """True if the server refused the values of a statement; False if the server or the connection failed."""
    return not isinstance(error, psycopg.OperationalError) or isinstance(error, _BEYOND_LIMITS)


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
        except _BEYOND_LIMITS:
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


async def rows(connection: Connection, family: str, name: str, /, **values: Any) -> list[DictRow]:
    """Run the named query and return all rows."""
    return await (await _execute(dict_row, connection, family, name, values)).fetchall()


async def rows_as(make: Callable[..., T], connection: Connection, family: str, name: str, /, **values: Any) -> list[T]:
    """Run the named query and return `make(*columns)` for each row."""
    return await (await _execute(_factory_of(make), connection, family, name, values)).fetchall()


async def row(connection: Connection, family: str, name: str, /, **values: Any) -> DictRow | None:
    """Run the named query and return the first row, if there is one."""
    return await (await _execute(dict_row, connection, family, name, values)).fetchone()


async def execute(connection: Connection, family: str, name: str, /, **values: Any) -> int:
    """Run the named query and return the number of rows that it affected."""
    return (await _execute(dict_row, connection, family, name, values)).rowcount


async def _execute(
    factory: AsyncRowFactory[T], connection: Connection, family: str, name: str, values: dict[str, Any]
) -> psycopg.AsyncCursor[T]:
    text = queries.load(family)[name]
    kept = connection.cursors if isinstance(connection, EventLoopConnection) else None
    if kept is None:
        return await connection.cursor(row_factory=factory).execute(text, values)
    cursor = kept.get((text, factory)) or kept.setdefault((text, factory), connection.cursor(row_factory=factory))
    return await cursor.execute(text, values)


_factory_of = cache(args_row)


async def listen(url: str, channel: str) -> Connection:
    """Open a connection outside the pool that listens on `channel`."""
    connection = await EventLoopConnection.connect(url, autocommit=True, row_factory=dict_row, **CONNECT_OPTIONS)
    async with asyncio.timeout(5):
        await connection.execute(f'LISTEN "{channel}"')
    return connection


def _raised_by_schema(error: psycopg.DatabaseError) -> VidqueueError | None:
    if not (error.sqlstate or "").startswith("VQ"):
        return None
    code, _, message = (error.diag.message_primary or "").partition(": ")
    detail = error.diag.message_detail or ""
    retry_after_s = int(detail) if code == "limit_reached" and detail.isdecimal() else None
    return VidqueueError(code, message, hint=error.diag.message_hint, retry_after_s=retry_after_s)
