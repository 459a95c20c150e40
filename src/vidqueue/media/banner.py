"""Reading what ffmpeg prints about an input before it starts: the facts that no packet listing carries. No IO."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from vidqueue.media.facts import Colour

_INPUT = re.compile(r"^Input #0, (?P<formats>[\w,]+), from ")
_DURATION = re.compile(r"^  Duration: (?P<clock>N/A|[\d:.]+)(?:, start: (?P<start>-?[\d.]+))?")
_STREAM = re.compile(r"^  Stream #0:(?P<index>\d+)\S*: (?P<kind>\w+): (?P<text>.*)$")
_ROTATION = re.compile(r"^\s+Display Matrix: rotation of (?P<degrees>-?[\d.]+) degrees")
_PICTURE = re.compile(r", (?P<format>[a-z]\w+)(?:\((?P<colour>[^()]*(?:\([^()]*\)[^()]*)*)\))?, \d+x\d+")
_PROFILE = re.compile(r"^\w+ \((?P<profile>[^()/]+)\)")
_DEEP = re.compile(
    r"p0?(?P<bits>9|10|12|14|16)(?:le|be)$|^gray(?P<grey>10|12|14|16)(?:le|be)$|^(?:rgb|bgr)a?(?P<rgb>48|64)"
)
_FIELD_ORDERS = ("top", "bottom")


@dataclass(slots=True)
class StreamLine:
    """One line about an input stream. `rotation` is clockwise, in degrees."""

    index: int
    kind: str
    text: str
    rotation: int = 0

    @property
    def default(self) -> bool:
        """Whether the file marks this stream as the one to play."""
        return "(default)" in self.text

    @property
    def attached_picture(self) -> bool:
        """Whether it is a cover, not a video."""
        return "(attached pic)" in self.text

    @property
    def profile(self) -> str | None:
        """The codec's profile, such as `Main 10`."""
        found = _PROFILE.match(self.text)
        return found["profile"] if found else None

    @property
    def pixel_format(self) -> str:
        """Ffmpeg's name of the pixel format; empty when it could not tell."""
        found = _PICTURE.search(self.text)
        return found["format"] if found else ""

    @property
    def colour(self) -> Colour:
        """The colour tags."""
        return _colour(self._colour_words())

    @property
    def interlaced(self) -> bool:
        """Whether pictures come as two fields."""
        return any(word.startswith(_FIELD_ORDERS) for word in self._colour_words())

    def _colour_words(self) -> list[str]:
        found = _PICTURE.search(self.text)
        return [word.strip() for word in (found["colour"] or "").split(",")] if found else []


@dataclass(slots=True)
class Banner:
    """What ffmpeg says about its first input, filled line by line."""

    container: str = ""
    start_s: float = 0.0
    duration_s: float | None = None
    streams: list[StreamLine] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    _in_input: bool = False

    def read(self, line: str) -> None:
        """Take one line of ffmpeg's standard error."""
        if found := _INPUT.match(line):
            self.container, self._in_input = found["formats"].split(",")[0], True
        elif line.startswith(("Stream mapping:", "Output #")):
            self._in_input = False
        elif line.startswith("[") and len(self.complaints) < 50:
            self.complaints.append(line)
        elif self._in_input:
            self._read_input(line)

    def _read_input(self, line: str) -> None:
        if found := _STREAM.match(line):
            self.streams.append(StreamLine(int(found["index"]), found["kind"], found["text"]))
        elif (found := _ROTATION.match(line)) and self.streams:
            self.streams[-1].rotation = _clockwise(float(found["degrees"]))
        elif found := _DURATION.match(line):
            self.duration_s = _seconds(found["clock"])
            self.start_s = float(found["start"] or 0)


def bit_depth(pixel_format: str) -> int:
    """Bits of one component, from ffmpeg's name of the pixel format."""
    found = _DEEP.search(pixel_format)
    if not found:
        return 8
    return int(found["bits"] or found["grey"] or 16)


def _clockwise(degrees: float) -> int:
    # ffmpeg prints how far the matrix turns the picture anticlockwise; other angles than quarters are left alone.
    quarters = round(-degrees / 90)
    return quarters % 4 * 90 if abs(-degrees - quarters * 90) < 1 else 0


def _seconds(clock: str) -> float | None:
    if clock == "N/A":
        return None
    hours, minutes, seconds = clock.split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


def _colour(words: list[str]) -> Colour:
    named = {"range": next((word for word in words if word in ("tv", "pc")), None)}
    for word in words:
        if word.count("/") == 2:
            named |= dict(zip(("space", "primaries", "transfer"), map(_known, word.split("/")), strict=True))
        elif re.fullmatch(r"(bt|smpte|film|fcc|gbr|ycgco|ictcp|iec|arib)[\w-]*", word):
            # One word stands for all three.
            named |= dict.fromkeys(("space", "primaries", "transfer"), word)
    return Colour(**named)


def _known(word: str) -> str | None:
    return None if word in ("unknown", "reserved") else word
