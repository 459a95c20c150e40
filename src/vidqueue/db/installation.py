"""The id by which a database is known to the data folders that belong to it, and the refusal of any other one."""

from __future__ import annotations

from pathlib import Path

import psycopg
from psycopg.rows import dict_row

from vidqueue.db.connections import CONNECT_OPTIONS
from vidqueue.db.pool import AWAY, row
from vidqueue.ops import data_folder


class OtherDatabaseError(Exception):
    """A data folder belongs to another database; the message says what to do."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            f"{folder} belongs to another database. Use that database, or another data_dir; "
            f"if this database was restored from a dump of that one, remove {folder}/{data_folder.DATABASE}."
        )


async def require_own(url: str, folder: Path) -> None:
    """Refuse a database which a data folder does not belong to; one whose id cannot be known passes.

    Raises:
        OtherDatabaseError: the folder belongs to another one.
    """
    expected, found = data_folder.database_of(folder), await installation_of(url)
    if expected and found not in (None, expected):
        raise OtherDatabaseError(folder)


async def installation_of(url: str) -> str | None:
    """Return the id of a database: empty if it has no tables of vidqueue, None if it does not answer or say so.

    What it does not answer is reported by the command that needs the answer.
    """
    try:
        async with await psycopg.AsyncConnection.connect(
            url, autocommit=True, row_factory=dict_row, **CONNECT_OPTIONS
        ) as connection:
            found = await row(connection, "system", "installation")
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        return ""
    except (psycopg.errors.InsufficientPrivilege, *AWAY):
        return None
    return str(found["id"]) if found else ""
