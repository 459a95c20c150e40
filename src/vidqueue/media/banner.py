"""Reading what ffmpeg prints about an input before it starts: the facts that no packet listing carries. No IO.

Names, tags and languages of a file stand between ffmpeg's own words. So a line counts only where ffmpeg says it (before
any other line of that kind, in the part about the input), and its words only where they begin a part of their own;
`jail.lines` says why a file cannot forge that. What does not parse is remembered in `faults` and never raises.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from vidqueue.errors import VidqueueError
from vidqueue.media.facts import MULTIVIEW
from vidqueue.media.faults import exceeded_bound
from vidqueue.media.jail.lines import COMPLAINTS, Line
from vidqueue.media.stream_line import StreamLine

_INPUT = re.compile(r"Input #0, (?P<formats>[\w,]{1,200}), from 'fd:':")
_CLOCK = re.compile(r"(?P<hours>\d{1,9}):(?P<minutes>\d{1,2}):(?P<seconds>\d{1,2}(?:\.\d{1,9})?)", re.ASCII)
_SECONDS = re.compile(r"-?\d{1,12}(?:\.\d{1,9})?", re.ASCII)
_INDEX = re.compile(r":(\d{1,6})", re.ASCII)
_KIND = re.compile(r": (?P<kind>[A-Z][a-z]{1,20}): ")
_ROTATION = re.compile(r"rotation of (?P<degrees>-?\d{1,6}(?:\.\d{1,9})?) degrees", re.ASCII)
_LANGUAGE = re.compile(r"\(([a-z]{3})\)")
_CHAPTER = re.compile(r" {4}Chapter #0:\d{1,9}: ", re.ASCII)
_PROGRAM = re.compile(r"  Program \d{1,6} ", re.ASCII)
_DOLBY_VISION = re.compile(r"version: [\d.]{1,8}, profile: (\d{1,3}),(?:.{1,80}, compatibility id: (\d),)?.*", re.ASCII)
_CROPPING = re.compile(r"(\d{1,6})/(\d{1,6})/(\d{1,6})/(\d{1,6})", re.ASCII)
_LAYOUT = re.compile(r"[a-z][a-z -]{1,40}[a-z]", re.ASCII)
_LAYOUTS = {"Spherical Mapping: ": "projection", "Stereo 3D: ": "stereo"}
_MULTIVIEW = "unspecified, view: packed"  # what phones call spatial video
_KEY = re.compile(r" {2,12}enc_key_id {0,12}: ", re.ASCII)
_ALPHA = re.compile(r" {2,12}alpha_mode {0,12}: ", re.ASCII | re.IGNORECASE)
# Of Matroska: an encryption that names no key.
_LOCKED = "Unsupported encoding type"
_RATE = re.compile(r", \d{1,9} Hz")
# A stream of a group stands two columns further in than one by itself.
_STREAM = re.compile(r" {2,12}Stream #0")


@dataclass(slots=True)
class Banner:
    """What ffmpeg says about its first input, filled line by line.

    Attributes:
        chapters: how many.
        refusal: the first complaint that a bound was exceeded.
        partial: True if ffmpeg complains that a packet lies beyond the end of the file.
        broken_off: True if ffmpeg complains that it cannot read on.
        encrypted: True if ffmpeg complains of the way in which Matroska encrypts all streams.
        faults: what could not be parsed, the first few, as sentences.
    """

    container: str = ""
    start_s: float = 0.0
    duration_s: float | None = None
    chapters: int = 0
    refusal: VidqueueError | None = None
    partial: bool = False
    broken_off: bool = False
    encrypted: bool = False
    faults: list[str] = field(default_factory=list)
    _streams: dict[int, StreamLine] = field(default_factory=dict)
    _current: StreamLine | None = None
    _programs: int = 0
    _program: int | None = None
    _told_duration: bool = False
    _in_input: bool = False

    @property
    def streams(self) -> list[StreamLine]:
        """The streams in the order of their indices, each once, however often it is printed."""
        return [stream for _, stream in sorted(self._streams.items())]

    @property
    def unrated(self) -> frozenset[int]:
        """The indices of sound whose rate ffmpeg does not know."""
        return frozenset(one.index for one in self.streams if one.kind == "Audio" and not _RATE.search(one.text))

    def count(self, kind: str) -> int:
        """How many streams of a kind there are."""
        return sum(stream.kind == kind for stream in self._streams.values())

    def read(self, line: Line) -> None:
        """Take one line of ffmpeg's standard error."""
        first = line.parts[0] if line.parts else ""
        if line.level in COMPLAINTS:
            self.refusal = self.refusal or exceeded_bound(line.body)
            self.partial = self.partial or "partial file" in line.body
            self.broken_off = self.broken_off or line.body.startswith("Error during demuxing: ")
            self.encrypted = self.encrypted or line.body == _LOCKED
        elif line.contexts or line.level != "info":
            pass
        elif not self.container and (found := _INPUT.fullmatch(first)):
            self.container, self._in_input = found["formats"].split(",")[0], True
        elif first.startswith(("Stream mapping:", "Output #")):
            self._in_input = False
        elif self._in_input:
            self._read_input(first, line)

    def _read_input(self, first: str, line: Line) -> None:
        if _STREAM.fullmatch(first):
            self._read_stream(line)
        elif _PROGRAM.match(first):
            self._programs, self._current = self._programs + 1, None
            self._program = self._programs
        elif first == "  No Program":
            self._program = self._current = None
        elif _CHAPTER.fullmatch(first):
            self.chapters, self._current = self.chapters + 1, None
        elif first == "  Duration: " and not self._told_duration:
            self._told_duration = True
            self._read_duration(line)
        elif _KEY.fullmatch(first) and self._current is not None:
            self._current.encrypted = True
        elif _ALPHA.fullmatch(first) and self._current is not None:
            self._current.alpha = line.parts[1:2] == ("1",)
        elif not first.strip() and self._current is not None:
            self._read_side_data(self._current, line)

    def _read_stream(self, line: Line) -> None:
        self._current = None
        index = _INDEX.fullmatch(line.parts[1]) if len(line.parts) > 1 else None
        for place, part in enumerate(line.parts):
            if index and (found := _KIND.match(part)):
                text = part[found.end() :] + "".join(line.parts[place + 1 :])
                number = int(index[1])
                stream = StreamLine(number, found["kind"], text, _language(line.parts[2:place]))
                self._current = self._streams.setdefault(number, stream)
                if self._program is not None:
                    self._current.programs.add(self._program)
                return
        self._note("a stream", line)

    def _read_duration(self, line: Line) -> None:
        parts = line.parts
        if clock := _CLOCK.fullmatch(parts[1] if len(parts) > 1 else ""):
            self.duration_s = int(clock["hours"]) * 3600 + int(clock["minutes"]) * 60 + float(clock["seconds"])
        elif parts[1:2] != ("N/A",):
            self._note("the duration", line)
        if ", start: " in parts:
            start = "".join(parts[parts.index(", start: ") + 1 :][:1])
            if _SECONDS.fullmatch(start):
                self.start_s = float(start)
            else:
                self._note("the start", line)

    def _read_side_data(self, stream: StreamLine, line: Line) -> None:
        """Side data belongs to the stream that it is printed under."""
        said = "".join(line.parts[2:])
        if line.parts[1:2] == ("Display Matrix: ",):
            if found := _ROTATION.fullmatch(said):
                stream.rotation = _clockwise(float(found["degrees"]))
            else:
                self._note("the rotation", line)
        elif line.parts[1:2] == ("DOVI configuration record: ",):
            if found := _DOLBY_VISION.fullmatch(said):
                stream.dolby_vision = int(found[1])
                stream.dolby_vision_base = int(found[2]) if found[2] else None
            else:
                self._note("Dolby Vision", line)
        elif layout := _LAYOUTS.get("".join(line.parts[1:2])):
            self._read_layout(stream, layout, line)
        elif line.parts[1:2] == ("Frame Cropping: ",):
            if found := _CROPPING.fullmatch(said):
                left, right, top, bottom = map(int, found.groups())
                stream.cropping = (left, right, top, bottom)
            else:
                self._note("the cropping", line)

    def _read_layout(self, stream: StreamLine, layout: str, line: Line) -> None:
        said = "".join(line.parts[2:])
        if said.startswith(_MULTIVIEW):
            stream.stereo = MULTIVIEW
        elif found := _LAYOUT.match(said):
            if not said.startswith(("2D", "unspecified")):
                setattr(stream, layout, found[0])
        elif not said.startswith("2D"):
            self._note(f"the {layout}", line)

    def _note(self, what: str, line: Line) -> None:
        if len(self.faults) < 10:
            self.faults.append(f"ffmpeg's words about {what} cannot be read: {line.body.strip()[:200]}")


def _language(parts: Sequence[str]) -> str | None:
    """The language among the parts between a stream's number and its kind."""
    found = (_LANGUAGE.fullmatch(part) for part in parts)
    return next((one[1] for one in found if one and one[1] != "und"), None)


def _clockwise(degrees: float) -> int:
    # ffmpeg prints how far the matrix turns the picture anticlockwise; other angles than quarters are left alone.
    quarters = round(-degrees / 90)
    return quarters % 4 * 90 if abs(-degrees - quarters * 90) < 1 else 0
