"""Rows of stored files and of the outputs that jobs published."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from psycopg.types.json import Jsonb

from vidqueue.db.pool import Connection, execute, row, rows

HashKind = Literal["sha256", "blake3"]


@dataclass(frozen=True, slots=True)
class Hashed:
    """A hash that identifies file content: its algorithm and the digest in hex."""

    kind: HashKind
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NewFile:
    """Bytes that lie in storage already. `size` in bytes, `sha256` in hex, `node` the data folder that holds them."""

    id: UUID
    owner: str
    name: str
    media_type: str
    size: int
    sha256: str
    node: UUID
    facts: dict[str, Any] | None = None
    blake3: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRow:
    """A stored file. `node` is the data folder that holds the bytes, `missing_at` when they were found gone."""

    id: UUID
    owner: str
    name: str
    media_type: str
    size: int
    sha256: str
    blake3: str | None
    facts: dict[str, Any] | None
    created_at: datetime
    node: UUID | None
    missing_at: datetime | None


async def add(connection: Connection, file: NewFile, *, published: bool = False) -> None:
    """Write the row of a file."""
    values = {field.name: getattr(file, field.name) for field in fields(file)}
    facts = Jsonb(file.facts) if file.facts is not None else None
    await execute(connection, "files", "add", **{**values, "facts": facts}, published=published)


async def set_facts(connection: Connection, file_id: UUID, facts: dict[str, Any]) -> None:
    """Write down what a probe has found."""
    await execute(connection, "files", "set_facts", id=file_id, facts=Jsonb(facts))


async def get(connection: Connection, file_id: UUID, *, owner: str | None = None) -> FileRow | None:
    """One file, or None where this owner has none of that id."""
    found = await row(connection, "files", "get", id=file_id, owner=owner)
    return FileRow(**found) if found else None


async def by_hash(connection: Connection, hashed: Hashed, node: UUID, *, owner: str | None) -> FileRow | None:
    """One file with these bytes in the folder `node`, of this owner or (None) of anybody."""
    found = await row(connection, "files", f"by_{hashed.kind}", hash=hashed.digest, node=node, owner=owner)
    return FileRow(**found) if found else None


async def renew(connection: Connection, hashed: Hashed, node: UUID, *, owner: str, name: str | None) -> FileRow | None:
    """An upload of this owner with these bytes and this name, as old as if it had been stored now."""
    found = await row(
        connection, "files", f"renew_by_{hashed.kind}", hash=hashed.digest, node=node, owner=owner, name=name
    )
    return FileRow(**found) if found else None


async def uploads(connection: Connection, before: UUID, *, owner: str | None, limit: int) -> list[FileRow]:
    """Return uploads whose ids are below `before`, newest first: those of an owner, or everybody's."""
    if owner is None:
        found = await rows(connection, "files", "uploads", before=before, limit=limit)
    else:
        found = await rows(connection, "files", "uploads_of_owner", before=before, owner=owner, limit=limit)
    return [FileRow(**one) for one in found]


async def usage(connection: Connection, *, owner: str | None) -> list[dict[str, Any]]:
    """Return how many files and bytes each owner has stored, by kind: uploads and outputs."""
    return await rows(connection, "files", "usage", owner=owner)


async def uploads_of_jobs(connection: Connection, ids: list[UUID]) -> list[UUID]:
    """Return the uploads that the inputs of these jobs name."""
    return [found["id"] for found in await rows(connection, "files", "uploads_of_jobs", ids=ids)]


async def unread(connection: Connection, ids: list[UUID]) -> set[UUID]:
    """Return those of locked files that no job and no schedule names."""
    return {found["id"] for found in await rows(connection, "files", "unread", ids=ids)}


async def output(connection: Connection, job_id: UUID, name: str, *, owner: str | None = None) -> FileRow | None:
    """The file that a job published under `name`."""
    found = await row(connection, "files", "output", job_id=job_id, name=name, owner=owner)
    return FileRow(**found) if found else None


async def get_many(connection: Connection, ids: Iterable[UUID], *, owner: str) -> dict[UUID, FileRow]:
    """Those of these files that the owner has, by id."""
    found = await rows(connection, "files", "get_many", ids=list(ids), owner=owner)
    return {one["id"]: FileRow(**one) for one in found}


