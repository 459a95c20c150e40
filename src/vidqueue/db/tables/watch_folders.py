"""Rows of watch folders: the content that they have had, and the files that were read to find it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from vidqueue.db.pool import Connection, execute, row, rows

PAGE = 5000


@dataclass(frozen=True, slots=True)
class Signature:
    """What a file looks like from outside: its size, and when it changed, in nanoseconds."""

    size: int
    changed_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """A file of a watch folder: its name below the folder, and its content."""

    folder: str
    path: str
    sha256: str
    signature: Signature


@dataclass(frozen=True, slots=True)
class Delivery:
    """A file whose job has succeeded, and the outputs that are to be copied."""

    sha256: str
    path: str
    job_id: UUID
    outputs: list[dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchedRow:
    """What became of a file."""

    folder: str
    path: str
    size: int
    sha256: str
    at: datetime
    job_id: UUID | None
    state: str | None
    error: str | None
    delivered_at: datetime | None


async def known_paths(connection: Connection, folder: str) -> dict[str, Signature]:
    """Return the files of a folder whose content is known."""
    known: dict[str, Signature] = {}
    after = ""
    while True:
        found = await rows(connection, "watch_folders", "paths", folder=folder, after_path=after, limit=PAGE)
        known |= {one["path"]: Signature(one["size"], one["changed_ns"]) for one in found}
        if len(found) < PAGE:
            return known
        after = found[-1]["path"]


async def know_path(connection: Connection, file: Watched) -> None:
    """Note the content of a file."""
    values = {"folder": file.folder, "path": file.path, "sha256": file.sha256}
    signature = {"size": file.signature.size, "changed_ns": file.signature.changed_ns}
    await execute(connection, "watch_folders", "know_path", **values, **signature)


async def forget_paths(connection: Connection, folder: str, paths: list[str]) -> None:
    """Forget files that are gone, and not their content."""
    await execute(connection, "watch_folders", "forget_paths", folder=folder, names=paths)


async def take(connection: Connection, file: Watched) -> bool:
    """Take the content of a file for the caller's transaction; False if it was taken before."""
    values = {"folder": file.folder, "sha256": file.sha256, "path": file.path, "size": file.signature.size}
    return await row(connection, "watch_folders", "take", **values) is not None


async def became(
    connection: Connection, file: Watched, *, job_id: UUID | None = None, error: str | None = None
) -> None:
    """Note the job of a file, or why there is none."""
    values = {"folder": file.folder, "sha256": file.sha256}
    await execute(connection, "watch_folders", "became", **values, job_id=job_id, error=error)


async def to_deliver(connection: Connection, folder: str, node: UUID, *, limit: int) -> list[Delivery]:
    """Return files whose outputs are to be copied and lie in the data folder `node`."""
    found = await rows(connection, "watch_folders", "to_deliver", folder=folder, node=node, limit=limit)
    return [Delivery(one["sha256"], one["path"], one["job_id"], one["outputs"] or []) for one in found]


async def delivered(connection: Connection, folder: str, sha256: str) -> None:
    """Note that the outputs were copied."""
    await execute(connection, "watch_folders", "delivered", folder=folder, sha256=sha256)


async def newest(connection: Connection, folder: str, *, limit: int) -> list[WatchedRow]:
    """Return what became of the newest files of a folder."""
    return [
        WatchedRow(**found) for found in await rows(connection, "watch_folders", "newest", folder=folder, limit=limit)
    ]
