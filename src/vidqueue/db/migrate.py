"""Brings a database to the shape this program expects: numbered files, forward only, each in one transaction.

A file that begins with `-- concurrently` builds indexes while others write, one statement after the other. Whatever
breaks it off, the next start goes on with the index that is not whole.

A file that was applied is never edited: its checksum is kept and compared. A database that knows more migrations
than the program is left alone. Any number of daemons may start at once.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

import psycopg
import structlog
from psycopg.rows import tuple_row

from vidqueue.db import transport
from vidqueue.db.fitness import DatabaseUnfitError
from vidqueue.db.pool import CONNECT_OPTIONS, SEARCH_PATH

LOCK = (30321, 2)
LOCK_PATIENCE_S = 120
# A migration that waits for a table makes everyone wait who comes to that table after it, so it waits in short tries,
# and lets them pass in between.
TABLE_LOCK_MS = 500
TRY_AGAIN_AFTER_S = 1.0
CONCURRENTLY = "-- concurrently\n"

log = structlog.get_logger(__name__)

_LEDGER = """
CREATE SCHEMA IF NOT EXISTS vidqueue;
CREATE TABLE IF NOT EXISTS vidqueue.migrations (
    name        text PRIMARY KEY,
    checksum    text NOT NULL,
    applied_at  timestamptz NOT NULL DEFAULT now()
);
"""


class MigrationError(Exception):
    """The database and the program do not fit together; the message says what to do."""


@dataclass(frozen=True)
class Migration:
    """One step: its file name and its text."""

    name: str
    text: str

    @cached_property
    def checksum(self) -> str:
        """sha256 of the text, in hex."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def concurrently(self) -> list[str]:
        """The statements of a file whose statements stand outside a transaction; empty for all other files."""
        if not self.text.startswith(CONCURRENTLY):
            return []
        text = re.sub(r"(?m)^--.*\n", "", self.text)
        return [statement.strip() for statement in text.split(";") if statement.strip()]


