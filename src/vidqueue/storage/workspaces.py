"""The workspaces of the attempts of one lane: private folders in the data folder, one at a time."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import uuid4

from vidqueue.storage.local import Storage
from vidqueue.storage.trees import make_empty, remove_trees

# How long a lane waits for the removal of a workspace.
REMOVAL_PATIENCE_S = 2.0
PRIVATE = stat.S_IFDIR | 0o700


class Workspaces:
    """Gives each attempt an empty private folder, inside an `async with`. There is one at a time.

    As a rule an attempt leaves nothing behind, because its outputs have been moved into storage. The next attempt then
    gets the same folder by another name: to create and remove a folder for each costs more, and on ext4 without a
    journal many times more, because it searches past every inode that was deleted lately. The thread that moves the
    outputs does that too (`renew`): to hand a call to a thread costs more than the call.

    Attributes:
        leftovers: further folders that go with the workspace; they may not exist.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._folder: Path | None = None
        self._renewed = False
        self.leftovers: list[Path] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._remove()

    async def begin(self, name: str) -> Path:
        """Return an empty folder, of this name or renewed; the one before, and what it left over, is gone.

        A tree that takes long to remove is removed while the lane goes on. Usually it is gone before, so that a lane
        begins its next job with the space that this one took.

        Raises:
            VidqueueError: the data folder does not respond.
        """
        if self._folder is None or not self._renewed:
            folder = self._storage.workspace_path(name)
            if self._folder is None or not await self._storage.threads.run(
                _rename_empty, self._folder, folder, self.leftovers
            ):
                await self._remove()
                await self._storage.threads.run(make_empty, folder)
            self._folder = folder
        self._renewed, self.leftovers = False, []
        return self._folder

    def renew(self, *beside: Path) -> None:
        """Make the folder of an attempt that is over the next one's, unless it left something there or in `beside`.

        It blocks. The name is a new one, so that whatever still writes for the old attempt does not find the folder.
        """
        folder = self._storage.workspace_path(uuid4().hex)
        if self._folder is not None and _rename_empty(self._folder, folder, beside):
            self._folder, self._renewed = folder, True

    async def _remove(self) -> None:
        left = [*self.leftovers] if self._folder is None else [self._folder, *self.leftovers]
        self._folder, self._renewed, self.leftovers = None, False, []
        if left:
            await asyncio.wait([self._storage.cleaning.submit(remove_trees, left)], timeout=REMOVAL_PATIENCE_S)


def _rename_empty(before: Path, folder: Path, leftovers: Sequence[Path]) -> bool:
    """Give the folder of the attempt before this name. False: it is not as it was given out, or something is left."""
    try:
        found = os.lstat(before)
        if found.st_mode != PRIVATE or found.st_uid != os.geteuid() or any(map(os.path.lexists, leftovers)):
            return False
        with os.scandir(before) as entries:
            if next(entries, None) is not None:
                return False
        # Another attempt has never had this name; what is there was left by a daemon before this one.
        before.rename(folder)
    except OSError:
        return False
    return True
