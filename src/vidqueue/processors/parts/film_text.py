"""The text of an export: its subtitles, and how subtitles and title cards look."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vidqueue.media.film.fonts import Font, about_missing, fonts_of, missing
from vidqueue.media.film.subtitles import GUESSED, MOST_BYTES, Cue, TextStyle, encoding_of, read_subtitles
from vidqueue.media.source import check_source
from vidqueue.processors.base import Context
from vidqueue.processors.parts.export_params import ExportParams, SubtitleStyle
from vidqueue.processors.parts.film_settings import ComposeSettings

# Shares of the shorter side of the film.
_SUBTITLE = 0.07
_CARD = 0.1
_OUTLINE = 0.06  # of the size of the letters


def cues_of(params: ExportParams, ctx: Context) -> tuple[list[Cue], list[str]]:
    """Return the subtitles of the film, if any, and a warning if their encoding was guessed.

    Raises:
        VidqueueError: `unsupported_format`.
    """
    if params.subtitles is None:
        return [], []
    with check_source(ctx.input("subtitles")).opened() as file, open(file, "rb", closefd=False) as reading:
        data = reading.read(MOST_BYTES)
    guessed = "The subtitles are not UTF-8 and were read as Windows-1252; letters of other scripts are wrong."
    return read_subtitles(data), [guessed] if encoding_of(data) == GUESSED else []


def late_cues(cues: Sequence[Cue], length_s: float) -> list[str]:
    """Return a warning about subtitles that begin after the end of the film."""
    late = sum(cue.start_s >= length_s for cue in cues)
    return [f"{late} of {len(cues)} subtitles are not shown: the film ends before them."] if late else []


def fonts_for(params: ExportParams, cues: Sequence[Cue], ctx: Context) -> tuple[tuple[Font, ...], list[str]]:
    """Return the fonts for text in the film, and a warning about characters that they lack.

    Raises:
        VidqueueError: `processor_unavailable`, the configured font cannot be read.
    """
    drawn = cues if params.subtitle_mode == "burn" else ()
    text = "".join([*(cue.text for cue in drawn), *(clip.text or "" for clip in params.clips)])
    if not text:
        return (), []
    config: ComposeSettings = ctx.settings or ComposeSettings()
    fonts = fonts_of(Path(config.font_file) if config.font_file else None)
    lacking = missing(text, fonts)
    return fonts, [f"{about_missing(lacking)} compose.font_file names another font."] if lacking else []


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
