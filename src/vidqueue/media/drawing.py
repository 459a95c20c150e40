"""Burns a subtitle track of the source into the pictures of the result (hard subtitles)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from vidqueue.media.facts import MediaFacts
from vidqueue.media.film.fonts import about_missing, missing, packaged
from vidqueue.media.film.subtitles import Cue, TextStyle, within
from vidqueue.media.film.text_overlay import text_filter
from vidqueue.media.jail.sandbox import SandboxLimits
from vidqueue.media.source import Source
from vidqueue.media.texts import read_cues, to_draw

# Shares of the shorter side, of the letters, and of the height.
_LETTERS, _OUTLINE, _MARGIN = 0.07, 0.06, 0.05


@dataclass(frozen=True, slots=True)
class Drawn:
    """The cues to draw, with times from the beginning of the result, and the index of their track; None if none."""

    cues: tuple[Cue, ...] = ()
    track: int | None = None
    warnings: tuple[str, ...] = ()

    @contextmanager
    def filter(self, size: tuple[int, int], *, alpha: bool = False) -> Iterator[tuple[list[str], list[int]]]:
        """The filter that draws them in pictures of this size, and the descriptors that it reads; both may be empty."""
        if not self.cues:
            yield [], []
            return
        letters = min(size) * _LETTERS
        style = TextStyle(size=letters, outline=letters * _OUTLINE, margin=size[1] * _MARGIN)
        with text_filter(self.cues, size, style) as (words, descriptor):
            yield [words + (":alpha=1" if alpha else "")], [descriptor]


NOTHING_DRAWN = Drawn()


def drawn(
    source: Source, facts: MediaFacts, bounds: SandboxLimits, begin_s: float = 0.0, end_s: float = math.inf
) -> Drawn:
    """Read the subtitles of a part of the source for burning in; a warning if there are none that can be drawn.

    Raises:
        VidqueueError: the track cannot be read.
        CanceledError: the event of `bounds` was set.
    """
    track = to_draw(facts)
    if track is None:
        what = "its subtitles are pictures" if facts.subtitle_tracks else "the file has none"
        return Drawn(warnings=(f"No subtitles were drawn: {what}.",))
    cues = tuple(within(read_cues(source, track, bounds), begin_s, end_s))
    lacking = missing("".join(cue.text for cue in cues), [packaged()])
    return Drawn(cues, track.index, (about_missing(lacking),) if lacking else ())
