"""Disk reserve of the embedded database: a file that is deleted when the server cannot start on a full volume.

PostgreSQL stops when there is no space for its write-ahead log, and needs more of it to start again. The blocks of this
file are that space. `server` starts PostgreSQL and notices when it does not start.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

import structlog

FILE = "vidqueue.disk_reserve"
MIB = 1 << 20
# A server dies while it writes a new log segment of 16 MiB and removes what it wrote: a volume with less than that
# free is full for it. Twice that, because other writers come and go.
FULL_BELOW = 32 * MIB
LOOK_AGAIN_S = 10

log = structlog.get_logger(__name__)


class DiskReserve:
    """The disk reserve of one database folder. With a size of 0 there is none, and an earlier one is removed."""

    def __init__(self, folder: Path, size_mib: int, uid: int = -1, gid: int = -1) -> None:
        self._path = folder / FILE
        self._size = size_mib * MIB
        self._owner = (uid, gid)
        self._waiting = False

    async def keep(self) -> None:
        """Create the reserve, and create it again when there is space after it was released."""
        while True:
            await asyncio.to_thread(self._create_if_missing)
            await asyncio.sleep(LOOK_AGAIN_S)

    def is_full(self) -> bool:
        """True if the volume is so full that the server may have stopped for that reason."""
        return self._free() < FULL_BELOW

    def release(self) -> bool:
        """Delete the reserve file; True if there was one."""
        try:
            released = self._path.stat().st_size
            self._path.unlink()
        except FileNotFoundError:
            return False
        log.error(
            "embedded_postgres_volume_full",
            folder=str(self._path.parent),
            released_mib=released // MIB,
            free_mib=self._free() // MIB,
            advice="Make room on this volume now: the disk reserve is used up.",
        )
        return True

    def _create_if_missing(self) -> None:
        if self._exists():
            return
        self._path.unlink(missing_ok=True)
        if self._size == 0:
            return
        # As much again must stay free for the server.
        if (free := self._free()) >= 2 * self._size:
            self._create()
        elif not self._waiting:
            self._waiting = True
            log.warning("disk_reserve_waits_for_space", free_mib=free // MIB, needed_mib=2 * self._size // MIB)

    def _exists(self) -> bool:
        try:
            facts = self._path.stat()
        except FileNotFoundError:
            return False
        # A crash may have left a sparse file.
        return facts.st_size == self._size > 0 and facts.st_blocks * 512 >= self._size

    def _create(self) -> None:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            # It belongs to the server's user, for quotas. If that is our own user there is no call, because a service
            # may be forbidden to use it.
            if self._owner != (-1, -1):
                os.fchown(descriptor, *self._owner)
            os.posix_fallocate(descriptor, 0, self._size)
            os.fsync(descriptor)
        except OSError as error:
            self._path.unlink()
            log.warning("disk_reserve_not_created", path=str(self._path), error=str(error))
        else:
            self._waiting = False
            log.info("disk_reserve_created", path=str(self._path), size_mib=self._size // MIB)
        finally:
            os.close(descriptor)

    def _free(self) -> int:
        return shutil.disk_usage(self._path.parent).free
