"""Blocks laid by on the volume of the embedded database, given up when the server dies of a full volume.

PostgreSQL stops when its write-ahead log finds no room, and cannot start again without room for more of it. The blocks
of this file are that room. Who starts the server, and notices that it does not start, is `embedded`.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

import structlog

FILE = "vidqueue.ballast"
MIB = 1 << 20
# A server dies while it writes a new log segment of 16 MiB and gives back what it wrote: a volume with less than that
# free is full for it. Twice that, because other writers come and go.
FULL_BELOW = 32 * MIB
LOOK_AGAIN_S = 10

log = structlog.get_logger(__name__)


class DiskReserve:
    """The ballast of one database folder. With a size of 0 there is none, and one of earlier days is removed."""

    def __init__(self, folder: Path, size_mib: int, uid: int = -1, gid: int = -1) -> None:
        self._path = folder / FILE
        self._size = size_mib * MIB
        self._owner = (uid, gid)
        self._waits = False

    async def keep(self) -> None:
        """Lay it, and lay it anew once there is room again after it was given up."""
        while True:
            await asyncio.to_thread(self._see_to_it)
            await asyncio.sleep(LOOK_AGAIN_S)

    def is_full(self) -> bool:
        """Whether the server may have died for want of room."""
        return self._free() < FULL_BELOW

    def give_up(self) -> bool:
        """Turn the ballast into free space, and tell whether there was any."""
        try:
            given = self._path.stat().st_size
            self._path.unlink()
        except FileNotFoundError:
            return False
        log.error(
            "embedded_postgres_volume_full",
            folder=str(self._path.parent),
            given_up_mib=given // MIB,
            free_mib=self._free() // MIB,
            advice="Make room on this volume now: the next time there is no ballast to give up.",
        )
        return True

    def _see_to_it(self) -> None:
        if self._lies():
            return
        self._path.unlink(missing_ok=True)
        if self._size == 0:
            return
        # As much again must stay free: the last room is for the server.
        if (free := self._free()) >= 2 * self._size:
            self._lay()
        elif not self._waits:
            self._waits = True
            log.warning("ballast_waits_for_room", free_mib=free // MIB, needed_mib=2 * self._size // MIB)

    def _lies(self) -> bool:
        try:
            facts = self._path.stat()
        except FileNotFoundError:
            return False
        # A crash may have left one with holes.
        return facts.st_size == self._size > 0 and facts.st_blocks * 512 >= self._size

    def _lay(self) -> None:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            # The server's own file: it is synced with its others, and counts where quotas count. Where it is ours
            # anyway nothing is asked, since a service may be forbidden the call itself.
            if self._owner != (-1, -1):
                os.fchown(descriptor, *self._owner)
            os.posix_fallocate(descriptor, 0, self._size)
            os.fsync(descriptor)
        except OSError as error:
            self._path.unlink()
            log.warning("ballast_cannot_be_laid", path=str(self._path), error=str(error))
        else:
            self._waits = False
            log.info("ballast_laid", path=str(self._path), size_mib=self._size // MIB)
        finally:
            os.close(descriptor)

    def _free(self) -> int:
        return shutil.disk_usage(self._path.parent).free
