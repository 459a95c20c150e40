"""Storage of file bytes: a local folder with one file per id, written aside, synced, and renamed when complete.

Names that users give are in the database only; names on disk are ids. A writer keeps a lock (flock) on new bytes until
it is decided whether a row names them. The lock ends with its process, so no clock decides whether a writer is at work.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from collections.abc import AsyncIterator, Collection, Iterable, Iterator
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from uuid import UUID, uuid4

from uuid_utils.compat import uuid7

from vidqueue.errors import VidqueueError
from vidqueue.ops.threads import ThreadPool
from vidqueue.output_errors import irregular, outside, unwritten
from vidqueue.storage.descriptors import Incoming, digest_of, lock, no_space_as_error, try_lock
from vidqueue.storage.trees import remove_tree

# Longer than an upload may pause, and longer than it may be unknown whether a COMMIT without an answer succeeded.
OLD_S = 3600
# Longer than a job waits for the next try of a download.
PARTS_OLD_S = 86_400
# A disk that works writes a piece within milliseconds, or within seconds when it is busy.
HANGS_AFTER_S = 60.0


@dataclass(frozen=True, slots=True)
class Stored:
    """A file in storage: id, size in bytes, sha256 in hex, and blake3 if it arrived as an upload."""

    id: UUID
    size: int
    sha256: str
    blake3: str | None = None


class Storage:
    """Stores bytes in the folders `files` (complete), `incoming`, `uploads`, `fetching` (not complete), `work`."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._files = data_dir / "files"
        self._incoming = data_dir / "incoming"
        self._work = data_dir / "work"
        self._fetching = data_dir / "fetching"
        self._uploads = data_dir / "uploads"
        self._locked: dict[UUID, int] = {}
        # For calls that take milliseconds, for those that read or sync whole files, and for what nobody waits for.
        self.threads = ThreadPool("data folder", size=8, hangs_after_s=HANGS_AFTER_S, code="storage_unreachable")
        self.long_threads = ThreadPool("data folder, whole files", size=8)
        self.cleaning = ThreadPool("data folder, cleaning", size=2)
        for folder in (self._files, self._incoming, self._work, self._fetching, self._uploads):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    @property
    def folder(self) -> Path:
        """Return the data folder."""
        return self._data_dir

    @cached_property
    def node(self) -> UUID:
        """Return the id of this data folder."""
        return UUID(self.read_or_create("node_id", str(uuid4())))

    def read_or_create(self, name: str, value: str) -> str:
        """Return the content of the file `name` in the data folder; create it with `value` if it does not exist."""
        path = self._data_dir / name
        if not path.exists():
            aside = path.with_suffix(f".{uuid4().hex}")
            aside.write_text(value, encoding="ascii")
            # Not a rename: another process may be first, and both must read the same value.
            with suppress(FileExistsError):
                path.hardlink_to(aside)
            aside.unlink()
        return path.read_text(encoding="ascii").strip()

    def path(self, file_id: UUID) -> Path:
        """Return the path of a file's bytes."""
        # Subfolders use the last byte of the UUIDv7, which is random; its first bytes are the time.
        return self._files / file_id.hex[-2:] / str(file_id)

    async def receive(self, chunks: AsyncIterator[bytes], *, limit: int) -> Stored:
        """Store a stream of at most `limit` bytes, which stay locked until `release`.

        Raises:
            VidqueueError: `payload_too_large`, `input_empty`, `no_space`; nothing stays on the disk.
        """
        file_id, size = uuid7(), 0
        incoming = Incoming(self._incoming / str(file_id))
        try:
            await self.threads.run(incoming.open)
            async for chunk in chunks:
                size += len(chunk)
                if size > limit:
                    raise VidqueueError("payload_too_large", f"The upload is larger than {limit} bytes.")
                await self.threads.run(incoming.write, chunk)
            if size == 0:
                raise VidqueueError("input_empty", "The upload has no bytes.")
            hashes = await self.long_threads.run(incoming.finish, partial(self._settle, file_id=file_id))
        except BaseException:
            with suppress(VidqueueError):
                await self.threads.run(self._drop, incoming, file_id)
            raise
        return Stored(file_id, size, hashes.sha256, hashes.blake3)

    def link(self, source: UUID) -> UUID:
        """Hard-link stored bytes under a second id, and return it; they stay locked until `release`. It blocks.

        Raises:
            FileNotFoundError: the bytes are gone.
        """
        file_id = uuid7()
        descriptor = os.open(self.path(source), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            # Shared: the bytes may be taken several times at once, and no lock for removal is given meanwhile.
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            target = self.path(file_id)
            target.parent.mkdir(mode=0o700, exist_ok=True)
            target.hardlink_to(self.path(source))
        except BaseException:
            os.close(descriptor)
            raise
        self._locked[file_id] = descriptor
        return file_id

    def upload_path(self, upload_id: UUID) -> Path:
        """Return the path of an upload that arrives in pieces."""
        return self._uploads / str(upload_id)

    def uploads_older_than(self, seconds: float) -> list[UUID]:
        """Return the uploads in pieces to which nothing was written for some seconds."""
        return [UUID(path.name) for path in self._uploads.iterdir() if _is_old(path, seconds)]

    def adopt(self, path: Path, workspace: Path, known_sha256: str | None = None) -> Stored:
        """Move a finished file out of an attempt's workspace into storage; it stays locked until `release`.

        With `known_sha256` it is a further name of stored bytes, which are not read again.

        Raises:
            VidqueueError: `bad_output` if it is not a regular file of that workspace, `no_space`.
        """
        file_id = uuid7()
        if path.parent != workspace and path.parent.resolve() != workspace.resolve():
            raise outside(path)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise _not_opened(path, error) from error
        try:
            facts = os.fstat(descriptor)
            if not stat.S_ISREG(facts.st_mode):
                raise irregular(path)
            sha256 = known_sha256 or digest_of(descriptor)
            with no_space_as_error():
                # A processor may give its file two names, and return both.
                shared = known_sha256 is not None or os.fstat(descriptor).st_nlink > 1
                self._settle(descriptor, path, file_id, shared=shared)
        finally:
            os.close(descriptor)
        return Stored(file_id, facts.st_size, sha256)

    def settle(self, descriptor: int, path: Path, size: int, sha256: str) -> Stored:
        """Move written, hashed and locked bytes to their place in storage; they stay locked until `release`."""
        file_id = uuid7()
        with no_space_as_error():
            self._settle(descriptor, path, file_id)
        return Stored(file_id, size, sha256)

    def fetch_folder(self, job_id: UUID) -> Path:
        """Return the folder for what a job has downloaded in part. It may not exist."""
        return self._fetching / str(job_id)

    def release(self, file_id: UUID) -> None:
        """Unlock new bytes, once their row is committed or it is certain that none will be."""
        if (descriptor := self._locked.pop(file_id, None)) is not None:
            os.close(descriptor)

    def delete(self, file_id: UUID) -> None:
        """Remove the bytes of a file, if they exist."""
        self.path(file_id).unlink(missing_ok=True)

    def has(self, file_id: UUID, size: int) -> bool:
        """True if the bytes of a file are here, with the expected size."""
        try:
            return self.path(file_id).stat().st_size == size
        except FileNotFoundError:
            return False

    @asynccontextmanager
    async def lock_unlocked(self, file_ids: Collection[UUID]) -> AsyncIterator[list[UUID]]:
        """Lock those of these files that no other process has locked, and yield their ids; unlock them afterwards."""
        stack = ExitStack()

        def lock_all() -> list[UUID]:
            return [file_id for file_id in file_ids if stack.enter_context(try_lock(self.path(file_id)))]

        try:
            yield await self.long_threads.run(lock_all)
        finally:
            self.cleaning.submit(stack.close)

    def workspace_path(self, name: str) -> Path:
        """Return the path of a workspace. It may not exist."""
        return self._work / name

    def clear_scratch(self) -> None:
        """Remove scratch files of an earlier daemon. No attempt may be running; uploads may be."""
        for left in self._work.iterdir():
            remove_tree(left)
        for folder in self._fetching.iterdir():
            if _is_old(folder, PARTS_OLD_S):
                remove_tree(folder)
        for left in self._incoming.iterdir():
            with try_lock(left) as locked:
                if locked and _is_old(left):
                    left.unlink(missing_ok=True)

    def stored_ids(self) -> Iterator[UUID]:
        """Yield the id of every file in storage."""
        for path in self._files.glob("??/*"):
            # A file whose name is not an id is not one of ours.
            with suppress(ValueError):
                yield UUID(path.name)

    def old(self, file_ids: Iterable[UUID]) -> set[UUID]:
        """Return those of these files that are older than `OLD_S`."""
        return {file_id for file_id in file_ids if _is_old(self.path(file_id))}

    def _drop(self, incoming: Incoming, file_id: UUID) -> None:
        """Remove new bytes that nobody wants, wherever they are by now."""
        incoming.close()
        self.delete(file_id)
        self.release(file_id)

    def _settle(self, descriptor: int, path: Path, file_id: UUID, *, shared: bool = False) -> None:
        """Rename the bytes to their final name, and sync both.

        One sync is enough, and it comes last: Linux' journalling file systems (ext4, xfs, btrfs) write a file's rename
        with the file. A crash before it leaves a file without a row, which reconciliation removes.
        """
        target = self.path(file_id)
        if shared:
            # As in `link`: several may take the bytes at once.
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        else:
            lock(descriptor)
        # A duplicate keeps the lock when the descriptor is closed.
        self._locked[file_id] = os.dup(descriptor)
        try:
            try:
                path.rename(target)
            except FileNotFoundError:  # the first file of this subfolder
                target.parent.mkdir(mode=0o700, exist_ok=True)
                path.rename(target)
            os.fsync(descriptor)
        except BaseException:
            target.unlink(missing_ok=True)
            self.release(file_id)
            raise


def _is_old(path: Path, seconds: float = OLD_S) -> bool:
    try:
        return path.stat().st_mtime < time.time() - seconds
    except OSError:
        return False


def _not_opened(path: Path, error: OSError) -> VidqueueError:
    if error.errno == errno.ENOENT:
        return unwritten(path)
    if error.errno in (errno.ELOOP, errno.ENXIO):  # a symbolic link, a socket
        return irregular(path)
    return VidqueueError("bad_output", f"The output {path.name} cannot be read: {error.strerror}.")
