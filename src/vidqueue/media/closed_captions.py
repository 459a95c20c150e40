"""Closed captions of broadcasts (CEA-608 and -708), which are side data of pictures that few encoders preserve."""

from __future__ import annotations

import os

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
# What the message of an H.264 or H.265 stream with captions begins with (ATSC A/53).
_MARK, _MARKED = b"GA94", frozenset({"h264", "hevc"})
# MP4 and MOV have this behind their first four bytes. They store each packet in one piece, unlike broadcasts.
_IN_ONE_PIECE = b"ftyp"
_BLOCK = 1024 * 1024
# Reading a larger file takes longer than decoding its first pictures.
_READ_AT_MOST = 128 * _BLOCK


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
        if video.codec in _MARKED and _has_no_mark(file, source.size):
            return []
        arguments = [
            *QUIET, *input_arguments(file, bounds.limits), "-map", f"0:{video.index}", "-vf", "showinfo=checksum=0",
            "-frames:v", str(_LOOKED_AT), "-f", "null", "pipe:2",
        ]  # fmt: skip
        ffmpeg.run(arguments, bounds, keep_open=[file], tally=reading)
    return ["The closed captions are left out; transcode keeps them in H.264 and H.265."] if reading.captions else []


def _has_no_mark(file: int, size: int) -> bool:
    """True if no packet of the file can have captions, as its bytes tell without a decoder."""
    if size > _READ_AT_MOST or os.pread(file, 8, 0)[4:] != _IN_ONE_PIECE:
        return False
    overlap = len(_MARK) - 1
    return not any(_MARK in os.pread(file, _BLOCK + overlap, at) for at in range(0, size, _BLOCK))


class _Reading(ffmpeg.Tally):
    """Counts the pictures with captions beside everything else."""

    def __init__(self) -> None:
        super().__init__()
        self.captions = 0

    def read(self, line: Line) -> None:
        if line.contexts and line.contexts[0].startswith("Parsed_showinfo"):
            self.captions += "Closed Captions: (" in line.body
        super().read(line)
