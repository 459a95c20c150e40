"""Free space on the volume of a folder, compared with the low-water mark of the configuration."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

from vidqueue.errors import VidqueueError
from vidqueue.ops.threads import ThreadPool

MEBIBYTE = 1 << 20
# How far above the mark free space must be before work begins again, so that lanes do not alternate around it.
MARGIN = 1.1
# How much an upload without Content-Length reserves at a time.
STEP = 16 * MEBIBYTE


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
        # Uploads that receive no more although they are not whole, until their bytes are removed.
        self._ending: dict[object, asyncio.Event] = {}
        self._ended = 0

    async def require(self, size: int) -> None:
        """Refuse an upload of this size if there is no space for it now; this reserves nothing.

        Raises:
            VidqueueError: `no_space` or `storage_unreachable`.
        """
        usage = await self._threads.run(shutil.disk_usage, self._folder)
        if usage.free - sum(self._unwritten.values()) - size < self._low_water:
            raise _no_space()

    @asynccontextmanager
    async def counted(self, body: AsyncIterator[bytes], announced: int | None) -> AsyncIterator[AsyncIterator[bytes]]:
        """Yield an upload whose pieces come while there is space for it; `announced` is its size, if known.

        The block receives it, and removes what it does not keep: then others get the space that it has reserved. Its
        pieces raise `no_space` and `storage_unreachable`, before the first one or between two.
        """
        upload = object()
        self._unwritten[upload] = 0
        try:
            async with aclosing(self._pieces(upload, body, announced)) as pieces:
                yield pieces
        finally:
            del self._unwritten[upload]
            if upload in self._ending:
                self._ended += 1
                self._ending.pop(upload).set()

    async def _pieces(
        self, upload: object, body: AsyncIterator[bytes], announced: int | None
    ) -> AsyncGenerator[bytes, None]:
        checked_at = written = 0
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
        except BaseException:
            self._ending[upload] = asyncio.Event()
            raise

    async def _reserve(self, upload: object, size: int) -> None:
        """Reserve space; if there is too little, wait for that of uploads which are being removed.

        Otherwise all uploads that fill the disk together would be refused at one moment, although some have room
        without the others.
        """
        while True:
            ended = self._ended
            if await self._has_reserved(upload, size):
                return
            # The bytes of one that has ended meanwhile may still have been there when the free space was read.
            if self._ended == ended:
                if not self._ending:
                    raise _no_space()
                await next(iter(self._ending.values())).wait()

    async def _has_reserved(self, upload: object, size: int) -> bool:
        async with self._reserving:
            usage = await self._threads.run(shutil.disk_usage, self._folder)
            wanted = sum(self._unwritten.values()) + size
            if usage.free - wanted < self._low_water:
                return False
            self._unwritten[upload] += size
            return True


def _no_space() -> VidqueueError:
    return VidqueueError("no_space", "There is not enough free disk space for this upload.")
