"""Reading the static metadata of HDR (mastering display, light levels), which stands in the pictures themselves."""

from __future__ import annotations

import re
from dataclasses import dataclass

from vidqueue.media import ffmpeg
from vidqueue.media.arguments import QUIET, input_arguments
from vidqueue.media.facts import VideoFacts
from vidqueue.media.jail.lines import Line
from vidqueue.media.jail.sandbox import SandboxLimits
from vidqueue.media.source import Source

_NUMBER = r"(\d{1,9}(?:\.\d{1,9})?)"
_PAIR = rf"\({_NUMBER},? {{0,2}}{_NUMBER}\)"
_DISPLAY = re.compile(
    rf" +side data - Mastering display metadata: has_primaries:1 has_luminance:1 r{_PAIR} g{_PAIR} b{_PAIR} wp{_PAIR}"
    rf" min_luminance={_NUMBER}, max_luminance={_NUMBER}",
    re.ASCII,
)
_LIGHT = re.compile(r" +side data - Content light level metadata: MaxCLL=(\d{1,9}), MaxFALL=(\d{1,9})", re.ASCII)
_DYNAMIC = re.compile(r" +side data - HDR Dynamic Metadata (SMPTE2094-40|CUVA)", re.ASCII)
_DYNAMIC_NAMES = {"SMPTE2094-40": "HDR10+", "CUVA": "HDR Vivid"}


@dataclass(frozen=True, slots=True)
class StaticMetadata:
    """What a film tells a screen of the display on which it was made.

    Attributes:
        display: x and y of red, green, blue and white, and least and most light in cd/m2; empty if not told.
        light: the brightest pixel and the brightest mean of a picture, in cd/m2; empty if not told.
        dynamic: the name of what is told of each picture or scene beside that, which no result has.
    """

    display: tuple[float, ...] = ()
    light: tuple[int, ...] = ()
    dynamic: str = ""

    @property
    def lost(self) -> list[str]:
        """A sentence about what a result in HDR lacks."""
        return [f"The metadata of {self.dynamic} is left out; the pictures stay HDR."] if self.dynamic else []


NO_METADATA = StaticMetadata()


def read_static_metadata(source: Source, video: VideoFacts, bounds: SandboxLimits) -> StaticMetadata:
    """Decode the first picture of an HDR video and read what it says; nothing for other videos.

    Raises:
        VidqueueError: the picture cannot be decoded.
        CanceledError: the event of `bounds` was set.
    """
    if not video.colour.is_hdr:
        return NO_METADATA
    reading = _Reading(stream=f"0:{video.index}")
    with source.opened() as file:
        arguments = [
            *QUIET, *input_arguments(file, bounds.limits), "-map", f"0:{video.index}",
            "-vf", "showinfo=checksum=0", "-frames:v", "1", "-f", "null", "-",
        ]  # fmt: skip
        ffmpeg.run(arguments, bounds, keep_open=[file], tally=reading)
    return StaticMetadata(reading.display, reading.light, reading.dynamic)


class _Reading(ffmpeg.Tally):
    """Reads the metadata beside the counts."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream=stream)
        self.display: tuple[float, ...] = ()
        self.light: tuple[int, ...] = ()
        self.dynamic = ""

    def read(self, line: Line) -> None:
        if line.contexts and line.contexts[0].startswith("Parsed_showinfo"):
            if found := _DISPLAY.match(line.body):
                self.display = tuple(map(float, found.groups()))
            elif found := _LIGHT.match(line.body):
                self.light = (int(found[1]), int(found[2]))
            elif found := _DYNAMIC.match(line.body):
                self.dynamic = _DYNAMIC_NAMES[found[1]]
        super().read(line)
