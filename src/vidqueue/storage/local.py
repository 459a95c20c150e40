"""Where bytes live: a local folder, one file per id. Written aside, synced, then renamed; never half there.

Users' names are labels in the database; the names on disk are ours. New bytes are *in hand* until it is decided whether
a row names them: their writer holds a lock on them that ends with its process, so no clock tells who is still at work.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import shutil
import stat
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from uuid import UUID, uuid4

import structlog
from uuid_utils.compat import uuid7

from vidqueue.errors import VidqueueError, is_no_space

CHUNK = 1 << 20
# No upload pauses for so long, and no lost answer to a COMMIT stays unclear for so long.
OLD_S = 3600

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Stored:
    """Bytes that lie in storage: id, size in bytes, sha256 in hex."""

    id: UUID
    size: int
    sha256: str


class Storage:
    """The folders `files` (published), `incoming` (being written) and `work` (scratch of running attempts)."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._files = data_dir / "files"
        self._incoming = data_dir / "incoming"
        self._work = data_dir / "work"
        self._in_hand: dict[UUID, int] = {}
        for folder in (self._files, self._incoming, self._work):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    @cached_property
    def node(self) -> UUID:
        """The identity of this data folder."""
        return UUID(self.remembered("node_id", str(uuid4())))

    def remembered(self, name: str, value: str) -> str:
        """The word kept under `name` in the data folder; `value` becomes it where there is none yet."""
        path = self._data_dir / name
        if not path.exists():
            aside = path.with_suffix(f".{uuid4().hex}")
            aside.write_text(value, encoding="ascii")
            # Not a rename: another process may be first, and both have to read the same word.
            with suppress(FileExistsError):
                path.hardlink_to(aside)
            aside.unlink()
        return path.read_text(encoding="ascii").strip()

    def path(self, file_id: UUID) -> Path:
        """Where the bytes of a file lie."""
        # The last byte is random in a UUIDv7, the first ones are the clock: spread by the random one.
        return self._files / file_id.hex[-2:] / str(file_id)

    async def receive(self, chunks: AsyncIterator[bytes], *, limit: int) -> Stored:
        """Store a stream of at most `limit` bytes; they are in hand until `release`.

        Raises:
            VidqueueError: `payload_too_large`, `input_empty`, `no_space`; nothing is left behind.
        """
        file_id = uuid7()
        digest, size = hashlib.sha256(), 0
        with self._aside(file_id) as (descriptor, path):
            async for chunk in chunks:
                size += len(chunk)
                if size > limit:
                    raise VidqueueError("payload_too_large", f"The upload is larger than {limit} bytes.")
                digest.update(chunk)
                with _told_when_full():
                    await asyncio.to_thread(_write_all, descriptor, chunk)
            if size == 0:
                raise VidqueueError("input_empty", "The upload has no bytes.")
            with _told_when_full():
                await asyncio.to_thread(self._settle, descriptor, path, file_id)
        return Stored(file_id, size, digest.hexdigest())

    def adopt(self, path: Path, workspace: Path) -> Stored:
        """Move a finished file out of an attempt's workspace into storage; it is in hand until `release`.

        Raises:
            VidqueueError: `bad_output` if it is not a regular file of that workspace, `no_space`.
        """
        file_id = uuid7()
        if path.parent.resolve() != workspace.resolve():
            raise VidqueueError("bad_output", f"The output {path.name} does not lie in the workspace.")
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise VidqueueError("bad_output", f"The output {path.name} cannot be read: {error.strerror}.") from error
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise VidqueueError("bad_output", f"The output {path.name} is not a regular file.")
            size, sha256 = os.fstat(descriptor).st_size, _digest(descriptor)
            with _told_when_full():
                self._settle(descriptor, path, file_id)
        finally:
            os.close(descriptor)
        return Stored(file_id, size, sha256)

    def release(self, file_id: UUID) -> None:
        """Let go of new bytes, once their row is written or never will be."""
        if (descriptor := self._in_hand.pop(file_id, None)) is not None:
            os.close(descriptor)

    def delete(self, file_id: UUID) -> None:
        """Remove the bytes of a file; it may be gone already."""
        self.path(file_id).unlink(missing_ok=True)

    def holds(self, file_id: UUID, size: int) -> bool:
        """Whether the bytes of a file lie here, all of them."""
        try:
            return self.path(file_id).stat().st_size == size
        except FileNotFoundError:
            return False

    @contextmanager
    def taken(self, file_ids: Iterable[UUID]) -> Iterator[list[UUID]]:
        """Those of these files that no process has in hand, for the time of the block in ours."""
        with ExitStack() as stack:
            yield [file_id for file_id in file_ids if stack.enter_context(_free(self.path(file_id)))]

    @contextmanager
    def workspace(self, name: str) -> Iterator[Path]:
        """An empty private folder, removed at the end of the block."""
        folder = self._work / name
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError:
            _remove_whole(folder)
            folder.mkdir(mode=0o700)
        try:
            yield folder
        finally:
            try:
                # What a processor leaves is nothing, as a rule.
                folder.rmdir()
            except OSError:
                _remove_whole(folder)

    def clear_scratch(self) -> None:
        """Remove what an earlier daemon left behind; call it while no attempt runs. Uploads may be under way."""
        for left in self._work.iterdir():
            _remove_whole(left)
        for left in self._incoming.iterdir():
            with _free(left) as free:
                if free and _is_old(left):
                    left.unlink(missing_ok=True)

    def stored_ids(self) -> Iterator[UUID]:
        """Id of every file that lies in storage."""
        for path in self._files.glob("??/*"):
            # Not ours if it has no id for a name.
            with suppress(ValueError):
                yield UUID(path.name)

    def old(self, file_ids: Iterable[UUID]) -> set[UUID]:
        """Those of these files that did not come just now."""
        return {file_id for file_id in file_ids if _is_old(self.path(file_id))}

    @contextmanager
    def _aside(self, file_id: UUID) -> Iterator[tuple[int, Path]]:
        path = self._incoming / str(file_id)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            _lock(descriptor)
            yield descriptor, path
        finally:
            os.close(descriptor)
            path.unlink(missing_ok=True)

    def _settle(self, descriptor: int, path: Path, file_id: UUID) -> None:
        """Give the bytes their final name, and sync both.

        One sync is enough, and it comes last: Linux' journalling file systems (ext4, xfs, btrfs) write a file's rename
        with the file. A crash before it leaves a name without a row, which reconcile removes.
        """
        target = self.path(file_id)
        target.parent.mkdir(mode=0o700, exist_ok=True)
        _lock(descriptor)
        # A duplicate keeps the lock when the descriptor is closed.
        self._in_hand[file_id] = os.dup(descriptor)
        path.rename(target)
        os.fsync(descriptor)


