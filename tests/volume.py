"""A small file system of a test's own, which may run full."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

VOLUME_MB = 300


class Volume:
    """A small file system of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._filler = folder / "filler"

    def fill(self, *, leaving: int = 0) -> None:
        """Let another writer take the room."""
        with self._filler.open("ab") as filler:
            os.posix_fallocate(filler.fileno(), filler.tell(), self.free() - leaving)

    def make_room(self) -> None:
        self._filler.unlink()

    def free(self) -> int:
        return shutil.disk_usage(self.folder).free


def mounted(place: Path) -> Iterator[Volume]:
    """A tmpfs for the time of a test."""
    place.mkdir(mode=0o700, parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={VOLUME_MB}m,mode=0700", "tmpfs", str(place)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("a small volume cannot be made: there is no mount program")
    if done.returncode != 0:
        pytest.skip(f"a small volume cannot be made: {done.stderr.strip()}")
    try:
        yield Volume(place)
    finally:
        # Lazily: it goes from the tree now, and for good with the last process on it.
        subprocess.run(["umount", "--lazy", str(place)], check=True)
