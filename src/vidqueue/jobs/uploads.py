"""Resumable uploads: files that arrive in pieces, over any number of connections and restarts of the daemon.

The database says how much has arrived, and only of bytes that are synced. The lock of the partial file keeps two
writers apart, in whatever processes they are. A whole upload becomes the stored file with its id.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from uuid import UUID

import structlog

from vidqueue.db.pool import Connection, Database
from vidqueue.db.tables import files, limits, uploads
from vidqueue.db.tables.files import NewFile
from vidqueue.db.tables.uploads import NewUpload, UploadRow
from vidqueue.errors import VidqueueError
from vidqueue.jobs import removal
from vidqueue.jobs.quota import require_room
from vidqueue.storage import names
from vidqueue.storage.descriptors import try_lock
from vidqueue.storage.digests import Digests, Hashes
from vidqueue.storage.disk_space import Reservations
from vidqueue.storage.local import OLD_S, Storage
from vidqueue.storage.partial import Partial

# Received bytes are synced and recorded after this many bytes or seconds, the most that a killed daemon can lose.
SAVE_BYTES, SAVE_S = 16 << 20, 2.0
# How many hash states are kept between requests; an upload without one is read again when it is complete.
HASHES_KEPT = 256
BATCH = 200
DAY_S = 86_400

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Writing:
    """An upload whose lock this request has. `received` counts what was written, `saved` what the database knows."""

    row: UploadRow
    partial: Partial
    received: int
    saved: int
    saved_at: float
    digests: Digests | None = None
    finished: bool = False


class Uploads:
    """Receives resumable uploads."""

    def __init__(
        self, database: Database, storage: Storage, reservations: Reservations, *, days: float, max_mib: int
    ) -> None:
        self._database = database
        self._storage = storage
        self._reservations = reservations
        self._keep_s = days * DAY_S
        self.max_size = max_mib << 20
        self._digests: OrderedDict[UUID, tuple[int, Digests]] = OrderedDict()

    async def begin(self, upload: NewUpload) -> UploadRow:
        """Create an upload.

        Raises:
            VidqueueError: `payload_too_large`, `limit_reached`, `no_space`.
        """
        if self.max_size and upload.length > self.max_size:
            raise VidqueueError("payload_too_large", f"An upload has at most {self.max_size} bytes.")
        # Space may be freed before the last byte comes, but a client that cannot send them all should learn it now.
        await self._reservations.require(upload.length)
        async with self._database.transaction() as connection:
            await require_room(connection, upload.owner, upload.length)
            if not await uploads.add(connection, upload, keep_s=self._keep_s):
                message = f"{upload.owner} has {uploads.MOST_UNFINISHED} unfinished uploads."
                raise VidqueueError("limit_reached", message, hint="Finish or delete some of them.")
            return await self._required(connection, upload.id, upload.owner)

    async def get(self, upload_id: UUID, *, owner: str | None) -> UploadRow:
        """Return an upload, with `received` as far as its bytes are there. One that is whole is finished first.

        Raises:
            VidqueueError: `not_found`, `upload_damaged`.
        """
        async with self._database.statement() as connection:
            row = await self._required(connection, upload_id, owner)
        if row.finished_at is not None or row.node != self._storage.node:
            return row
        if row.received == row.length:
            # A daemon was killed between the last byte and the file.
            async with self._writing(row) as writing:
                await self._finish(writing)
            return await self.get(upload_id, owner=owner)
        size = await self._storage.threads.run(_size_of, self._storage, upload_id)
        return replace(row, received=min(row.received, size))

    async def append(self, upload_id: UUID, offset: int, body: AsyncIterator[bytes], *, owner: str | None) -> UploadRow:
        """Append bytes at `offset`; what arrives is kept, however the body ends. The last byte makes the file.

        Raises:
            VidqueueError: `not_found`, `file_elsewhere`, `upload_locked`, `upload_offset`, `payload_too_large`,
                `limit_reached`, `no_space`, `upload_damaged`, or what `body` raises.
        """
        row = await self.get(upload_id, owner=owner)
        if row.node != self._storage.node:
            raise VidqueueError("file_elsewhere", "The bytes of this upload are in the data folder of another daemon.")
        if row.finished_at is not None:
            _require_offset(offset, row.length)
            return row
        async with self._writing(row) as writing:
            _require_offset(offset, writing.received)
            await self._storage.threads.run(writing.partial.cut, offset)
            writing.digests = self._digests_of(upload_id, offset)
            async with self._database.statement() as connection:
                await require_room(connection, row.owner, row.length - offset)
            try:
                await self._write(writing, body)
            finally:
                await self._save(writing)
                self._keep_digests(writing)
            if writing.received == row.length:
                await self._finish(writing)
        return await self.get(upload_id, owner=owner)

    async def remove(self, upload_id: UUID, *, owner: str | None) -> None:
        """Delete an upload with what has arrived. A file that it has become stays.

        Raises:
            VidqueueError: `not_found`.
        """
        async with self._database.transaction() as connection:
            if not await uploads.remove(connection, upload_id, owner=owner):
                raise _not_found(upload_id)
        self._digests.pop(upload_id, None)
        await self._storage.threads.run(_unlink, self._storage, [upload_id])

    @asynccontextmanager
    async def _writing(self, row: UploadRow) -> AsyncIterator[_Writing]:
        """Lock the upload for the block, and read again how many bytes have arrived."""
        partial = Partial(self._storage.upload_path(row.id))
        writing = None
        try:
            await self._storage.threads.run(partial.open)
            async with self._database.statement() as connection:
                row = await self._required(connection, row.id, row.owner)
            if row.finished_at is not None:
                raise VidqueueError("upload_locked", "Another request has just finished this upload.")
            received = min(row.received, await self._storage.threads.run(partial.size))
            writing = _Writing(row, partial, received, received, asyncio.get_running_loop().time())
            yield writing
        finally:
            done = writing is not None and writing.finished
            await self._storage.threads.run(partial.close, remove=done)

    async def _write(self, writing: _Writing, body: AsyncIterator[bytes]) -> None:
        clock = asyncio.get_running_loop().time
        async for chunk in body:
            if writing.received + len(chunk) > writing.row.length:
                raise VidqueueError("payload_too_large", f"The upload has {writing.row.length} bytes; more were sent.")
            await self._storage.threads.run(writing.partial.write, chunk, writing.digests)
            writing.received += len(chunk)
            if writing.received - writing.saved >= SAVE_BYTES or clock() - writing.saved_at >= SAVE_S:
                await self._save(writing)

    async def _save(self, writing: _Writing) -> None:
        """Sync the bytes that were written, and record their number."""
        if writing.received == writing.saved:
            return
        await self._storage.long_threads.run(writing.partial.sync)
        row = writing.row
        async with self._database.transaction() as connection:
            if not await uploads.received(connection, row.id, writing.received, keep_s=self._keep_s):
                raise _not_found(row.id)
            left = await limits.storage_left(connection, row.owner)
        writing.saved, writing.saved_at = writing.received, asyncio.get_running_loop().time()
        if left == 0 and writing.received < row.length:
            raise VidqueueError("limit_reached", f"{row.owner} may store no more bytes.", retry_after_s=60)

    async def _finish(self, writing: _Writing) -> None:
        """Make the file of a whole upload: link the bytes into storage, then write the row."""
        row, storage = writing.row, self._storage
        hashes = writing.digests.result() if writing.digests else None
        if hashes is None:
            hashes = await storage.long_threads.run(writing.partial.hashes)
        self._digests.pop(row.id, None)
        if row.sha256 not in (None, hashes.sha256):
            async with self._database.transaction() as connection:
                await uploads.remove(connection, row.id, owner=None)
            await storage.threads.run(_unlink, storage, [row.id])
            raise VidqueueError("upload_damaged", f"The bytes have the sha256 {hashes.sha256}, not {row.sha256}.")
        await storage.long_threads.run(writing.partial.link, storage.path(row.id))
        async with self._database.transaction() as connection:
            if not await uploads.finish(connection, row.id):
                await removal.remove_bytes(storage, [row.id])
                raise _not_found(row.id)
            await files.add(connection, _file_of(row, hashes))
        writing.finished = True

    def _digests_of(self, upload_id: UUID, offset: int) -> Digests | None:
        """Hashes of what has arrived, if this process has seen all of it."""
        at, digests = self._digests.pop(upload_id, (0, Digests()))
        return digests if at == offset else None

    def _keep_digests(self, writing: _Writing) -> None:
        if writing.digests is not None and writing.received < writing.row.length:
            self._digests[writing.row.id] = writing.received, writing.digests
            while len(self._digests) > HASHES_KEPT:
                self._digests.popitem(last=False)

    async def _required(self, connection: Connection, upload_id: UUID, owner: str | None) -> UploadRow:
        row = await uploads.get(connection, upload_id, owner=owner)
        if row is None:
            raise _not_found(upload_id)
        return row


async def remove_expired(database: Database, storage: Storage) -> int:
    """Remove uploads that expired, and bytes of uploads that are gone; return how many expired."""
    removed = 0
    while True:
        async with database.transaction() as connection:
            expired = await uploads.remove_expired(connection, storage.node, limit=BATCH)
        await storage.long_threads.run(_unlink, storage, expired)
        removed += len(expired)
        if len(expired) < BATCH:
            break
    old = await storage.long_threads.run(storage.uploads_older_than, OLD_S)
    for page in (old[at : at + BATCH] for at in range(0, len(old), BATCH)):
        async with database.transaction() as connection:
            needed = await uploads.which_unfinished(connection, page)
        await storage.long_threads.run(_unlink_unlocked, storage, set(page) - needed)
    return removed


def _file_of(row: UploadRow, hashes: Hashes) -> NewFile:
    return NewFile(
        id=row.id,
        owner=row.owner,
        name=row.name,
        media_type=names.media_type(row.media_type, row.name),
        size=row.length,
        sha256=hashes.sha256,
        blake3=hashes.blake3,
        node=row.node,
    )


def _require_offset(given: int, received: int) -> None:
    if given != received:
        raise VidqueueError("upload_offset", f"{received} bytes have arrived; the request begins at {given}.")


def _size_of(storage: Storage, upload_id: UUID) -> int:
    try:
        return storage.upload_path(upload_id).stat().st_size
    except FileNotFoundError:
        return 0


def _unlink(storage: Storage, ids: list[UUID]) -> None:
    for upload_id in ids:
        storage.upload_path(upload_id).unlink(missing_ok=True)


def _unlink_unlocked(storage: Storage, ids: set[UUID]) -> None:
    for upload_id in ids:
        with try_lock(storage.upload_path(upload_id)) as locked:
            if locked:
                storage.upload_path(upload_id).unlink(missing_ok=True)


def _not_found(upload_id: UUID) -> VidqueueError:
    return VidqueueError("not_found", f"There is no upload {upload_id}.", hint="It may have expired; begin a new one.")
