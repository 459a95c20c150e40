"""Rows of library_files: uploads that jobs may refer to by name (music and materials of MoneyPrinterTurbo)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from vidqueue.db.pool import Connection, execute, rows

LibraryKind = Literal["music", "material"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LibraryRow:
    """A file of the library; `size` in bytes."""

    name: str
    file_id: UUID
    size: int
    media_type: str


async def put(connection: Connection, owner: str, kind: LibraryKind, name: str, file_id: UUID) -> None:
    """Give an upload a name, which another upload may have had before."""
    await execute(connection, "library", "put", owner=owner, kind=kind, name=name, file_id=file_id)


async def page(connection: Connection, owner: str, kind: LibraryKind, *, limit: int) -> list[LibraryRow]:
    """The files of an owner, by name."""
    return [LibraryRow(**one) for one in await rows(connection, "library", "page", owner=owner, kind=kind, limit=limit)]


async def find(
    connection: Connection, owner: str, kinds: Sequence[LibraryKind], names: Sequence[str]
) -> dict[tuple[str, str], UUID]:
    """Those of these names that there are, by kind and name."""
    found = await rows(connection, "library", "find", owner=owner, kinds=list(kinds), names=list(names))
    return {(one["kind"], one["name"]): one["file_id"] for one in found}
