"""Subtitles: reading SRT and WebVTT, writing SRT, and writing ASS for the filter that draws them. No IO.

What a file says is text and nothing else: its markup is dropped, and what ASS would obey is escaped.
"""

from __future__ import annotations

import itertools
import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from vidqueue.errors import VidqueueError
from vidqueue.media.film.fonts import Font, runs
from vidqueue.media.film.wrapping import wrapped

MOST_BYTES = 4 * 1024 * 1024
GUESSED = "cp1252"
_MOST_CUES = 20_000
_LONGEST_CUE = 2000
# More would not fit on a screen.
_MOST_AT_ONCE = 10
_TIME = r"(?:(\d{1,4}):)?(\d{1,2}):(\d{1,2})(?:[.,](\d{1,3}))?"
_ARROW = re.compile(rf"[ \t]*{_TIME}[ \t]{{0,9}}-->[ \t]{{0,9}}{_TIME}(?:[ \t].*)?")
_MARKUP = re.compile(r"<[^<>]{0,200}>|\{\\[^{}]{0,200}\}")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")

Position = Literal["bottom", "middle", "top"]
# Numbers of the keypad, as ASS has it.
_ALIGNMENTS: dict[Position, int] = {"bottom": 2, "middle": 5, "top": 8}


@dataclass(frozen=True, slots=True)
class Cue:
    """A text and when it is shown, in seconds."""

    start_s: float
    end_s: float
    text: str


@dataclass(frozen=True, slots=True)
class TextStyle:
    """How text looks: `size` and `outline` in pixels of the film, colours as #rrggbb."""

    size: float
    colour: str = "#ffffff"
    outline_colour: str = "#000000"
    outline: float = 2.0
    position: Position = "bottom"
    margin: float = 0.0
    box: bool = False


def read_subtitles(data: bytes) -> list[Cue]:
    """The cues of an SRT or WebVTT file, in the order of their time.

    Raises:
        VidqueueError: `unsupported_format`, there is not one cue in it.
    """
    cues: list[Cue] = []
    lines = _decoded(data[:MOST_BYTES]).splitlines()
    place = 0
    while place < len(lines) and len(cues) < _MOST_CUES:
        found = _ARROW.fullmatch(lines[place])
        place += 1
        if found is None:
            continue
        said = []
        while place < len(lines) and lines[place].strip():
            said.append(lines[place])
            place += 1
        text = _plain("\n".join(said)[: 2 * _LONGEST_CUE])[:_LONGEST_CUE]
        start_s, end_s = _seconds(found.groups()[:4]), _seconds(found.groups()[4:])
        if text and end_s > start_s:
            cues.append(Cue(start_s, end_s, text))
    if not cues:
        raise VidqueueError(
            "unsupported_format",
            "The subtitles are neither SRT nor WebVTT, or have no text.",
            hint="Give an .srt file.",
        )
    return sorted(cues, key=lambda cue: cue.start_s)


def within(cues: Sequence[Cue], begin_s: float, end_s: float) -> list[Cue]:
    """The cues that are shown in a part of the film, with times from its beginning on."""
    return [
        Cue(max(cue.start_s, begin_s) - begin_s, min(cue.end_s, end_s) - begin_s, cue.text)
        for cue in cues
        if cue.start_s < end_s and cue.end_s > begin_s
    ]


def one_at_a_time(cues: Sequence[Cue]) -> list[Cue]:
    """The same text at the same times in cues that do not overlap, for formats that show one cue at a time."""
    moments = sorted({moment for cue in cues for moment in (cue.start_s, cue.end_s)})
    coming = deque(sorted(cues, key=lambda cue: cue.start_s))
    found: list[Cue] = []
    shown: list[Cue] = []
    for begin_s, end_s in itertools.pairwise(moments):
        while coming and coming[0].start_s <= begin_s:
            shown.append(coming.popleft())
        shown = [cue for cue in shown[-_MOST_AT_ONCE:] if cue.end_s > begin_s]
        if shown:
            found.append(Cue(begin_s, end_s, "\n".join(cue.text for cue in shown)))
    return found


def as_srt(cues: Sequence[Cue]) -> str:
    """The cues as SRT."""
    blocks = [
        f"{number}\n{_srt_time(cue.start_s)} --> {_srt_time(cue.end_s)}\n{cue.text}\n"
        for number, cue in enumerate(cues, start=1)
    ]
    return "\n".join(blocks)


