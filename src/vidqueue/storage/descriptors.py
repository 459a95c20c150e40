"""Open files: locks (flock), whole writes, digests, and full disks as errors with a code. Everything here blocks."""

from __future__ import annotations

import fcntl
import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from vidqueue.errors import VidqueueError, is_no_space
from vidqueue.storage.digests import Digests, Hashes

CHUNK = 1 << 20


def lock(descriptor: int) -> None:
    """Lock a file for this process.

    Raises:
        BlockingIOError: another process has locked it.
    """
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextmanager
def try_lock(path: Path) -> Iterator[bool]:
    """Lock the file for the block and yield True; yield False if another process has locked it or it does not open."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        yield False
        return
    try:
        locked = True
        try:
            lock(descriptor)
        except BlockingIOError:
            locked = False
        yield locked
    finally:
        os.close(descriptor)


@contextmanager
def no_space_as_error() -> Iterator[None]:
    """Raise `no_space` instead of the OSError of a full disk."""
    try:
        yield
    except OSError as error:
        if not is_no_space(error):
            raise
        raise VidqueueError("no_space", f"The data folder is full: {error.strerror}.") from error


def write_all(descriptor: int, chunk: bytes) -> None:
    """Write a chunk; one call of write(2) may take only a part of it."""
    view = memoryview(chunk)
    while view:
        view = view[os.write(descriptor, view) :]


def digest_of(descriptor: int) -> str:
    """Return the sha256 of the rest of a file, in hex."""
    digest = hashlib.sha256()
    while chunk := os.read(descriptor, CHUNK):
        digest.update(chunk)
    return digest.hexdigest()


class Incoming:
    """A new file that is written in pieces by threads, one at a time.

    A writer may be cancelled while a thread still writes for it: closing waits for that thread, and a write that comes
    after it fails instead of using a descriptor that means another file by then.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None
        self._digests = Digests()
        self._closed = False
        self._lock = threading.Lock()

    def open(self) -> None:
        """Create the file and lock it."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with self._lock:
            if not self._closed:
                self._descriptor = os.open(self._path, flags, 0o600)
                lock(self._descriptor)

    def write(self, chunk: bytes) -> None:
        """Append a piece."""
        with self._lock, no_space_as_error():
            self._digests.update(chunk)
            write_all(self._opened(), chunk)

    def finish(self, move: Callable[[int, Path], None]) -> Hashes:
        """Have the complete file moved to its place, and return its hashes."""
        with self._lock, no_space_as_error():
            move(self._opened(), self._path)
            self._close()
        return self._digests.result()

    def close(self) -> None:
        """Remove what was written, unless the file was moved."""
        with self._lock:
            if self._descriptor is not None:
                self._path.unlink(missing_ok=True)
            self._close()

    def _opened(self) -> int:
        if self._descriptor is None:
            raise ValueError("the file is closed")
        return self._descriptor

    def _close(self) -> None:
        self._closed = True
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