def _lock(descriptor: int) -> None:
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextmanager
def _free(path: Path) -> Iterator[bool]:
    """Whether nobody has the bytes in hand, who are in ours for the time of the block; no where one cannot ask."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        yield False
        return
    try:
        free = True
        try:
            _lock(descriptor)
        except BlockingIOError:
            free = False
        yield free
    finally:
        os.close(descriptor)


def _is_old(path: Path) -> bool:
    try:
        return path.stat().st_mtime < time.time() - OLD_S
    except OSError:
        return False


def _remove_whole(path: Path) -> None:
    """Remove what a processor left, also folders it forbade to write, as an unpacked archive has them; or tell."""
    shutil.rmtree(path, ignore_errors=True)
    if not os.path.lexists(path):
        return
    try:
        if path.is_symlink() or not path.is_dir():
            path.unlink()
            return
        path.chmod(0o700)
        for parent, folders, _ in os.walk(path):
            for folder in (Path(parent, name) for name in folders):
                # Where a link leads is nobody's scratch.
                if not folder.is_symlink():
                    folder.chmod(0o700)
        shutil.rmtree(path)
    except OSError as error:
        log.error("scratch_not_removed", path=str(path), error=str(error), hint="remove it by hand")


@contextmanager
def _told_when_full() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if not is_no_space(error):
            raise
        raise VidqueueError("no_space", f"The data folder is full: {error.strerror}.") from error


def _write_all(descriptor: int, chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        view = view[os.write(descriptor, view) :]


def _digest(descriptor: int) -> str:
    digest = hashlib.sha256()
    while chunk := os.read(descriptor, CHUNK):
        digest.update(chunk)
    return digest.hexdigest()
