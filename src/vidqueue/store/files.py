"""Rows of stored files and of the outputs that jobs published."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from vidqueue.database import Connection, execute, row, rows


@dataclass(frozen=True, slots=True, kw_only=True)
class NewFile:
    """Bytes that lie in storage already. `size` in bytes, `sha256` in hex."""

    id: UUID
    owner: str
    name: str
    media_type: str
    size: int
    sha256: str
    facts: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRow:
    """A stored file."""

    id: UUID
    owner: str
    name: str
    media_type: str
    size: int
    sha256: str
    facts: dict[str, Any] | None
    created_at: datetime


async def add(connection: Connection, file: NewFile) -> None:
    """Write the row of a file."""
    values = {field.name: getattr(file, field.name) for field in fields(file)}
    facts = Jsonb(file.facts) if file.facts is not None else None
    await execute(connection, "files", "add", **{**values, "facts": facts})


async def get(connection: Connection, file_id: UUID, *, owner: str | None = None) -> FileRow | None:
    """One file, or None where this owner has none of that id."""
    found = await row(connection, "files", "get", id=file_id, owner=owner)
    return FileRow(**found) if found else None


async def output(connection: Connection, job_id: UUID, name: str, *, owner: str | None = None) -> FileRow | None:
    """The file that a job published under `name`."""
    found = await row(connection, "files", "output", job_id=job_id, name=name, owner=owner)
    return FileRow(**found) if found else None


async def publish(connection: Connection, job_id: UUID, attempt: int, name: str, file: NewFile) -> None:
    """Write the row of a file and make it the output `name` of a job."""
    await add(connection, file)
    await execute(connection, "files", "publish", job_id=job_id, attempt=attempt, name=name, file_id=file.id)


async def delete_unused(connection: Connection, file_id: UUID, *, owner: str | None) -> bool:
    """Delete a file's row unless a job published it or still has to read it."""
    return await row(connection, "files", "delete_unused", id=file_id, owner=owner) is not None


async def of_job(connection: Connection, job_id: UUID) -> list[UUID]:
    """Ids of the files a job published."""
    return [found["id"] for found in await rows(connection, "files", "of_job", job_id=job_id)]


async def delete_many(connection: Connection, ids: list[UUID]) -> None:
    """Delete rows of files that nothing refers to any more."""
    await execute(connection, "files", "delete_many", ids=ids)


async def which_exist(connection: Connection, ids: list[UUID]) -> set[UUID]:
    """Which of these files have a row."""
    return {found["id"] for found in await rows(connection, "files", "which_exist", ids=ids)}
