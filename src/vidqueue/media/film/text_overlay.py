"""Draws text into pictures with a jailed ffmpeg: subtitles over a piece of a film, and title cards."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vidqueue.errors import VidqueueError
from vidqueue.media import ffmpeg
from vidqueue.media.arguments import QUIET
from vidqueue.media.film.fonts import Font, packaged
from vidqueue.media.film.subtitles import Cue, TextStyle, as_ass, within
from vidqueue.media.jail.sandbox import SandboxLimits
from vidqueue.media.sink import created


@dataclass(frozen=True, slots=True)
class Burned:
    """Subtitles that are drawn into the pictures of a film, with their times in it."""

    cues: tuple[Cue, ...]
    style: TextStyle
    fonts: tuple[Font, ...]

    def within(self, begin_s: float, end_s: float) -> list[Cue]:
        """The cues of a part of the film, with times from its beginning on."""
        return within(self.cues, begin_s, end_s)


@contextmanager
def text_filter(
    cues: Sequence[Cue], size: tuple[int, int], style: TextStyle, fonts: Sequence[Font] = ()
) -> Iterator[tuple[str, int]]:
    """The filter that draws cues, and the descriptor that it reads; for the time of the block.

    Without `fonts` it draws with the packaged font.

    The text is in memory that has no path, so the jail needs no file to be readable.
    """
    script = os.memfd_create("text")
    try:
        with os.fdopen(os.dup(script), "w", encoding="utf-8") as writing:
            writing.write(as_ass(cues, size, style, fonts or (packaged(),)))
        yield f"ass=filename=/proc/self/fd/{script}", script
    finally:
        os.close(script)


def write_card(
    text: str,
    path: Path,
    size: tuple[int, int],
    background: str,
    style: TextStyle,
    bounds: SandboxLimits,
    *,
    fonts: Sequence[Font],
) -> None:
    """Draw a title card into a new PNG file.

    Raises:
        VidqueueError: ffmpeg failed.
        CanceledError: the event of `bounds` was set.
    """
    with text_filter([Cue(0.0, 10.0, text)], size, style, fonts) as (drawn, script), created(path) as sink:
        arguments = [
            *QUIET, "-f", "lavfi", "-i", f"color=c={background}:s={size[0]}x{size[1]}:r=1,format=rgb24", "-vf", drawn,
            "-frames:v", "1", "-c:v", "png", "-f", "image2pipe", "-fd", str(sink.writing), "fd:",
        ]  # fmt: skip
        tally = ffmpeg.run(arguments, bounds, keep_open=[script, sink.writing], stdin=sink.reading)
    if tally.encoded != 1:
        raise VidqueueError("output_incomplete", "A title card was not written.")
