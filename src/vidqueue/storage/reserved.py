"""Reservation of disk space by an attempt before it writes, so that two large ones do not both run out of space."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from vidqueue.errors import VidqueueError, WaitingError, is_no_space
from vidqueue.storage.disk_space import MARGIN, MEBIBYTE

# The name of an empty file in a workspace which shows that its attempt has reserved space.
MARKER = ".reserved"
# The size of one allocation: some file systems write the blocks, so that a large one would take long.
_STEP = 256 * MEBIBYTE
_AGAIN_S = 20.0


class ReservedSpace:
    """Reserves disk space with the blocks of a file that has no name.

    Every other process sees the space as used, and the kernel frees it when this process ends, however it ends. Close
    it, or use it as a context manager, to free it before.
    """

    def __init__(self, workspace: Path, low_water_mib: int) -> None:
        """Reserve nothing yet. `workspace` lies in the folder with the workspaces of all attempts."""
        self._workspace = workspace
        # Lanes are blocked below the mark; what other programs write meanwhile must not block them at once.
        self._keep_free = int(low_water_mib * MEBIBYTE * MARGIN)
        self._size = 0
        self._marker = workspace / MARKER
        self._file = os.open(self._marker, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._marker.unlink()

    def __enter__(self) -> Self:
        """Return this."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        """Free the space."""
        self.close()

    def hold(self, size: int) -> None:
        """Change the reservation to this many bytes.

        Raises:
            WaitingError: there is not enough space now, and others have reserved some.
            VidqueueError: `no_space`.
        """
        if size > self._size:
            self._enlarge(size)
        elif size < self._size:
            os.ftruncate(self._file, size)
        self._size = size

    def close(self) -> None:
        """Free the space."""
        os.close(self._file)
        self._marker.unlink(missing_ok=True)

    def _enlarge(self, size: int) -> None:
        more = size - self._size
        if self._free() < more:
            raise self._refusal(more)
        self._marker.touch(mode=0o600)
        try:
            for begin in range(self._size, size, _STEP):
                os.posix_fallocate(self._file, begin, min(_STEP, size - begin))
        except OSError as error:
            os.ftruncate(self._file, self._size)
            if not is_no_space(error):
                raise
            raise self._refusal(more) from error
        # Another attempt may have looked at the same moment.
        if self._free() < 0:
            os.ftruncate(self._file, self._size)
            raise self._refusal(more)

    def _free(self) -> int:
        """Bytes above the low-water mark."""
        return shutil.disk_usage(self._workspace).free - self._keep_free

    def _refusal(self, more: int) -> VidqueueError | WaitingError:
        message = (
            f"This needs up to {-(-more // MEBIBYTE)} MiB of disk space, and {max(0, self._free()) // MEBIBYTE} MiB "
            "above the low-water mark are free."
        )
        if self._others_reserve():
            return WaitingError(
                "no_space", f"{message} Other jobs have reserved space.", retry_after_s=_AGAIN_S, for_jobs=True
            )
        return VidqueueError(
            "no_space", message, hint="Free disk space under the data folder, or ask for a shorter or smaller film."
        )

    def _others_reserve(self) -> bool:
        with suppress(OSError):
            return any(one != self._marker for one in self._workspace.parent.glob(f"*/{MARKER}"))
        return False
