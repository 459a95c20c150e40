"""Closed captions of broadcasts (CEA-608 and -708), which are side data of pictures that few encoders preserve."""

from __future__ import annotations

from vidqueue.media import ffmpeg
from vidqueue.media.arguments import QUIET, input_arguments
from vidqueue.media.facts import VideoFacts
from vidqueue.media.jail.lines import Line
from vidqueue.media.jail.sandbox import SandboxLimits
from vidqueue.media.source import Source

_CARRIED_BY = frozenset({"h264", "hevc", "mpeg2video"})
_KEPT_BY = frozenset({"libx264", "libx265", "h264_nvenc", "hevc_nvenc"})
# Pictures without a caption say so, in a broadcast that has any.
_LOOKED_AT = 50


def lost_captions(source: Source, video: VideoFacts, bounds: SandboxLimits, encoder: str = "") -> list[str]:
    """Return a warning if the first pictures have captions that the result lacks.

    Args:
        source: the file.
        video: the track.
        bounds: the bounds of the run.
        encoder: what the decoded pictures are given to as they are; empty if they pass through other hands.

    Raises:
        VidqueueError: the pictures cannot be decoded.
        CanceledError: the event of `bounds` was set.
    """
    if video.codec not in _CARRIED_BY or encoder in _KEPT_BY:
        return []
    reading = _Reading()
    with source.opened() as file:
        arguments = [
            *QUIET, *input_arguments(file, bounds.limits), "-map", f"0:{video.index}", "-vf", "showinfo=checksum=0",
            "-frames:v", str(_LOOKED_AT), "-f", "null", "pipe:2",
        ]  # fmt: skip
        ffmpeg.run(arguments, bounds, keep_open=[file], tally=reading)
    return ["The closed captions are left out; transcode keeps them in H.264 and H.265."] if reading.captions else []


class _Reading(ffmpeg.Tally):
    """Counts the pictures with captions beside everything else."""

    def __init__(self) -> None:
        super().__init__()
        self.captions = 0

    def read(self, line: Line) -> None:
        if line.contexts and line.contexts[0].startswith("Parsed_showinfo"):
            self.captions += "Closed Captions: (" in line.body
        super().read(line)
