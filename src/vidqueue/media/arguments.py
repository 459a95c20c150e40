"""The parts of every jailed ffmpeg command line: how it speaks, how it opens what we hand it, how it writes."""

from __future__ import annotations

from vidqueue.limits import Limits
from vidqueue.media.allowed import codec_whitelist, format_whitelist

QUIET = ("-hide_banner", "-nostdin", "-nostats", "-y")


def input_arguments(descriptor: int, limits: Limits, *before: str) -> list[str]:
    """Open an untrusted file by its descriptor; no nested open, no exotic decoder, no huge picture.

    Args:
        descriptor: an open file at offset 0.
        limits: the bounds of the job.
        before: further options of this input, such as `-ss`.
    """
    return [
        "-protocol_whitelist", "fd",
        "-format_whitelist", format_whitelist(),
        "-codec_whitelist", codec_whitelist(),
        "-max_pixels", str(limits.max_pixels),
        "-max_streams", str(limits.max_streams),
        "-probesize", "5000000",
        "-analyzeduration", "10000000",
        "-threads", str(limits.threads),
        *before,
        "-fd", str(descriptor),
        "-i", "fd:",
    ]  # fmt: skip
