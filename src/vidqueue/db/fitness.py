"""Whether a PostgreSQL server can carry the queue: its version, whether it takes writes, whether LISTEN receives."""

from __future__ import annotations

import asyncio

import psycopg

from vidqueue.db.pool import CONNECT_OPTIONS, listen, row

OLDEST_SERVER = 14


class DatabaseUnfitError(Exception):
    """The server cannot serve vidqueue; the message says why and what to do."""


async def require_fit(url: str) -> str:
    """Check that the server can carry the queue, and return its version.

    Raises:
        DatabaseUnfitError: too old, read-only, or behind a pooler that swallows LISTEN.
    """
    try:
        async with asyncio.timeout(20):
            return await _fitness(url)
    except (psycopg.OperationalError, TimeoutError) as error:
        raise DatabaseUnfitError(
            f"The database does not answer: {error}. Check database.url and the server."
        ) from error
    except psycopg.ProgrammingError:
        # Its text holds the address, and the address may hold a password.
        raise DatabaseUnfitError("database.url is no address that PostgreSQL understands.") from None


async def _fitness(url: str) -> str:
    listener = await listen(url, "vidqueue_selftest")
    async with listener, await psycopg.AsyncConnection.connect(url, autocommit=True, **CONNECT_OPTIONS) as speaker:
        facts = await row(listener, "system", "fitness")
        assert facts is not None
        major = facts["version"] // 10_000
        if major < OLDEST_SERVER:
            raise DatabaseUnfitError(f"PostgreSQL {major} is too old; use {OLDEST_SERVER} or newer.")
        if facts["standby"]:
            raise DatabaseUnfitError("This server is a read-only standby; give the address of the primary.")
        await speaker.execute("NOTIFY vidqueue_selftest")
        async for _ in listener.notifies(timeout=3, stop_after=1):
            return str(major)
    raise DatabaseUnfitError(
        "LISTEN receives nothing on this connection. That is what pgbouncer in transaction mode does: "
        "give the server's own address, or a pool in session mode."
    )
