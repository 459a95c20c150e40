"""A cache of rendered pieces, by content: a film whose list has changed renders only the pieces that are new.

The folder is shared by the lanes of a daemon. A piece enters it complete and synced, under a name made of everything
that decides its pictures, so there is nothing to lock; those that were not used for longest go first.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from vidqueue.errors import CanceledError
from vidqueue.media.ffmpeg import ffmpeg_version
from vidqueue.media.film.pieces import Look, Piece, recipe
from vidqueue.media.source import Source

# Another number where the same recipe makes other pictures.
_VERSION = 1
_BLOCK = 8 * 1024 * 1024


@dataclass(slots=True)
class PieceCache:
    """The pieces in a folder, at most `limit` bytes of them together."""

    folder: Path
    limit: int
    canceled: threading.Event
    _digests: dict[Path, str] = field(default_factory=dict)

    def name_of(self, piece: Piece, look: Look) -> str:
        """The name of a piece: a hash of its sources' bytes and of all that is done to them.

        Raises:
            CanceledError: the job was canceled.
        """
        sources = [self._digest(part.shot.source) for part in piece.parts]
        told = json.dumps([_VERSION, ffmpeg_version(), sources, recipe(piece, look)])
        return hashlib.sha256(told.encode()).hexdigest()

    def take(self, name: str, path: Path) -> bool:
        """Put a kept piece at a path that does not exist yet; False if it is not there."""
        kept = self.folder / name
        try:
            os.utime(kept)
            path.hardlink_to(kept)
        except OSError:
            return False
        return True

    def keep(self, name: str, path: Path) -> None:
        """Keep a finished piece, and remove those that were not used for longest where there are too many."""
        # A cache that cannot be written, as on a full disk, is only slower.
        with suppress(OSError):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with path.open("rb") as piece:
                os.fsync(piece.fileno())
            (self.folder / name).hardlink_to(path)
            self._trim()

    def _trim(self) -> None:
        found = sorted(((entry.stat(), entry) for entry in self.folder.iterdir()), key=lambda one: one[0].st_mtime)
        total = sum(stat.st_size for stat, _ in found)
        for stat, entry in found:
            if total <= self.limit:
                break
            # Another lane may have been faster.
            entry.unlink(missing_ok=True)
            total -= stat.st_size

    def _digest(self, source: Source) -> str:
        if source.path not in self._digests:
            digest = hashlib.sha256()
            with source.opened() as file:
                while block := os.read(file, _BLOCK):
                    if self.canceled.is_set():
                        raise CanceledError
                    digest.update(block)
            self._digests[source.path] = digest.hexdigest()
        return self._digests[source.path]
