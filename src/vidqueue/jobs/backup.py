"""Backup and restore of the database and of the files of one data folder, as one tar archive.

The archive holds `manifest.json`, `database.dump` (pg_dump's custom format) and `files/<id>`, in this order, so that it
can be written to a pipe and read from one; tar and pg_restore read it without vidqueue.
"""

from __future__ import annotations

import asyncio
import io
import json
import shutil
import tarfile
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any
from uuid import UUID

from vidqueue import __version__
from vidqueue.db import programs
from vidqueue.db.pool import Connection, Database
from vidqueue.db.tables import backup as tables
from vidqueue.db.tables import files
from vidqueue.db.tables.jobs import FIRST_ID
from vidqueue.ops.data_folder import DATABASE
from vidqueue.storage.descriptors import CHUNK
from vidqueue.storage.local import Storage
from vidqueue.storage.restored import put, put_again, set_aside

FORMAT = 1
MANIFEST, DUMP, FILES = "manifest.json", "database.dump", "files/"
# A manifest is a few hundred bytes; more is not one.
MANIFEST_LIMIT = 1 << 16
PAGE = 5000

# What is at work, and bytes of files done and in all.
Tell = Callable[[str, int, int], None]


class BackupError(Exception):
    """A backup or a restore is not possible; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an archive holds.

    Attributes:
        node: id of the data folder whose files these are.
        files: how many files, and their size in `bytes`; 0 for a backup of the database alone.
    """

    format: int
    vidqueue: str
    postgresql: int
    created_at: str
    installation: str
    node: str
    files: int
    bytes: int


@dataclass(slots=True)
class Restored:
    """What a restore did.

    Attributes:
        files: how many files are in place.
        damaged: ids of files whose bytes do not have the sha256 that their row has; they were not put in place.
        absent: how many files the database names in this data folder that are not there.
        newer: how many files were moved to `aside`, because they came after the backup and the database does not name
            them.
    """

    manifest: Manifest
    aside: Path
    files: int = 0
    damaged: list[UUID] = field(default_factory=list)
    absent: int = 0
    newer: int = 0


async def write(
    url: str, storage: Storage, target: IO[bytes], *, scratch: Path, with_files: bool, tell: Tell
) -> tuple[Manifest, int]:
    """Write a backup; return its manifest, and how many files were deleted before they could be copied.

    Args:
        url: address of the database.
        storage: the data folder whose files are written.
        target: takes the archive; it is not sought in.
        scratch: a folder with room for the compressed dump of the database.
        with_files: False for the database alone.
        tell: is told of the progress.

    Raises:
        BackupError: the database has no tables of vidqueue.
        ProgramError: pg_dump failed.
    """
    async with programs.snapshot(url) as (connection, snapshot):
        if not await tables.schemas(connection, ("vidqueue",)):
            raise BackupError("This database has no tables of vidqueue.")
        facts = await tables.facts(connection)
        named = await _sizes(connection, storage.node) if with_files else {}
        manifest = Manifest(
            FORMAT, __version__, facts.postgresql, datetime.now(UTC).isoformat(timespec="seconds"),
            str(facts.installation), str(storage.node), len(named), sum(named.values()),
        )  # fmt: skip
        with tempfile.NamedTemporaryFile(prefix=".vidqueue-dump-", dir=scratch) as dump:
            tell("database", 0, manifest.bytes)
            await asyncio.to_thread(programs.dump, url, snapshot, Path(dump.name))
            with tarfile.open(fileobj=target, mode="w|") as archive:
                _add_bytes(archive, MANIFEST, json.dumps(asdict(manifest), indent=2).encode())
                archive.add(dump.name, DUMP, filter=_anonymous)
                return manifest, _add_files(archive, storage, named, tell)


@asynccontextmanager
async def opened(source: IO[bytes]) -> AsyncIterator[tuple[Manifest, tarfile.TarFile]]:
    """Open an archive and read its manifest.

    Raises:
        BackupError: it is none, or was written by a later version.
    """
    manifest = None
    try:
        with tarfile.open(fileobj=source, mode="r|*") as archive:
            manifest = _manifest(archive)
            yield manifest, archive
    except (tarfile.TarError, EOFError) as error:
        if manifest is None:
            raise BackupError(f"This is not a backup of vidqueue: no tar file begins here ({error}).") from error
        raise BackupError(
            f"The archive cannot be read to its end: {error}. What came before it may be restored by now: to try "
            "again, take a new data folder or, with a server of your own, a new database."
        ) from error


