"""API keys: create, list, revoke; and the keyring, which finds the principal of a key without a query per request."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from vidqueue.db.pool import Connection, Database
from vidqueue.db.tables import keys
from vidqueue.db.tables.keys import KeyRow
from vidqueue.errors import DATABASE_BUSY, VidqueueError
from vidqueue.principal import LOCAL, Principal, Role

MARK = "vq_"
SHOWN = len(MARK) + 6
# How old the keyring's copy may be: a revoked key works for so long at most.
FRESH_S = 1.0
# A copy of this age is read anew while it still serves, so that under steady use nobody waits for that. A thousand
# event streams that all wait for a copy before they tell an event cost a sixth of their CPU.
READ_AHEAD_S = 0.5
# An unknown key has the copy read again, so that a new key works at once. It waits so that nobody can have that done
# more often than this.
READ_AGAIN_S = 0.2
# While the database is away nothing can be done with a key anyway; answers that need no database still come.
STALE_S = 60.0
# How long a request waits for a newer copy where there is an older one.
WAITS_S = 0.25


@dataclass(frozen=True, slots=True)
class CreatedKey:
    """A new key. `secret` is shown once, and cannot be had again."""

    row: KeyRow
    secret: str


async def create(
    database: Database, *, owner: str, role: Role, name: str = "", expires_in_s: float | None = None
) -> CreatedKey:
    """Make a key for an owner. From the first key on, every request needs one."""
    secret = MARK + secrets.token_urlsafe(32)
    expires_at = datetime.now(UTC) + timedelta(seconds=expires_in_s) if expires_in_s is not None else None
    async with database.transaction() as connection:
        row = await keys.add(
            connection,
            owner=owner,
            role=role.value,
            name=name,
            prefix=secret[:SHOWN],
            digest=_hash(secret),
            expires_at=expires_at,
        )
    return CreatedKey(row, secret)


async def every(database: Database) -> list[KeyRow]:
    """Return all keys, newest first, those that were revoked too."""
    async with database.statement() as connection:
        return await keys.every(connection)


async def revoke(database: Database, key_id: UUID) -> KeyRow:
    """Make a key useless; a second call changes nothing.

    Raises:
        VidqueueError: `not_found`.
    """
    async with database.transaction() as connection:
        if row := await keys.revoke(connection, key_id):
            return row
    raise VidqueueError("not_found", f"There is no key {key_id}.", hint="`vidqueue keys list` shows the keys.")


async def remove(database: Database, key_id: UUID) -> None:
    """Delete a revoked key. Once no key is left, requests from this machine need none again.

    Raises:
        VidqueueError: `conflict` for a key that was not revoked, `not_found`.
    """
    async with database.transaction() as connection:
        if await keys.remove(connection, key_id):
            return
        if any(row.id == key_id for row in await keys.every(connection)):
            raise VidqueueError("conflict", "The key is in use.", hint="Revoke it first.")
    raise VidqueueError("not_found", f"There is no key {key_id}.", hint="`vidqueue keys list` shows the keys.")


@dataclass(frozen=True, slots=True)
class _Copy:
    """The keys as they were at `read_at` (monotonic seconds), by hash."""

    read_at: float
    any: bool
    principals: Mapping[bytes, Principal]


class Keyring:
    """Finds who sent a request, from a copy of all keys that is at most a second old.

    Args:
        connect: a connection for one statement. Not one of the pool that requests share, which may be crowded.
        open_without_keys: while there is no key at all, requests need none. For a daemon that listens on loopback.
    """

    def __init__(
        self, connect: Callable[[], AbstractAsyncContextManager[Connection]], *, open_without_keys: bool
    ) -> None:
        self._connect = connect
        self._open_without_keys = open_without_keys
        self._copy = _Copy(float("-inf"), False, {})
        self._tried_at = self._began_at = float("-inf")
        self._reading: asyncio.Task[None] | None = None
        self._used: set[UUID] = set()
        self._changed_at = float("-inf")

    async def find(self, secret: str | None) -> Principal:
        """Return the principal of a key, or of a request without one.

        Raises:
            VidqueueError: `unauthenticated`.
        """
        copy = await self._read(FRESH_S)
        if not copy.any and self._open_without_keys:
            return LOCAL
        if secret is None:
            raise VidqueueError("unauthenticated", "This daemon needs an API key.")
        wanted = _hash(secret)
        found = _usable(copy, wanted) or _usable(await self._read_again(), wanted)
        if found is None:
            raise VidqueueError("unauthenticated", "The API key is not known, was revoked, or has expired.")
        if found.key_id is not None:
            self._used.add(found.key_id)
        return found

    async def holds(self, principal: Principal) -> bool:
        """True if the principal of a long answer may still be told more."""
        copy = await self._read(FRESH_S)
        if principal.key_id is None:
            return not copy.any and self._open_without_keys
        return any(one == principal and _lasts(one) for one in copy.principals.values())

    def changed(self) -> None:
        """Read the keys again before the next request is authenticated: this process has changed one."""
        self._changed_at, self._tried_at, self._reading = time.monotonic(), float("-inf"), None

    async def _read_again(self) -> _Copy:
        """Return a copy that was read after this call, within the bound on how often that happens."""
        called_at = time.monotonic()
        await asyncio.sleep(self._tried_at + READ_AGAIN_S - called_at)
        # The first reading may be one that began before.
        for _ in range(2):
            if self._copy.read_at < called_at:
                await self._read(0)
        return self._copy

    async def _read(self, at_most_s: float) -> _Copy:
        now = time.monotonic()
        if now - self._tried_at <= at_most_s:
            if now - max(self._tried_at, self._began_at) > READ_AHEAD_S:
                self._begin_reading()
            return self._copy
        reading = self._begin_reading()
        if time.monotonic() - self._copy.read_at > STALE_S:
            # One who leaves takes the answer from none of the others.
            await asyncio.shield(reading)
            return self._copy
        # While the database is away or slow, a request waits for it once, and that is in its handler.
        await asyncio.wait({reading}, timeout=WAITS_S)
        if reading.done() and (error := reading.exception()) is not None:
            if not (isinstance(error, VidqueueError) and error.code in DATABASE_BUSY):
                raise error
            self._tried_at = time.monotonic()
        return self._copy

    def _begin_reading(self) -> asyncio.Task[None]:
        """Return the task that reads the keys: the one that is at work, or a new one."""
        if self._reading is None or self._reading.done():
            self._began_at = time.monotonic()
            self._reading = asyncio.create_task(self._refresh())
            # Nobody may be left to see a failure; asyncio would complain.
            self._reading.add_done_callback(lambda done: done.cancelled() or done.exception())
        return self._reading

    async def _refresh(self) -> None:
        used, began = set(self._used), time.monotonic()
        async with self._connect() as connection:
            if used:
                await keys.used(connection, used)
            found = await keys.known(connection)
        self._used -= used
        if began < self._changed_at:
            return
        principals = {
            key.hash: Principal(key.owner, Role(key.role), key.id, key.expires_at) for key in found if key.usable
        }
        self._copy = _Copy(began, bool(found), principals)
        self._tried_at = time.monotonic()


def _usable(copy: _Copy, wanted: bytes) -> Principal | None:
    found = copy.principals.get(wanted)
    return found if found is not None and _lasts(found) else None


def _lasts(principal: Principal) -> bool:
    return principal.expires_at is None or principal.expires_at > datetime.now(UTC)


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()