async def outputs(
    connection: Connection, wanted: Iterable[tuple[UUID, str]], *, owner: str
) -> dict[tuple[UUID, str], FileRow]:
    """Those of these outputs (job and name) that are published already."""
    pairs = list(wanted)
    job_ids, names = [job_id for job_id, _ in pairs], [name for _, name in pairs]
    found = await rows(connection, "files", "outputs", job_ids=job_ids, names=names, owner=owner)
    return {(one.pop("job_id"), one.pop("output")): FileRow(**one) for one in found}


async def publish(connection: Connection, job_id: UUID, attempt: int, name: str, file: NewFile) -> None:
    """Write the row of a file and make it the output `name` of a job."""
    await add(connection, file, published=True)
    await execute(connection, "files", "publish", job_id=job_id, attempt=attempt, name=name, file_id=file.id)


async def lock(connection: Connection, ids: list[UUID]) -> set[UUID]:
    """Lock files until the end of the transaction; those that nobody else holds."""
    return {found["id"] for found in await rows(connection, "files", "lock", ids=ids)}


async def unused(connection: Connection, ids: list[UUID], *, since: datetime | None = None) -> set[UUID]:
    """The ones among locked files that no job published, none has to read, and none has read after `since`."""
    return {found["id"] for found in await rows(connection, "files", "unused", ids=ids, since=since)}


async def left(connection: Connection, ids: list[UUID]) -> set[UUID]:
    """Return those of the locked files that expire with their jobs and that no job needs any more."""
    return {found["id"] for found in await rows(connection, "files", "left", ids=ids)}


async def tell_published(connection: Connection, ids: list[UUID]) -> None:
    """Mark those of these locked files that a job published, so that they are not taken for uploads again."""
    await execute(connection, "files", "tell_published", ids=ids)


async def of_jobs(connection: Connection, ids: list[UUID]) -> list[tuple[UUID, UUID]]:
    """Job and file of every output of these jobs."""
    found = await rows(connection, "files", "of_jobs", ids=ids)
    return [(one["job_id"], one["file_id"]) for one in found]


async def delete_many(connection: Connection, ids: list[UUID]) -> None:
    """Delete rows of files that nothing refers to any more."""
    await execute(connection, "files", "delete_many", ids=ids)


async def which_exist(connection: Connection, ids: list[UUID]) -> set[UUID]:
    """Which of these files have a row."""
    return {found["id"] for found in await rows(connection, "files", "which_exist", ids=ids)}


async def claim(connection: Connection, ids: list[UUID], node: UUID) -> None:
    """Write down that the bytes of these files lie in the folder `node`, where that was not known."""
    await execute(connection, "files", "claim", ids=ids, node=node)
    await execute(connection, "files", "claim_jobs", ids=ids)


async def of_node(connection: Connection, node: UUID, *, after: UUID, limit: int) -> dict[UUID, int]:
    """The next page of the files whose bytes lie in a folder: their sizes by id, in the order of the ids."""
    found = await rows(connection, "files", "of_node", node=node, after=after, limit=limit)
    return {one["id"]: one["size"] for one in found}


async def promised(connection: Connection, node: UUID, *, after: UUID, limit: int) -> dict[UUID, str]:
    """As `of_node`, with their sha256."""
    found = await rows(connection, "files", "promised", node=node, after=after, limit=limit)
    return {one["id"]: one["sha256"] for one in found}


async def count_of_node(connection: Connection, node: UUID) -> int:
    """How many files have their bytes in a folder."""
    found = await row(connection, "files", "count_of_node", node=node)
    assert found is not None
    return int(found["files"])


async def mark(connection: Connection, ids: list[UUID], *, missing: list[UUID]) -> int:
    """Mark those of `ids` whose bytes are missing, unmark the others, and tell how many marks changed."""
    return await execute(connection, "files", "mark", ids=ids, missing=missing)


async def lost(connection: Connection) -> int:
    """How many files have a row and no bytes."""
    found = await row(connection, "files", "lost")
    assert found is not None
    return int(found["files"])


async def host_of(connection: Connection, node: UUID) -> str | None:
    """The machine that last had lanes on a data folder."""
    found = await row(connection, "files", "host_of", node=node)
    return str(found["host"]) if found else None
