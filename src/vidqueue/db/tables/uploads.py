"""Rows of resumable uploads, which are kept for some time after they have become files."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from vidqueue.db.pool import Connection, execute, row, rows

# The highest number of unfinished uploads of an owner.
MOST_UNFINISHED = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class NewUpload:
    """A new resumable upload. `length` in bytes; `metadata` as the client sent it."""

    id: UUID
    owner: str
    length: int
    name: str
    media_type: str
    metadata: str
    sha256: str | None
    node: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadRow(NewUpload):
    """An upload. The first `received` bytes are on the disk of `node`; once `finished_at` is set it is a file."""

    received: int
    created_at: datetime
    expires_at: datetime
    finished_at: datetime | None


async def add(connection: Connection, upload: NewUpload, *, keep_s: float) -> bool:
    """Write the row of an upload; False if its owner has too many unfinished ones."""
    values = {name: getattr(upload, name) for name in NewUpload.__dataclass_fields__}
    return await execute(connection, "uploads", "add", **values, keep_s=keep_s, most=MOST_UNFINISHED) > 0


async def get(connection: Connection, upload_id: UUID, *, owner: str | None) -> UploadRow | None:
    """Return an upload; None where this owner has none of that id, or it has expired."""
    found = await row(connection, "uploads", "get", id=upload_id, owner=owner)
    return UploadRow(**found) if found else None


async def unfinished(connection: Connection, *, owner: str, sha256: str | None, limit: int) -> list[UploadRow]:
    """Return the newest unfinished uploads of an owner, all or those that shall have a sha256."""
    found = await rows(connection, "uploads", "unfinished", owner=owner, sha256=sha256, limit=limit)
    return [UploadRow(**one) for one in found]


async def received(connection: Connection, upload_id: UUID, size: int, *, keep_s: float) -> bool:
    """Record how many bytes are synced; False if the upload has been removed."""
    return await execute(connection, "uploads", "received", id=upload_id, received=size, keep_s=keep_s) > 0


async def finish(connection: Connection, upload_id: UUID) -> bool:
    """Record that the upload has become a file; False if it has been removed."""
    return await execute(connection, "uploads", "finish", id=upload_id) > 0


async def remove(connection: Connection, upload_id: UUID, *, owner: str | None) -> bool:
    """Delete an upload; False where this owner has none of that id."""
    return await execute(connection, "uploads", "remove", id=upload_id, owner=owner) > 0


async def remove_expired(connection: Connection, node: UUID, *, limit: int) -> list[UUID]:
    """Delete expired uploads of a folder, and return their ids."""
    return [one["id"] for one in await rows(connection, "uploads", "remove_expired", node=node, limit=limit)]


async def which_unfinished(connection: Connection, ids: list[UUID]) -> set[UUID]:
    """Return those of these uploads that exist and are not finished."""
    return {one["id"] for one in await rows(connection, "uploads", "which_unfinished", ids=ids)}
