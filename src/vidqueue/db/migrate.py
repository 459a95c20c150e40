"""Schema migrations: numbered files, forward only, each applied in one transaction.

A file that begins with `-- concurrently` builds indexes while others write, one statement after the other. If it is
interrupted, the next start continues with the index that is invalid.

A file that was applied is never edited: its checksum is stored and compared. A database that has more migrations than
the program is refused. Any number of daemons may start at once.
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

from vidqueue.db.connections import CONNECT_OPTIONS, SEARCH_PATH
from vidqueue.db.fitness import DatabaseUnfitError, said
from vidqueue.db.pool import AWAY

LOCK = (30321, 2)
LOCK_TIMEOUT_S = 120
# While a migration waits for the lock of a table, all later queries on that table wait behind it. So it waits only a
# short time, and tries again after a pause that lets them pass.
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
    """The database cannot be migrated by this program; the message says why and what to do."""


@dataclass(frozen=True)
class Migration:
    """A migration: its file name and its text."""

    name: str
    text: str

    @cached_property
    def checksum(self) -> str:
        """Return the sha256 of the text, in hex."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def concurrently(self) -> list[str]:
        """Return the statements of a file that runs outside a transaction; empty for all other files."""
        if not self.text.startswith(CONCURRENTLY):
            return []
        text = re.sub(r"(?m)^--.*\n", "", self.text)
        return [statement.strip() for statement in text.split(";") if statement.strip()]


@cache
def known() -> tuple[Migration, ...]:
    """Return all migrations of this program, in order. Cached.

    The first one is the schema of the procrastinate that they began with, as a file of ours: an upgrade of that package
    must not look like an edited migration.
    """
    carried = files("vidqueue").joinpath("_migrations")
    # In a checkout the folder is beside src/; in a wheel it is inside the package.
    folder = Path(str(carried)) if carried.is_dir() else Path(__file__).parents[3] / "migrations"
    return tuple(Migration(path.stem, path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.sql")))


async def migrate(url: str) -> list[str]:
    """Apply the missing migrations and return their names.

    Programs of the previous version may continue meanwhile, because a migration only adds.

    Raises:
        MigrationError: an applied file was edited, the database is newer than this program, or it is locked.
        DatabaseUnfitError: the server does not answer, or goes away meanwhile.
    """
    steps = known()
    async with _connected(url) as connection, _only_one(connection):
        await connection.execute(_LEDGER)
        missing = _missing(steps, await _applied(connection))
        for step in missing:
            await _apply(connection, step)
    return [step.name for step in missing]


async def pending(url: str) -> list[str]:
    """Return the names of the migrations that `migrate` would apply.

    Raises:
        MigrationError: an applied file was edited, or the database is newer than this program.
    """
    async with _connected(url) as connection:
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


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator[psycopg.AsyncConnection]:
    """A connection in autocommit for the block; a server that goes away meanwhile is one that does not answer.

    Raises:
        DatabaseUnfitError: it does not answer, or the role may not do what the block does.
    """
    try:
        async with await psycopg.AsyncConnection.connect(url, autocommit=True, **CONNECT_OPTIONS) as connection:
            yield connection
    except AWAY as error:
        raise DatabaseUnfitError(f"The database does not answer: {said(error)}.") from error
    except psycopg.errors.InsufficientPrivilege as error:
        raise DatabaseUnfitError(
            f"The database refuses: {error.diag.message_primary}. The role needs to own the database and its schemas."
        ) from error


def _missing(steps: Sequence[Migration], applied: dict[str, str]) -> list[Migration]:
    newer = sorted(set(applied) - {step.name for step in steps})
    if newer:
        raise MigrationError(
            f"The database is newer than this program: it has {', '.join(newer)}. Install the newer vidqueue."
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
    deadline = time.monotonic() + LOCK_TIMEOUT_S
    while True:
        try:
            return await (_apply_outside if step.concurrently else _try_to_apply)(connection, step)
        except psycopg.errors.LockNotAvailable as error:
            if time.monotonic() > deadline:
                raise MigrationError(
                    f"{step.name} waited {LOCK_TIMEOUT_S} s for a table that another session has locked: {error}. "
                    "pg_stat_activity shows it; end that session and try again."
                ) from error
            log.warning("migration_waits_for_table", migration=step.name, error=str(error))
            await asyncio.sleep(TRY_AGAIN_AFTER_S)


async def _apply_outside(connection: psycopg.AsyncConnection, step: Migration) -> None:
    # No query waits behind a session that waits to build an index, so it waits without pauses.
    await connection.execute(f"SET lock_timeout = {int(LOCK_TIMEOUT_S * 1000)}")
    try:
        for statement in step.concurrently:
            # IF NOT EXISTS would skip an invalid index that an interrupted attempt left.
            for name in await _invalid_indexes(connection, statement):
                await connection.execute(f'DROP INDEX CONCURRENTLY vidqueue."{name}"')
            await connection.execute(statement)
    finally:
        if not connection.closed:
            await connection.execute("RESET lock_timeout")
    await _record(connection, step)


async def _invalid_indexes(connection: psycopg.AsyncConnection, statement: str) -> list[str]:
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
    # Polled: a waiting pg_advisory_lock() keeps a snapshot and deadlocks with CREATE INDEX CONCURRENTLY.
    try:
        async with asyncio.timeout(LOCK_TIMEOUT_S):
            while not await _try_lock(connection):
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise MigrationError(f"Another program has been migrating this database for {LOCK_TIMEOUT_S} s.") from None
    try:
        yield
    finally:
        await connection.execute("SELECT pg_advisory_unlock(%s, %s)", LOCK)


async def _try_lock(connection: psycopg.AsyncConnection) -> bool:
    cursor = await connection.execute("SELECT pg_try_advisory_lock(%s, %s)", LOCK)
    (locked,) = await cursor.fetchone() or (False,)
    return bool(locked)
