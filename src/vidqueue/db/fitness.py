"""Checks that a PostgreSQL server is usable: its version, that it accepts writes, and that LISTEN works."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from vidqueue.db.connections import CONNECT_OPTIONS
from vidqueue.db.pool import Connection, listen, row
from vidqueue.db.programs import SCHEMAS

OLDEST_SERVER = 14
_ENCODING = "In the user name and the password, write % as %25, @ as %40, / as %2F, : as %3A and a space as %20."


class DatabaseUnfitError(Exception):
    """The server is not usable for vidqueue; the message says why and what to do.

    Attributes:
        found: the message without the advice.
    """

    def __init__(self, found: str, advice: str = "") -> None:
        super().__init__(f"{found} {advice}".rstrip())
        self.found = found
        self.advice = advice


async def require_fit(url: str) -> str:
    """Check that the server is usable, and return its major version.

    Raises:
        DatabaseUnfitError: too old, read-only, not in UTF-8, or behind a pooler that does not support LISTEN.
    """
    try:
        async with asyncio.timeout(20):
            return await _fitness(url)
    except (psycopg.OperationalError, TimeoutError) as error:
        # Its text may contain what stands before the last @, and that may be a password.
        cut = _is_cut_wrong(url)
        found = "its host cannot be read" if cut else said(error)
        advice = _ENCODING if cut else _advice(found)
        raise DatabaseUnfitError(f"The database does not answer: {found}.", advice) from None
    except psycopg.ProgrammingError:
        # Its text contains the URL, and the URL may contain a password.
        raise DatabaseUnfitError("database.url is not a valid PostgreSQL URL.", _ENCODING) from None


@contextmanager
def refusals() -> Iterator[None]:
    """Report every error of the database in the block as one that says in words what it refuses.

    Raises:
        DatabaseUnfitError: in place of an error of psycopg.
    """
    try:
        yield
    except psycopg.Error as error:
        what = "The database refuses" if error.sqlstate else "The database does not answer"
        raise DatabaseUnfitError(f"{what}: {error.diag.message_primary or said(error)}.") from None


def said(error: Exception) -> str:
    """The words of an error of the connection in one line, without libpq's question at its end and a full stop."""
    words = " ".join(str(error).split()).partition(" Is the server running")[0]
    return words.rstrip(".") or "it is too slow"


def _advice(found: str) -> str:
    """What to look at, by the words of libpq and of the server, which have no code before there is a session."""
    if "password" in found:
        return f"Check the password of the role. {_ENCODING}"
    if "does not exist" in found:
        return "Create the role and the database as docs/operations.md says, or correct database.url."
    return "Check that the server runs at this address, or correct database.url."


def _is_cut_wrong(url: str) -> bool:
    """True if a character of the password has ended it: libpq looks for one @ before the first slash."""
    scheme, _, rest = url.partition("://")
    authority, _, beyond = rest.partition("/")
    return scheme in ("postgresql", "postgres") and (authority.count("@") > 1 or "@" in beyond.partition("?")[0])


async def _fitness(url: str) -> str:
    listener = await listen(url, "vidqueue_selftest")
    async with listener, await psycopg.AsyncConnection.connect(url, autocommit=True, **CONNECT_OPTIONS) as sender:
        facts = await row(listener, "system", "fitness")
        assert facts is not None
        major = facts["version"] // 10_000
        if major < OLDEST_SERVER:
            raise DatabaseUnfitError(f"PostgreSQL {major} is too old; use {OLDEST_SERVER} or newer.")
        if facts["standby"]:
            raise DatabaseUnfitError("This server is a read-only standby; use the address of the primary.")
        encoding = listener.info.parameter_status("server_encoding")
        if encoding != "UTF8":
            # SQL_ASCII, which initdb chooses where there is no locale, has bytes and no text.
            raise DatabaseUnfitError(
                f"The database has the encoding {encoding}, and names of files need UTF8. "
                "Create it with: createdb --owner vidqueue --encoding UTF8 --template template0 vidqueue"
            )
        await _require_rights(listener)
        await sender.execute("NOTIFY vidqueue_selftest")
        async for _ in listener.notifies(timeout=3, stop_after=1):
            return str(major)
    raise DatabaseUnfitError(
        "LISTEN receives nothing on this connection, as behind pgbouncer in transaction mode. "
        "Use the server's own address, or a pool in session mode."
    )


async def _require_rights(connection: Connection) -> None:
    """The first migration makes schemas."""
    found = await row(connection, "system", "rights", schemas=list(SCHEMAS))
    assert found is not None
    role, database = found["role"], found["database"]
    if not found["may_create"]:
        raise DatabaseUnfitError(
            f"The role {role} may not create schemas in the database {database}.",
            f'Make it the owner of the database, as a superuser: ALTER DATABASE "{database}" OWNER TO "{role}"',
        )
