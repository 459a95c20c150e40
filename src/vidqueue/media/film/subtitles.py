"""Subtitles: reading SRT and WebVTT, writing SRT, and writing ASS for the filter that draws them. No IO.

What a file says is text and nothing else: its markup is dropped, and what ASS would obey is escaped.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from vidqueue.errors import VidqueueError

MOST_BYTES = 4 * 1024 * 1024
_MOST_CUES = 20_000
_LONGEST_CUE = 2000
_TIME = r"(?:(\d{1,4}):)?(\d{1,2}):(\d{1,2})[.,](\d{1,3})"
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


def as_srt(cues: Sequence[Cue]) -> str:
    """The cues as SRT."""
    blocks = [
        f"{number}\n{_srt_time(cue.start_s)} --> {_srt_time(cue.end_s)}\n{cue.text}\n"
        for number, cue in enumerate(cues, start=1)
    ]
    return "\n".join(blocks)


def as_ass(cues: Sequence[Cue], size: tuple[int, int], style: TextStyle, font: bytes) -> str:
    """The cues as ASS that has its font with it, because the jail has none.

    Args:
        cues: what is shown, with times from the beginning of the pictures on.
        size: of the pictures.
        style: how it looks.
        font: a TrueType file of DejaVu Sans.
    """
    border = 3 if style.box else 1
    look = (
        f"Default,DejaVu Sans,{style.size:.1f},{_colour(style.colour)},{_colour(style.colour)},"
        f"{_colour(style.outline_colour)},{_colour(style.outline_colour)},0,0,0,0,100,100,0,0,{border},{style.outline:.1f},0,"
        f"{_ALIGNMENTS[style.position]},{size[0] // 20},{size[0] // 20},{round(style.margin)},1"
    )
    events = [
        f"Dialogue: 0,{_ass_time(cue.start_s)},{_ass_time(cue.end_s)},Default,,0,0,0,,{_escaped(cue.text)}"
        for cue in cues
    ]
    return "\n".join([
        "[Script Info]", "ScriptType: v4.00+", f"PlayResX: {size[0]}", f"PlayResY: {size[1]}", "WrapStyle: 0",
        "ScaledBorderAndShadow: yes", "YCbCr Matrix: TV.709", "", "[V4+ Styles]", _STYLE_FORMAT, f"Style: {look}", "",
        "[Fonts]", "fontname: DejaVuSans_0.ttf", _uuencoded(font), "", "[Events]",
        "Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text", *events, "",
    ])  # fmt: skip


_STYLE_FORMAT = (
    "Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, Bold, Italic, "
    "Underline, StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, Alignment, MarginL, MarginR, "
    "MarginV, Encoding"
)


def _decoded(data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")


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


def _escaped(text: str) -> str:
    # A zero-width space after a backslash takes its meaning away.
    text = _CONTROL.sub("", text).replace("\\", "\\\u200b").replace("{", "\\{").replace("}", "\\}")
    return text.replace("\n", "\\N").replace("\t", " ")


def _colour(colour: str) -> str:
    red, green, blue = colour[1:3], colour[3:5], colour[5:7]
    return f"&H00{blue}{green}{red}".upper()


def _uuencoded(data: bytes) -> str:
    """The bytes as ASS writes them: three bytes as four characters from `!` on, in lines of eighty."""
    padded = data + b"\0" * (-len(data) % 3)
    groups = (int.from_bytes(padded[place : place + 3], "big") for place in range(0, len(padded), 3))
    text = "".join(
        chr(33 + (group >> 18)) + chr(33 + (group >> 12 & 63)) + chr(33 + (group >> 6 & 63)) + chr(33 + (group & 63))
        for group in groups
    )
    text = text[: len(text) - (-len(data) % 3)]
    return "\n".join(text[place : place + 80] for place in range(0, len(text), 80))
