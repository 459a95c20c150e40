"""Active time: a monotonic clock of a process that stands still while the process is suspended (SIGSTOP).

The system's monotonic clock continues meanwhile, and a process cannot find out how long it was stopped. So the parent
writes that into eight bytes of shared memory before it sends SIGCONT, and timers of the child subtract it.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager

_SECONDS = struct.Struct("d")
# The stopwatch of the parent, where there is one.
_followed: list[mmap.mmap] = []


class Stopwatch:
    """The seconds that one child process was stopped for."""

    def __init__(self) -> None:
        self._memory: mmap.mmap | None = None

    @contextmanager
    def handed_over(self) -> Iterator[int]:
        """Reset the stopwatch for a child that is started in the block; the child passes the descriptor to `follow`."""
        descriptor = os.memfd_create("suspended", os.MFD_CLOEXEC)
        try:
            os.ftruncate(descriptor, mmap.PAGESIZE)
            self._memory = mmap.mmap(descriptor, mmap.PAGESIZE)
            yield descriptor
        finally:
            os.close(descriptor)

    def add(self, seconds: float) -> None:
        """Add seconds for which the child was stopped. Call it only while the child is stopped."""
        if self._memory is not None:
            (before,) = _SECONDS.unpack_from(self._memory)
            _SECONDS.pack_into(self._memory, 0, before + seconds)


def follow(descriptor: int) -> None:
    """Make `now` of this process subtract the stopwatch of its parent."""
    _followed.append(mmap.mmap(descriptor, mmap.PAGESIZE, prot=mmap.PROT_READ))
    os.close(descriptor)


def now() -> float:
    """Return the monotonic time in seconds, without the time for which this process was suspended."""
    return time.monotonic() - sum(float(_SECONDS.unpack_from(memory)[0]) for memory in _followed)
