"""The partial file of a resumable upload, locked (flock) by the request that writes it.

The bytes that the database counts as received are synced. The file may have more, from a writer that was killed before
it could record them; those are cut off, because after a loss of power they may be anything.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path

from vidqueue.errors import VidqueueError
from vidqueue.storage.descriptors import CHUNK, lock, no_space_as_error, write_all
from vidqueue.storage.digests import Digests, Hashes


class Partial:
    """An open, locked file of an upload. Calls block; a call after `close` fails instead of using its descriptor."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None
        self._closed = False
        self._lock = threading.Lock()

    def open(self) -> None:
        """Open the file, which is made if it does not exist, and lock it.

        Raises:
            VidqueueError: `upload_locked`, `no_space`.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        with self._lock, no_space_as_error():
            if self._closed:
                return
            descriptor = os.open(self._path, flags, 0o600)
            try:
                lock(descriptor)
            except BlockingIOError:
                os.close(descriptor)
                raise VidqueueError("upload_locked", "Another request is sending bytes of this upload.") from None
            self._descriptor = descriptor

    def size(self) -> int:
        """Return how many bytes the file has."""
        return os.fstat(self._opened()).st_size

    def cut(self, size: int) -> None:
        """Cut off what is beyond `size`, and write from there on."""
        with self._lock:
            os.ftruncate(self._opened(), size)
            os.lseek(self._opened(), size, os.SEEK_SET)

    def write(self, chunk: bytes, digests: Digests | None) -> None:
        """Append a piece, and add it to the hashes."""
        with self._lock, no_space_as_error():
            write_all(self._opened(), chunk)
            if digests is not None:
                digests.update(chunk)

    def sync(self) -> None:
        """Wait until what was written is on the disk."""
        with self._lock, no_space_as_error():
            os.fsync(self._opened())

    def hashes(self) -> Hashes:
        """Read the whole file and return its hashes."""
        digests, offset = Digests(), 0
        while chunk := os.pread(self._opened(), CHUNK, offset):
            digests.update(chunk)
            offset += len(chunk)
        return digests.result()

    def link(self, target: Path) -> None:
        """Give the whole file its name in storage too. It keeps its own until the row of the file is committed."""
        target.parent.mkdir(mode=0o700, exist_ok=True)
        with no_space_as_error():
            # A daemon that was killed before its commit may have linked it.
            with suppress(FileExistsError):
                target.hardlink_to(self._path)
            os.fsync(self._opened())

    def close(self, *, remove: bool = False) -> None:
        """Unlock and close the file, and remove its name in the folder of uploads if nobody needs it any more."""
        with self._lock:
            self._closed = True
            if self._descriptor is not None:
                if remove:
                    self._path.unlink(missing_ok=True)
                os.close(self._descriptor)
                self._descriptor = None

    def _opened(self) -> int:
        if self._descriptor is None:
            raise ValueError("the file is closed")
        return self._descriptor