@cache
def known() -> tuple[Migration, ...]:
    """Every migration this program carries, in order; procrastinate's own schema comes first. Cached."""
    carried = files("vidqueue").joinpath("_migrations")
    # In a checkout the folder stands beside src/; in a wheel it was put inside the package.
    folder = Path(str(carried)) if carried.is_dir() else Path(__file__).parents[3] / "migrations"
    ours = [Migration(path.stem, path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.sql"))]
    return (Migration(f"0000_procrastinate_{transport.SCHEMA_VERSION}", transport.schema_sql()), *ours)


async def migrate(url: str) -> list[str]:
    """Apply what is missing and return the names that were applied now.

    Programs of the version before may work on meanwhile: a migration only adds.

    Raises:
        MigrationError: an applied file was edited, the database is newer than this program, or it is locked.
    """
    steps = known()
    async with await _connect(url) as connection, _only_one(connection):
        await connection.execute(_LEDGER)
        missing = _missing(steps, await _applied(connection))
        for step in missing:
            await _apply(connection, step)
    return [step.name for step in missing]


async def pending(url: str) -> list[str]:
    """Names of the migrations that `migrate` would apply.

    Raises:
        MigrationError: an applied file was edited, or the database is newer than this program.
    """
    async with await _connect(url) as connection:
        return await pending_on(connection)


async def pending_on(connection: psycopg.AsyncConnection[Any]) -> list[str]:
    """As `pending`, on an open connection in autocommit.

    Raises:
        MigrationError: as `pending`.
    """
    async with connection.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute("SELECT to_regclass('vidqueue.migrations') IS NOT NULL")
        (exists,) = await cursor.fetchone() or (False,)
    return [step.name for step in _missing(known(), await _applied(connection) if exists else {})]


async def _connect(url: str) -> psycopg.AsyncConnection:
    try:
        return await psycopg.AsyncConnection.connect(url, autocommit=True, **CONNECT_OPTIONS)
    except psycopg.OperationalError as error:
        raise DatabaseUnfitError(f"The database does not answer: {error}") from error


def _missing(steps: Sequence[Migration], applied: dict[str, str]) -> list[Migration]:
    newer = sorted(set(applied) - {step.name for step in steps})
    if newer:
        raise MigrationError(
            f"The database is newer than this program: it knows {', '.join(newer)}. Install the newer vidqueue."
        )
    edited = [step.name for step in steps if applied.get(step.name, step.checksum) != step.checksum]
    if edited:
        raise MigrationError(f"Applied migrations were edited: {', '.join(edited)}. Restore the original files.")
    return [step for step in steps if step.name not in applied]


async def _applied(connection: psycopg.AsyncConnection[Any]) -> dict[str, str]:
    async with connection.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute("SELECT name, checksum FROM vidqueue.migrations")
        return dict(await cursor.fetchall())


async def _apply(connection: psycopg.AsyncConnection, step: Migration) -> None:
    deadline = time.monotonic() + LOCK_PATIENCE_S
    while True:
        try:
            return await (_apply_outside if step.concurrently else _try_to_apply)(connection, step)
        except psycopg.errors.LockNotAvailable as error:
            if time.monotonic() > deadline:
                raise MigrationError(
                    f"{step.name} waited {LOCK_PATIENCE_S} s for a table that somebody else holds: {error}. "
                    "pg_stat_activity shows who; end that session and try again."
                ) from error
            log.warning("migration_waits_for_table", migration=step.name, error=str(error))
            await asyncio.sleep(TRY_AGAIN_AFTER_S)


async def _apply_outside(connection: psycopg.AsyncConnection, step: Migration) -> None:
    # Nobody has to wait behind one that waits to build an index, so it waits in one go.
    await connection.execute(f"SET lock_timeout = {int(LOCK_PATIENCE_S * 1000)}")
    try:
        for statement in step.concurrently:
            # IF NOT EXISTS takes an index for built that an earlier try left half way.
            for name in await _broken_indexes(connection, statement):
                await connection.execute(f'DROP INDEX CONCURRENTLY vidqueue."{name}"')
            await connection.execute(statement)
    finally:
        if not connection.closed:
            await connection.execute("RESET lock_timeout")
    await _record(connection, step)


async def _broken_indexes(connection: psycopg.AsyncConnection, statement: str) -> list[str]:
    cursor = await connection.execute(
        "SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
        " WHERE NOT i.indisvalid AND c.relnamespace = 'vidqueue'::regnamespace AND c.relname = ANY (%s)",
        [re.findall(r"\w+", statement)],
    )
    return [name for (name,) in await cursor.fetchall()]


async def _try_to_apply(connection: psycopg.AsyncConnection, step: Migration) -> None:
    async with connection.transaction():
        await connection.execute(f"SET LOCAL search_path = {SEARCH_PATH}")
        await connection.execute(f"SET LOCAL lock_timeout = {TABLE_LOCK_MS}")
        await connection.execute(step.text)
        await _record(connection, step)


async def _record(connection: psycopg.AsyncConnection, step: Migration) -> None:
    await connection.execute(
        "INSERT INTO vidqueue.migrations (name, checksum) VALUES (%s, %s)", (step.name, step.checksum)
    )


@asynccontextmanager
async def _only_one(connection: psycopg.AsyncConnection) -> AsyncIterator[None]:
    # Polled: a waiting pg_advisory_lock() holds a snapshot and deadlocks with CREATE INDEX CONCURRENTLY.
    try:
        async with asyncio.timeout(LOCK_PATIENCE_S):
            while not await _try_lock(connection):
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise MigrationError(f"Another program has been migrating this database for {LOCK_PATIENCE_S} s.") from None
    try:
        yield
    finally:
        await connection.execute("SELECT pg_advisory_unlock(%s, %s)", LOCK)


async def _try_lock(connection: psycopg.AsyncConnection) -> bool:
    cursor = await connection.execute("SELECT pg_try_advisory_lock(%s, %s)", LOCK)
    (locked,) = await cursor.fetchone() or (False,)
    return bool(locked)
