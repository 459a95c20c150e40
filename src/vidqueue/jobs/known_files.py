"""Lookup of stored files by hash, so that bytes that the daemon has are not uploaded twice.

Only files that the request may read anyway are found. So a client cannot find out whether another owner has stored
certain bytes, and cannot read bytes by knowing their hash.
"""

from __future__ import annotations

import re
from typing import cast
from uuid import UUID

from vidqueue.db.pool import Database
from vidqueue.db.tables import files
from vidqueue.db.tables.files import FileRow, Hashed, NewFile
from vidqueue.errors import VidqueueError
from vidqueue.jobs.quota import require_room
from vidqueue.storage import names
from vidqueue.storage.local import Storage

_HASH = re.compile(r"(sha256|blake3):([0-9a-f]{64})")


def parse_hash(text: str) -> Hashed:
    """Return the hash that is written as `sha256:<hex>` or `blake3:<hex>`.

    Raises:
        VidqueueError: `invalid_request`.
    """
    found = _HASH.fullmatch(text)
    if found is None:
        message = f"{text[:80]!r} is not a hash. Write sha256: or blake3: and 64 lower-case hexadecimal digits."
        raise VidqueueError("invalid_request", message)
    return Hashed(cast("files.HashKind", found[1]), found[2])


async def find(database: Database, storage: Storage, hashed: Hashed, *, scope: str | None) -> FileRow | None:
    """Return a file with these bytes, of the owner `scope` or (None) of anybody, if the bytes are in this folder."""
    async with database.statement() as connection:
        found = await files.by_hash(connection, hashed, storage.node, owner=scope)
    return await _if_here(storage, found)


async def take(
    database: Database, storage: Storage, hashed: Hashed, *, scope: str | None, owner: str, name: str | None
) -> tuple[FileRow, bool] | None:
    """Store known bytes for an owner without an upload; None if `scope` has no such file here.

    Returns:
        The file, and whether it is a new one. An upload that the owner has under this name is taken as it is, and
        counts as stored now; otherwise the file is a new one that shares the bytes on the disk.

    Raises:
        VidqueueError: `limit_reached`.
    """
    if mine := await renewed(database, storage, hashed, owner=owner, name=name):
        return mine, False
    found = await find(database, storage, hashed, scope=scope)
    if found is None:
        return None
    async with database.statement() as connection:
        await require_room(connection, owner, found.size)
    try:
        file_id = await storage.long_threads.run(storage.link, found.id)
    except FileNotFoundError:
        return None
    try:
        return await _add(database, storage, found, file_id, owner=owner, name=name), True
    finally:
        storage.release(file_id)


async def renewed(
    database: Database, storage: Storage, hashed: Hashed, *, owner: str, name: str | None
) -> FileRow | None:
    """Return the upload with these bytes and this name that the owner has here; it counts as stored now."""
    label = names.label(name) if name else None
    async with database.transaction() as connection:
        found = await files.renew(connection, hashed, storage.node, owner=owner, name=label)
    return await _if_here(storage, found)


async def _add(
    database: Database, storage: Storage, source: FileRow, file_id: UUID, *, owner: str, name: str | None
) -> FileRow:
    label = names.label(name) if name else source.name
    new = NewFile(
        id=file_id,
        owner=owner,
        name=label,
        media_type=source.media_type if label == source.name else names.media_type("", label),
        size=source.size,
        sha256=source.sha256,
        blake3=source.blake3,
        node=storage.node,
        facts=source.facts,
    )
    async with database.transaction() as connection:
        await files.add(connection, new)
        written = await files.get(connection, file_id)
    assert written is not None
    return written


async def _if_here(storage: Storage, file: FileRow | None) -> FileRow | None:
    here = file is not None and await storage.threads.run(storage.has, file.id, file.size)
    return file if here else None
