"""The text of an export: its subtitles, and how subtitles and title cards look."""

from __future__ import annotations

from vidqueue.media.film.subtitles import MOST_BYTES, Cue, TextStyle, read_subtitles
from vidqueue.media.source import check_source
from vidqueue.processors.base import Context
from vidqueue.processors.export import ExportParams, SubtitleStyle

# Shares of the shorter side of the film.
_SUBTITLE = 0.07
_CARD = 0.1
_OUTLINE = 0.06  # of the size of the letters


def cues_of(params: ExportParams, ctx: Context) -> list[Cue]:
    """The subtitles of the film, if it has any.

    Raises:
        VidqueueError: `unsupported_format`.
    """
    if params.subtitles is None:
        return []
    with check_source(ctx.input("subtitles")).opened() as file, open(file, "rb", closefd=False) as reading:
        return read_subtitles(reading.read(MOST_BYTES))


def subtitle_style(style: SubtitleStyle, size: tuple[int, int]) -> TextStyle:
    """How subtitles look in a film of this size."""
    letters = min(size) * (style.size or _SUBTITLE)
    return TextStyle(
        size=letters,
        colour=style.colour,
        outline_colour=style.outline_colour,
        outline=letters * (style.outline if style.outline is not None else _OUTLINE),
        position=style.position,
        margin=size[1] * style.margin,
        box=style.box,
    )


def card_style(size: tuple[int, int], background: str) -> TextStyle:
    """How a title card looks: letters that stand out from the background, in the middle."""
    red, green, blue = (int(background[place : place + 2], 16) for place in (1, 3, 5))
    dark = 0.2126 * red + 0.7152 * green + 0.0722 * blue < 128
    return TextStyle(size=min(size) * _CARD, colour="#ffffff" if dark else "#000000", outline=0.0, position="middle")
