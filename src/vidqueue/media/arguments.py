"""Building the ffmpeg arguments that every jailed run shares: logging, opening an input, writing an output."""

from __future__ import annotations

import math

from vidqueue.formats import allowed
from vidqueue.limits import Limits
from vidqueue.media.containers import NO_EXTRAS, Container, Extras
from vidqueue.media.cutting import BROADCASTS
from vidqueue.media.facts import AudioFacts
from vidqueue.media.tiny_mp3 import is_tiny_mp3

QUIET = ("-hide_banner", "-nostdin", "-nostats", "-y")
# Each line with its level, and none folded into "Last message repeated", because lines are counted.
INFORMATIVE = ("-loglevel", "repeat+level+info")
# Fonts of subtitles, covers, data: some films have hundreds.
MOST_ATTACHMENTS = 1000
# The muxers of Matroska and Ogg draw random ids otherwise, and the same work would never make the same file.
REPRODUCIBLE = ("-fflags", "+bitexact")
VERBOSE = ("-loglevel", "repeat+level+verbose")


def input_arguments(descriptor: int, limits: Limits, *before: str) -> list[str]:
    """Arguments that open an untrusted file by its descriptor: no nested open, no exotic decoder, no huge picture.

    Args:
        descriptor: an open file at offset 0; its first bytes are looked at.
        limits: the bounds of the job.
        before: further options of this input, such as `-ss`.
    """
    return [
        "-protocol_whitelist", "fd",
        "-format_whitelist", allowed(limits.formats).format_whitelist,
        "-codec_whitelist", allowed(limits.formats).codec_whitelist,
        "-max_pixels", str(limits.max_pixels),
        # Attachments and data count here too; the probe bounds those that are seen and heard.
        "-max_streams", str(limits.max_streams + MOST_ATTACHMENTS),
        "-probesize", "5000000",
        "-analyzeduration", "10000000",
        "-threads", str(limits.threads),
        *before,
        *(("-f", "mp3") if is_tiny_mp3(descriptor) else ()),
        "-fd", str(descriptor),
        "-i", "fd:",
    ]  # fmt: skip


def output_arguments(
    descriptor: int,
    container: Container,
    limits: Limits,
    *,
    faststart: bool = True,
    extras: Extras = NO_EXTRAS,
    length_s: float = math.inf,
    unofficial: bool = False,
) -> list[str]:
    """Arguments that write a container into an open descriptor.

    Args:
        descriptor: open for writing; the same file must be standard input where `faststart` applies.
        container: what to write.
        limits: the bounds of the job; its duration is the last guard against timestamps that claim years.
        faststart: put the index first, so that players on the network start at once.
        extras: what is taken over of the source beside pictures and sound.
        length_s: where the result ends, in seconds.
        unofficial: True for 360 degree videos, and copies of 3D and Dolby Vision: MP4's boxes for that are in no
            standard that ffmpeg is strict about.
    """
    flags = ("+faststart" if faststart else "") + extras.flags if container.has_faststart else ""
    return [
        *extras.arguments,
        "-t", f"{min(length_s, limits.max_duration_s):.6f}",
        *(["-movflags", flags] if flags else []),
        *(["-strict", "unofficial"] if unofficial else []),
        *REPRODUCIBLE,
        "-f", container.muxer,
        "-fd", str(descriptor),
        "fd:",
    ]  # fmt: skip


def decoded_evenly(audio: AudioFacts, *, output: int = 0) -> list[str]:
    """Arguments that decode a sound track to samples of one kind; complex filters know the n-th of them as `[dec:n]`.

    Where channels or rate change midway, ffmpeg begins its filters anew, and one that puts silence before the first
    sample (`aresample` with `first_pts`) would do so again. These samples have the rate of the beginning throughout.

    Args:
        audio: the track, of the first input.
        output: how many outputs come before this one.
    """
    layout = audio.channel_layout or ""
    # What has no name is described in several words.
    same = ["-af", f"aformat=channel_layouts={layout}"] if layout and " " not in layout else []
    return ["-map", f"0:{audio.index}", *same, "-c:a", "pcm_f64le", "-f", "null", "pipe:2", "-dec", f"{output}:0"]


def reading_all(input_number: int = 0) -> list[str]:
    """Arguments of a further output that throws all video and sound of an input away.

    Where ffmpeg makes the times, it counts them from the earliest stream that a run uses. Runs that must agree on times
    use all streams.
    """
    return ["-map", f"{input_number}:v?", "-map", f"{input_number}:a?", "-c", "copy", "-f", "null", "-"]


def counting_from_all(container: str, input_number: int = 0) -> list[str]:
    """Arguments of a further output, which ends at once, for runs that need one stream of a file only.

    Of broadcasts ffmpeg counts times from the first stream that a run uses: the sound of a file would lose the time by
    which it begins after the pictures, and pictures theirs.
    """
    if container not in BROADCASTS:
        return []
    # The streams of which ffmpeg knows enough to copy them; of sound that only a refused decoder knows it does not.
    return ["-map", f"{input_number}:u", "-sn", "-dn", "-c", "copy", "-t", "0", "-f", "null", "-"]