async def restore(url: str, storage: Storage, manifest: Manifest, archive: tarfile.TarFile, *, tell: Tell) -> Restored:
    """Restore the database, then the files. Nothing that the data folder already has is overwritten.

    Raises:
        BackupError: the database is not empty, the server is too old, or the data folder belongs to another database.
        ProgramError: pg_restore failed, and has changed nothing.
    """
    async with Database(url, query_timeout_s=600) as database:
        await _require_empty(database, manifest)
        _require_folder(storage, manifest)
        tell("database", 0, manifest.bytes)
        # Read to its end before anything is changed.
        with tempfile.NamedTemporaryFile(prefix=".vidqueue-dump-", dir=storage.folder) as dump:
            shutil.copyfileobj(_member(archive, DUMP), dump, CHUNK)
            dump.flush()
            await asyncio.to_thread(programs.restore, url, Path(dump.name))
        async with database.transaction() as connection:
            promised = await _promised(connection, storage.node)
    restored = Restored(manifest, storage.folder / f"not-in-backup-{_stamp()}")
    _restore_files(storage, archive, promised, restored, tell)
    restored.absent = sum(not storage.path(file_id).exists() for file_id in promised)
    restored.newer = set_aside(storage, set(storage.stored_ids()) - promised.keys(), restored.aside)
    return restored


def _restore_files(
    storage: Storage, archive: tarfile.TarFile, promised: dict[UUID, str], restored: Restored, tell: Tell
) -> None:
    done = 0
    for file_id, size, content in _stored(archive):
        # A file that was deleted while the backup was made has no row.
        if (sha256 := promised.get(file_id)) is None:
            continue
        # Bytes that were in the archive before are named there by their first id.
        if isinstance(content, UUID):
            is_whole = put_again(storage, file_id, content, sha256=sha256)
        else:
            is_whole = put(storage, file_id, content, sha256=sha256)
        if is_whole:
            restored.files += 1
        else:
            restored.damaged.append(file_id)
        done += size
        tell("files", done, restored.manifest.bytes)


async def _sizes(connection: Connection, node: UUID) -> dict[UUID, int]:
    found: dict[UUID, int] = {}
    while page := await files.of_node(connection, node, after=max(found, default=FIRST_ID), limit=PAGE):
        found |= page
    return found


async def _promised(connection: Connection, node: UUID) -> dict[UUID, str]:
    found: dict[UUID, str] = {}
    while page := await files.promised(connection, node, after=max(found, default=FIRST_ID), limit=PAGE):
        found |= page
    return found


def _add_files(archive: tarfile.TarFile, storage: Storage, named: dict[UUID, int], tell: Tell) -> int:
    """Add the files; return how many are gone by now."""
    gone = done = 0
    for file_id, size in named.items():
        try:
            # Never larger than the row says: bytes in storage do not change.
            archive.add(storage.path(file_id), f"{FILES}{file_id}", recursive=False, filter=_anonymous)
        except FileNotFoundError:
            gone += 1
        done += size
        tell("files", done, sum(named.values()))
    return gone


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Without the user of this machine."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode = 0o600
    return member


def _add_bytes(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = _anonymous(tarfile.TarInfo(name))
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def _member(archive: tarfile.TarFile, name: str) -> IO[bytes]:
    member = archive.next()
    content = archive.extractfile(member) if member is not None and member.name == name else None
    if content is None:
        raise BackupError(f"This is not a backup of vidqueue: it has no {name}.")
    return content


def _manifest(archive: tarfile.TarFile) -> Manifest:
    try:
        read: dict[str, Any] = json.loads(_member(archive, MANIFEST).read(MANIFEST_LIMIT))
        if read["format"] != FORMAT:
            raise BackupError(f"The archive has format {read['format']}; this version reads format {FORMAT}.")
        return Manifest(**read)
    except (ValueError, TypeError, KeyError):
        raise BackupError(f"This is not a backup of vidqueue: its {MANIFEST} is not readable.") from None


def _stored(archive: tarfile.TarFile) -> Iterator[tuple[UUID, int, IO[bytes] | UUID]]:
    """Yield the files of the archive: id, size, and the bytes or the id under which the same bytes came before.

    Members of other names are passed over, so no name leads out of the folder.
    """
    while (member := archive.next()) is not None:
        file_id = _id_of(member.name)
        if file_id is not None and member.isreg() and (content := archive.extractfile(member)) is not None:
            yield file_id, member.size, content
        elif file_id is not None and member.islnk() and (earlier := _id_of(member.linkname)) is not None:
            yield file_id, 0, earlier


def _id_of(name: str) -> UUID | None:
    try:
        return UUID(name.removeprefix(FILES)) if name.startswith(FILES) else None
    except ValueError:
        return None


async def _require_empty(database: Database, manifest: Manifest) -> None:
    async with database.transaction() as connection:
        found = await tables.schemas(connection, programs.SCHEMAS)
        server = await tables.server_version(connection)
    if found:
        raise BackupError(f"The database is not empty: it has the schemas {', '.join(found)}. Use an empty database.")
    if server < manifest.postgresql:
        raise BackupError(
            f"The backup comes from PostgreSQL {manifest.postgresql}, and this server has {server}. "
            "Use that version or a newer one."
        )


def _require_folder(storage: Storage, manifest: Manifest) -> None:
    """Refuse a data folder with the files of another database, which would be taken for files without a row."""
    wanted = {DATABASE: manifest.installation, "node_id": manifest.node}
    for name, value in wanted.items():
        if storage.read_or_create(name, value) != value:
            raise BackupError(
                f"{storage.folder} belongs to another installation than this backup. Use a new data folder, "
                f"or the one that the backup was made of."
            )


def _stamp() -> str:
    return datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
