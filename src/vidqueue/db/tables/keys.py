"""Rows of API keys. The key itself is never stored, only its hash."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from vidqueue.db.pool import Connection, execute, row, rows


@dataclass(frozen=True, slots=True)
class KeyRow:
    """A key as people see it. `prefix` is how it begins."""

    id: UUID
    owner: str
    role: str
    name: str
    prefix: str
    created_at: datetime
    expires_at: datetime | None
    used_at: datetime | None
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True)
class KnownKey:
    """What a request is compared with. `usable` is False for a key that was revoked or has expired."""

    id: UUID
    owner: str
    role: str
    hash: bytes
    expires_at: datetime | None
    usable: bool


async def add(
    connection: Connection, *, owner: str, role: str, name: str, prefix: str, digest: bytes, expires_at: datetime | None
) -> KeyRow:
    """Write a key."""
    found = await row(
        connection, "keys", "add", owner=owner, role=role, name=name, prefix=prefix, hash=digest, expires_at=expires_at
    )
    assert found is not None
    return KeyRow(**found)


async def every(connection: Connection) -> list[KeyRow]:
    """Return all keys, newest first, those that were revoked too."""
    return [KeyRow(**found) for found in await rows(connection, "keys", "every")]


async def known(connection: Connection) -> list[KnownKey]:
    """Return what requests are compared with."""
    return [KnownKey(**found) for found in await rows(connection, "keys", "usable")]


async def revoke(connection: Connection, key_id: UUID) -> KeyRow | None:
    """Mark a key as revoked; None if there is none of this id."""
    found = await row(connection, "keys", "revoke", id=key_id)
    return KeyRow(**found) if found else None


async def remove(connection: Connection, key_id: UUID) -> bool:
    """Delete a revoked key; False if there is no revoked one of this id."""
    return await execute(connection, "keys", "remove", id=key_id) > 0


async def used(connection: Connection, ids: Iterable[UUID]) -> None:
    """Write that keys were used just now, unless that was written within a minute."""
    await execute(connection, "keys", "used", ids=list(ids))
