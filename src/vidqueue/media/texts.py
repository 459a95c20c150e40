"""Reads a text subtitle track in the jail: as cues to draw, or as ASS that is trimmed to a part."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from vidqueue.formats import SUBTITLE_CODECS
from vidqueue.media.arguments import QUIET, input_arguments
from vidqueue.media.facts import MediaFacts, SubtitleFacts
from vidqueue.media.faults import raise_if_failed
from vidqueue.media.film.subtitles import MOST_BYTES, Cue, read_subtitles
from vidqueue.media.jail import sandbox
from vidqueue.media.source import Source

_TIME = r"(\d{1,4}):(\d{1,2}):(\d{1,2})\.(\d{1,2})"
_EVENT = re.compile(rf"(Dialogue: [^,\n]{{0,20}}),{_TIME},{_TIME},(.*)", re.ASCII)


def to_draw(facts: MediaFacts) -> SubtitleFacts | None:
    """The track of text that a player would show: the default one, else a forced one, else the first."""
    texts = [one for one in facts.subtitle_tracks if one.codec in SUBTITLE_CODECS]
    return max(texts, key=lambda one: (one.default, one.forced, -one.index), default=None)


def read_cues(source: Source, track: SubtitleFacts, bounds: sandbox.SandboxLimits) -> list[Cue]:
    """The cues of a track, as plain text, with times from the beginning of the file; none where nothing is said.

    Raises:
        VidqueueError: the track cannot be read.
        CanceledError: the event of `bounds` was set.
    """
    text = _converted(source, track, "srt", bounds)
    return read_subtitles(text) if b"-->" in text else []


def read_part(
    source: Source, track: SubtitleFacts, begin_s: float, end_s: float, bounds: sandbox.SandboxLimits
) -> str:  # fmt: skip
    """A part of a track as ASS, with times from its beginning; what is shown at its edges is cut there.

    Raises:
        VidqueueError: the track cannot be read.
        CanceledError: the event of `bounds` was set.
    """
    return part_of(_converted(source, track, "ass", bounds).decode("utf-8", "replace"), begin_s, end_s)


def part_of(text: str, begin_s: float, end_s: float) -> str:
    """The part of an ASS file between two times, in seconds."""
    kept = []
    for line in text.replace("\r\n", "\n").split("\n"):
        if not (found := _EVENT.fullmatch(line)):
            kept.append(line)
            continue
        start_s, stop_s = _seconds(found.groups()[1:5]), _seconds(found.groups()[5:9])
        if start_s < end_s and stop_s > begin_s:
            times = max(start_s, begin_s) - begin_s, min(stop_s, end_s) - begin_s
            kept.append(f"{found[1]},{_clock(times[0])},{_clock(times[1])},{found[10]}")
    return "\n".join(kept)


@contextmanager
def opened(texts: Mapping[int, str]) -> Iterator[tuple[list[str], list[int]]]:
    """Arguments that open texts as further inputs, and the descriptors that they speak of, for the time of the block.

    The texts are in memory that has no path; each run needs its own, because a descriptor has one offset.
    """
    descriptors: list[int] = []
    try:
        for text in texts.values():
            descriptors.append(os.memfd_create("text"))
            with os.fdopen(os.dup(descriptors[-1]), "w", encoding="utf-8") as writing:
                writing.write(text)
            os.lseek(descriptors[-1], 0, os.SEEK_SET)
        words = [("-protocol_whitelist", "fd", "-f", "ass", "-fd", str(one), "-i", "fd:") for one in descriptors]
        yield [word for group in words for word in group], descriptors
    finally:
        for one in descriptors:
            os.close(one)


def _converted(source: Source, track: SubtitleFacts, kind: str, bounds: sandbox.SandboxLimits) -> bytes:
    with source.opened() as file:
        arguments = [
            *QUIET, "-loglevel", "level+error", *input_arguments(file, bounds.limits), "-map", f"0:{track.index}",
            "-c:s", kind, "-f", kind, "pipe:1",
        ]  # fmt: skip
        with sandbox.start(arguments, bounds, keep_open=[file], stdout=subprocess.PIPE) as running:
            text = running.stdout.read(MOST_BYTES)
            if len(text) == MOST_BYTES:
                running.kill()
            ended = running.wait()
    if ended.by != "caller":
        raise_if_failed(ended)
    return text


def _seconds(found: tuple[str, ...]) -> float:
    hours, minutes, seconds, hundredths = found
    return int(hours) * 3600 + int(minutes) * 60 + int(seconds) + int(hundredths.ljust(2, "0")) / 100


def _clock(seconds: float) -> str:
    hundredths = round(seconds * 100)
    minutes, rest = divmod(hundredths, 6000)
    return f"{minutes // 60}:{minutes % 60:02}:{rest // 100:02}.{rest % 100:02}"
