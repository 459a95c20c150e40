"""Rows that a backup needs: which files the database names, and what it is."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from vidqueue.db.pool import Connection, row, rows


@dataclass(frozen=True, slots=True)
class DatabaseFacts:
    """Identity of the installation, major version of the server, and size of the whole database in bytes."""

    installation: UUID
    postgresql: int
    size: int


async def facts(connection: Connection) -> DatabaseFacts:
    """Return what the database is. It must have vidqueue's tables."""
    found = await row(connection, "system", "facts_of_backup")
    assert found is not None
    return DatabaseFacts(**found)


async def schemas(connection: Connection, names: tuple[str, ...]) -> list[str]:
    """Return those of these schemas that exist."""
    return [found["name"] for found in await rows(connection, "system", "schemas", names=list(names))]


async def server_version(connection: Connection) -> int:
    """Return the major version of the server."""
    found = await row(connection, "system", "fitness")
    assert found is not None
    return int(found["version"]) // 10_000
