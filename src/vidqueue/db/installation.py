"""The id by which a database is known to the data folders that belong to it."""

from __future__ import annotations

import psycopg
from psycopg.rows import dict_row

from vidqueue.db.connections import CONNECT_OPTIONS
from vidqueue.db.pool import AWAY, row


async def installation_of(url: str) -> str | None:
    """Return the id of a database, or None if it has no tables of vidqueue, or does not answer.

    What it does not answer is reported by the command that needs the answer.
    """
    try:
        async with await psycopg.AsyncConnection.connect(
            url, autocommit=True, row_factory=dict_row, **CONNECT_OPTIONS
        ) as connection:
            found = await row(connection, "system", "installation")
    except (psycopg.errors.UndefinedTable, psycopg.errors.InsufficientPrivilege, *AWAY):
        return None
    return str(found["id"]) if found else None
