"""Free space on the volume of a folder, compared with the low-water mark of the configuration."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path

from vidqueue.errors import VidqueueError
from vidqueue.ops.threads import ThreadPool

MEBIBYTE = 1 << 20
# How far above the mark free space must be before work begins again, so that lanes do not alternate around it.
MARGIN = 1.1
# How much an upload without Content-Length reserves at a time.
STEP = 16 * MEBIBYTE
# How long the removal of a refused upload's bytes may take, and how often others look meanwhile whether they are gone.
REMOVAL_S = 2.0
_LOOK_S = 0.05


def is_short_of_space(folder: Path, low_water_mib: int, *, was_short: bool = False) -> bool:
    """True if the folder's volume has less free space than the mark (MiB); 10 % more is needed if it `was_short`."""
    return shutil.disk_usage(folder).free < low_water_mib * MEBIBYTE * (MARGIN if was_short else 1)


class Reservations:
    """Reserves disk space for uploads, so that all of them together leave the low-water mark (MiB) free."""

    def __init__(self, folder: Path, low_water_mib: int, threads: ThreadPool) -> None:
        self._folder = folder
        self._low_water = low_water_mib * MEBIBYTE
        self._threads = threads
        # One at a time: each counts what the one before it has reserved.
        self._reserving = asyncio.Lock()
        # Bytes that each upload has reserved and not written yet.
        self._unwritten: dict[object, int] = {}
        # Until when the bytes of an upload that was refused may still be there.
        self._removed_by = float("-inf")

    async def counted(self, body: AsyncIterator[bytes], announced: int | None) -> AsyncIterator[bytes]:
        """Yield the pieces of an upload while there is space for it; `announced` is its size, if known.

        Raises:
            VidqueueError: `no_space` or `storage_unreachable`, before the first piece or between two.
        """
        upload = object()
        self._unwritten[upload] = checked_at = written = 0
        try:
            await self._reserve(upload, announced or STEP)
            async for piece in body:
                if len(piece) > self._unwritten[upload]:
                    await self._reserve(upload, max(STEP, len(piece)))
                elif written - checked_at >= STEP:
                    # Jobs and other programs write too.
                    await self._reserve(upload, 0)
                    checked_at = written
                yield piece
                # The consumer asks for the next piece once this one is on the disk.
                self._unwritten[upload] -= len(piece)
                written += len(piece)
        except VidqueueError:
            if written:
                self._removed_by = time.monotonic() + REMOVAL_S
            raise
        finally:
            del self._unwritten[upload]

    async def _reserve(self, upload: object, size: int) -> None:
        """Reserve space; if there is too little, wait for that of uploads that were refused just now.

        Otherwise all uploads that fill the disk together would be refused at one moment, although some have room
        without the others.
        """
        patience = time.monotonic() + REMOVAL_S
        while not await self._has_reserved(upload, size):
            if time.monotonic() >= min(patience, self._removed_by):
                raise VidqueueError("no_space", "There is not enough free disk space for this upload.")
            await asyncio.sleep(_LOOK_S)

    async def _has_reserved(self, upload: object, size: int) -> bool:
        async with self._reserving:
            usage = await self._threads.run(shutil.disk_usage, self._folder)
            wanted = sum(self._unwritten.values()) + size
            if usage.free - wanted < self._low_water:
                return False
            self._unwritten[upload] += size
            return True
