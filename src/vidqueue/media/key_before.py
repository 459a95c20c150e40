"""Cuts a part of a file whose pictures are copied: it begins with the key picture before the time that was asked for.

Of broadcasts ffmpeg seeks to any picture, and a copy would begin with the key picture after that. So their packets are
listed first, from far enough before the part.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable

from vidqueue.media.arguments import QUIET, counting_from_all, input_arguments
from vidqueue.media.cutting import BROADCASTS, Cut, copied_from, copied_out, earlier_s, sought, sought_from
from vidqueue.media.facts import VideoFacts
from vidqueue.media.faults import raise_if_failed
from vidqueue.media.jail import sandbox
from vidqueue.media.source import Source
from vidqueue.media.sums import NO_TIME

# The times of files are rounded, those of parameters as well.
_ROUNDED_S = 0.001


def cut_for_copy(
    source: Source,
    container: str,
    video: VideoFacts,
    start_s: float,
    length_s: float | None,
    bounds: sandbox.SandboxLimits,
) -> Cut:  # fmt: skip
    """How a part is copied that begins at `start_s` and lasts `length_s`, in seconds; None is up to the end.

    Raises:
        VidqueueError: the file cannot be read.
        CanceledError: the event of `bounds` was set.
    """
    if not start_s or container not in BROADCASTS:
        return copied_out(container, start_s, length_s)
    begin_s = sought_from(container, start_s - earlier_s(container, video))
    early_s = start_s - begin_s
    key_s = _last_key(source, container, video, begin_s, early_s, bounds)
    if key_s is None:
        return copied_out(container, start_s, length_s)
    return copied_from(key_s - early_s - _ROUNDED_S, begin_s, early_s, length_s)


def _last_key(
    source: Source, container: str, video: VideoFacts, begin_s: float, length_s: float, bounds: sandbox.SandboxLimits
) -> float | None:
    """When the last key picture of a part is shown, in seconds from the beginning of the part."""
    with source.opened() as file:
        arguments = [
            *QUIET, "-loglevel", "level+error",
            *input_arguments(file, bounds.limits, *video.reading, *sought(begin_s, length_s + _ROUNDED_S).before),
            "-map", f"0:{video.index}", "-c", "copy", "-f", "framecrc", "pipe:1", *counting_from_all(container),
        ]  # fmt: skip
        with sandbox.start(arguments, bounds, keep_open=[file], stdout=subprocess.PIPE) as running:
            keys = list(_keys(line.decode("ascii", "replace") for line in running.stdout))
            raise_if_failed(running.wait())
    return max((key_s for key_s in keys if key_s <= length_s + _ROUNDED_S), default=None)


def _keys(lines: Iterable[str]) -> Iterable[float]:
    """The times of key pictures in a listing of packets, in seconds."""
    tick = 0.0
    for line in lines:
        if line.startswith("#tb 0: "):
            above, below = line.removeprefix("#tb 0: ").split("/")
            tick = int(above) / int(below)
        # Only other flags than that of a key picture are written.
        elif line.startswith("0,") and ", F=" not in line and (pts := int(line.split(",", 3)[2])) != NO_TIME:
            yield pts * tick
