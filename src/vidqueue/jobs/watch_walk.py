"""Looks through watched folders and reads their files, in short calls in the threads of their root.

One call does a bounded part, so that a large folder or file on a slow network share is not taken for one that hangs.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import BinaryIO

from vidqueue.db.tables.watch_folders import Signature
from vidqueue.ops.threads import ThreadPool

ENTRIES = 200
PIECE = 8 << 20
# What programs call a file while they write it.
UNFINISHED = (".*", "*.part", "*.partial", "*.tmp", "*.crdownload", "*.filepart", "*~")


@dataclass(slots=True)
class Walk:
    """A walk through the files of a folder; symbolic links are not followed."""

    top: Path
    recursive: bool
    include: tuple[str, ...]
    without: Path | None
    found: dict[str, Signature] = field(default_factory=dict)
    _folders: list[Path] = field(default_factory=list)

    async def run(self, threads: ThreadPool, heartbeat: Callable[[], None]) -> dict[str, Signature]:
        """Return the files by their names below the folder.

        Raises:
            OSError: the folder cannot be read.
            VidqueueError: it does not respond.
        """
        self._folders = [self.top]
        while self._folders:
            with closing(await threads.run(os.scandir, self._folders.pop())) as entries:
                while await threads.run(self._look, entries):
                    heartbeat()
        return self.found

    def _look(self, entries: Iterator[os.DirEntry[str]]) -> bool:
        """Look at the next entries of a folder; False at its end."""
        for number, entry in enumerate(entries, 1):
            # A file may go while it is looked at.
            with suppress(FileNotFoundError):
                self._look_at(entry)
            if number == ENTRIES:
                return True
        return False

    def _look_at(self, entry: os.DirEntry[str]) -> None:
        if any(fnmatch(entry.name, pattern) for pattern in UNFINISHED) or not _is_text(entry.name):
            return
        path = Path(entry.path)
        if entry.is_dir(follow_symlinks=False):
            if self.recursive and path != self.without:
                self._folders.append(path)
        elif entry.is_file(follow_symlinks=False) and any(fnmatch(entry.name, one) for one in self.include):
            facts = entry.stat(follow_symlinks=False)
            if facts.st_size:
                self.found[str(path.relative_to(self.top))] = Signature(facts.st_size, facts.st_mtime_ns)


def _is_text(name: str) -> bool:
    """True if a name can be stored: Linux allows names that are not UTF-8."""
    return name.isprintable()


async def digest(path: Path, signature: Signature, threads: ThreadPool, heartbeat: Callable[[], None]) -> str | None:
    """Return the sha256 of a file; None if it is gone, or has changed since its signature was taken."""
    summed = hashlib.sha256()
    try:
        async for piece in _pieces(path, threads):
            heartbeat()
            await threads.run(summed.update, piece)
        facts = await threads.run(os.stat, path, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None
    same = stat.S_ISREG(facts.st_mode) and Signature(facts.st_size, facts.st_mtime_ns) == signature
    return summed.hexdigest() if same else None


async def _pieces(path: Path, threads: ThreadPool) -> AsyncIterator[bytes]:
    file: BinaryIO = await threads.run(_opened, path)
    try:
        while piece := await threads.run(file.read, PIECE):
            yield piece
    finally:
        threads.submit(file.close)


def _opened(path: Path) -> BinaryIO:
    # O_NONBLOCK: a pipe that has taken the name would be waited for.
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb", buffering=0)
