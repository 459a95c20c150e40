"""The shape of pixels in broadcasts, which may change midway (4:3 to 16:9) without a change of the pictures' size.

ffmpeg gives each decoded picture the shape of the first one. Only the headers in the stream say more, so they are read.
"""

from __future__ import annotations

import re

from vidqueue.media import ffmpeg
from vidqueue.media.arguments import QUIET, input_arguments
from vidqueue.media.facts import VideoFacts
from vidqueue.media.jail.lines import Line
from vidqueue.media.jail.sandbox import SandboxLimits
from vidqueue.media.source import Source

# Other containers say the shape once for the whole track.
_SAID_AGAIN = frozenset({"mpegts", "mpeg"})
# What each codec calls the header that says it: the sequence header, and the sequence parameter set.
_HEADERS = {"mpeg1video": 0xB3, "mpeg2video": 0xB3, "h264": 7, "hevc": 33}
_SAID = re.compile(
    r"\d{1,9} {1,12}(aspect_ratio_info\w{0,20}|aspect_ratio_idc|sar_width|sar_height) {1,80}[01]{1,64} = (\d{1,9})",
    re.ASCII,
)
# Where a header says nothing, pixels are square.
_PRESENT, _SHAPE, _SQUARE = "aspect_ratio_info_present_flag", "aspect_ratio_idc", "1"


def changed_shape(source: Source, container: str, video: VideoFacts, bounds: SandboxLimits) -> list[str]:
    """Return a warning if later pictures have pixels of another shape than the first.

    Args:
        source: the file.
        container: ffmpeg's name of its format.
        video: the track.
        bounds: the bounds of the run.

    Raises:
        VidqueueError: the file cannot be read.
        CanceledError: the event of `bounds` was set.
    """
    header = _HEADERS.get(video.codec)
    if container not in _SAID_AGAIN or header is None:
        return []
    reading = _Reading()
    with source.opened() as file:
        arguments = [
            *QUIET, *input_arguments(file, bounds.limits), "-map", f"0:{video.index}", "-c", "copy",
            "-bsf:v", f"filter_units=pass_types={header},trace_headers", "-f", "null", "pipe:2",
        ]  # fmt: skip
        ffmpeg.run(arguments, bounds, keep_open=[file], tally=reading)
    if not any(len(values) > 1 for values in reading.shapes.values()):
        return []
    return ["The shape of the pixels changes midway (as from 4:3 to 16:9); all pictures have that of the first."]


class _Reading(ffmpeg.Tally):
    """Collects what the headers say about the shape."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: dict[str, set[str]] = {}

    def read(self, line: Line) -> None:
        if line.contexts and line.contexts[0].startswith("trace_headers") and (said := _SAID.fullmatch(line.body)):
            name, value = said.groups()
            if name != _PRESENT:
                self.shapes.setdefault(name, set()).add(value)
            elif value == "0":
                self.shapes.setdefault(_SHAPE, set()).add(_SQUARE)