def as_ass(cues: Sequence[Cue], size: tuple[int, int], style: TextStyle, fonts: Sequence[Font]) -> str:
    """The cues as ASS that has its fonts with it, because the jail has none.

    Args:
        cues: what is shown, with times from the beginning of the pictures on.
        size: of the pictures.
        style: how it looks.
        fonts: each character is drawn with the first one that has it.
    """
    border, margin = 3 if style.box else 1, size[0] // 20
    room = (size[0] - 2 * margin) / max(1.0, style.size)
    cues = [replace(cue, text=wrapped(cue.text, room, fonts)) for cue in cues]
    look = (
        f"Default,{fonts[0].family},{style.size:.1f},{_colour(style.colour)},{_colour(style.colour)},"
        f"{_colour(style.outline_colour)},{_colour(style.outline_colour)},0,0,0,0,100,100,0,0,{border},{style.outline:.1f},0,"
        f"{_ALIGNMENTS[style.position]},{margin},{margin},{round(style.margin)},1"
    )
    events = [
        f"Dialogue: 0,{_ass_time(cue.start_s)},{_ass_time(cue.end_s)},Default,,0,0,0,,{_drawn(cue.text, fonts)}"
        for cue in cues
    ]
    files = [
        line
        for number, font in enumerate(dict.fromkeys([fonts[0], *_needed(cues, fonts)]))
        for line in (f"fontname: font{number}_0.ttf", font.encoded, "")
    ]
    return "\n".join([
        "[Script Info]", "ScriptType: v4.00+", f"PlayResX: {size[0]}", f"PlayResY: {size[1]}", "WrapStyle: 0",
        "ScaledBorderAndShadow: yes", "YCbCr Matrix: TV.709", "", "[V4+ Styles]", _STYLE_FORMAT, f"Style: {look}", "",
        "[Fonts]", *files, "[Events]",
        "Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text", *events, "",
    ])  # fmt: skip


_STYLE_FORMAT = (
    "Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, Bold, Italic, "
    "Underline, StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, Alignment, MarginL, MarginR, "
    "MarginV, Encoding"
)


def _decoded(data: bytes) -> str:
    return data.decode(encoding_of(data), "replace")


def encoding_of(data: bytes) -> str:
    """The encoding of a text; `GUESSED` if it is none that can be told from its bytes."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    if b"\0" in data[:200]:  # the same without a mark at its beginning; no other text has such a byte
        return "utf-16-be" if data[:1] == b"\0" else "utf-16-le"
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        # The last letter may be cut off.
        return "utf-8-sig" if error.start > len(data) - 4 and error.reason == "unexpected end of data" else GUESSED
    return "utf-8-sig"


def _plain(text: str) -> str:
    return _CONTROL.sub("", _MARKUP.sub("", text)).strip()


def _seconds(found: Sequence[str | None]) -> float:
    hours, minutes, seconds, fraction = (one or "0" for one in found)
    return int(hours) * 3600 + int(minutes) * 60 + int(seconds) + int(fraction.ljust(3, "0")) / 1000


def _srt_time(seconds: float) -> str:
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest // 1000:02},{rest % 1000:03}"


def _ass_time(seconds: float) -> str:
    # Down, so that the picture at that very moment belongs to it; ASS has hundredths.
    hundredths = int(seconds * 100 + 1e-6)
    minutes, rest = divmod(hundredths, 6000)
    return f"{minutes // 60}:{minutes % 60:02}:{rest // 100:02}.{rest % 100:02}"


def _needed(cues: Sequence[Cue], fonts: Sequence[Font]) -> Iterator[Font]:
    return (font for cue in cues for font, _ in runs(cue.text, fonts))


def _drawn(text: str, fonts: Sequence[Font]) -> str:
    """Text of ASS, with the name of the font before each part that the font before it cannot draw."""
    now, parts = fonts[0], []
    for font, part in runs(text, fonts):
        parts.append(_escaped(part) if font is now else f"{{\\fn{font.family}}}{_escaped(part)}")
        now = font
    return "".join(parts)


def _escaped(text: str) -> str:
    # A zero-width space after a backslash takes its meaning away.
    text = _CONTROL.sub("", text).replace("\\", "\\\u200b").replace("{", "\\{").replace("}", "\\}")
    return text.replace("\n", "\\N").replace("\t", " ")


def _colour(colour: str) -> str:
    red, green, blue = colour[1:3], colour[3:5], colour[5:7]
    return f"&H00{blue}{green}{red}".upper()
