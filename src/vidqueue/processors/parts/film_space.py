"""Reservation of disk space for an export: estimated before the first piece is rendered, and corrected afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vidqueue.media import ffmpeg
from vidqueue.media.film import join
from vidqueue.media.film.pieces import Look, Piece
from vidqueue.media.film.space import Canvas, Needs, byte_rate, most_bytes, sound_bytes
from vidqueue.storage.reserved import ReservedSpace

# The size of fewer pictures than these says nothing about that of the others. It should be known early that a piece is
# larger than expected: two films that both grow near their ends would make each other wait again and again.
_TELLING = 50


class FilmSpace:
    """The disk space that one film needs. Every method may raise the errors of `ReservedSpace.hold`."""

    def __init__(self, reserved: ReservedSpace, later: int) -> None:
        """Store the arguments; `later` bytes are needed after this film."""
        self._reserved, self._later = reserved, later
        self._needs = Needs([], 0, 0)

    def begin(self, pieces: Sequence[Piece], look: Look, kept: Sequence[Path | None]) -> None:
        """Reserve the space for rendering and joining. `kept` has the files of pieces that exist already."""
        canvas = Canvas(look.size, look.rate, look.quality)
        expected = [
            most_bytes(piece.frames, [byte_rate(part.shot.facts, look.size) for part in piece.parts], canvas)
            for piece, file in zip(pieces, kept, strict=True)
            if file is None
        ]
        # A long list is joined in two steps, and the cache keeps its pieces meanwhile.
        copies = 1 if len(pieces) <= join.MOST_AT_ONCE else 2
        beside = sound_bytes(sum(piece.frames for piece in pieces), look.rate, join.SOUND_KBIT)
        self._needs = Needs(expected, copies, beside, written=sum(_size(file) for file in kept if file))
        self._hold(0)

    def watched(self, file: join.Rendered, on_progress: ffmpeg.ProgressCallback) -> ffmpeg.ProgressCallback:
        """Return a progress callback for the next piece, which releases the space that has been written."""

        def seen(progress: ffmpeg.Seen) -> None:
            share = progress.frame / file.frames if progress.frame >= _TELLING else 0.0
            self._hold(_size(file.path), share)
            on_progress(progress)

        return seen

    def rendered(self, file: join.Rendered) -> None:
        """Update the reservation after a piece was rendered."""
        self._needs.rendered(_size(file.path))
        self._hold(0)

    def joining(self) -> None:
        """All pieces are there, and the film is copied from them: only what is needed after it stays reserved.

        The blocks of a reservation are of no use to a writer until it has shrunk, and a copy is as fast as the disk:
        the reports of its run come too late.
        """
        self._reserved.hold(self._later)

    def _hold(self, now: int, share: float = 0.0) -> None:
        self._reserved.hold(self._needs.left(now, share) + self._later)


def _size(path: Path) -> int:
    return path.stat().st_size
