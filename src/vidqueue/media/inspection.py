"""Decodes everything in a media file, and finds the times at which pictures or sound are damaged or missing.

A file without damage is decoded once. Only a stream in which something is wrong is decoded again, with ffmpeg printing
the time of each packet and picture, because its messages about damage have no times. Pictures are counted anew in that
run, by one thread: which ones come out damaged depends on how far other threads are with those that they need.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import groupby, pairwise
from typing import Literal

from vidqueue.media import ffmpeg
from vidqueue.media.arguments import QUIET, input_arguments, reading_all
from vidqueue.media.facts import AudioFacts, MediaFacts, VideoFacts
from vidqueue.media.jail.lines import Line
from vidqueue.media.jail.sandbox import SandboxLimits
from vidqueue.media.source import Source
from vidqueue.media.verify import ONE_PICTURE_A_PACKET, skipped_at_start

Fate = Literal["missing", "damaged"]

_PACKET = re.compile(r"demuxer\+ffmpeg -> ist_index:\d{1,6}:\d{1,6} type:video pkt_pts:(-?\d{1,19}) .*", re.ASCII)
_PICTURE = re.compile(r"decoder -> pts:(-?\d{1,19}) .*", re.ASCII)
_SOUND = re.compile(
    r"n:\d{1,12} pts:(-?\d{1,18}) pts_time:\S{1,30} fmt:\w{1,10} channels:\d{1,4} chlayout:[^:]{1,200} rate:(\d{1,7})"
    r" nb_samples:(\d{1,9}) .*",
    re.ASCII,
)
# Containers round the times of sound to milliseconds, and encoders add up to two frames at both ends.
_ROUNDED_S = 0.005
_PADDED_S = 0.06


@dataclass(frozen=True, slots=True)
class Range:
    """A part of a stream that is damaged or missing, in seconds from the beginning of the file; `count` of pictures."""

    start_s: float
    end_s: float
    what: Fate
    count: int = 0


@dataclass(slots=True)
class Inspected:
    """What came of decoding one stream.

    Attributes:
        expected: pictures that should come out; of sound, packets.
        refused: packets that the decoder could not read.
        missing: pictures that did not come out.
        damaged: pictures that came out visibly damaged.
        ranges: where, as far as it could be found out.
    """

    index: int
    kind: Literal["video", "audio"]
    codec: str
    expected: int
    decoded: int = 0
    refused: int = 0
    missing: int = 0
    damaged: int = 0
    ranges: list[Range] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        """True if nothing is wrong."""
        return not (self.refused or self.missing or self.damaged)


def inspect(
    source: Source,
    facts: MediaFacts,
    streams: Sequence[VideoFacts | AudioFacts],
    bounds: SandboxLimits,
    tally: ffmpeg.Tally,
    on_progress: ffmpeg.ProgressCallback = lambda _: None,
) -> list[Inspected]:
    """Decode these streams, and say of each what is wrong with it.

    Args:
        source: the file.
        facts: its probe.
        streams: those of the file that are to be decoded.
        bounds: the bounds of each run.
        tally: gets the remarks of ffmpeg.
        on_progress: called while the file is decoded.

    Raises:
        VidqueueError: nothing at all could be decoded, with the code of the cause.
        CanceledError: the event of `bounds` was set.
    """
    tallies = [ffmpeg.Tally(stream=f"0:{one.index}") for one in streams]
    _decode(source, [one.index for one in streams], bounds, _Together(tally, tallies), on_progress)
    found = [_counted(stream, counts) for stream, counts in zip(streams, tallies, strict=True)]
    return [
        one if one.sound else _located(source, facts, stream, one, bounds)
        for stream, one in zip(streams, found, strict=True)
    ]


class _Together(ffmpeg.Tally):
    """Counts several streams of one run."""

    def __init__(self, main: ffmpeg.Tally, others: Sequence[ffmpeg.Tally]) -> None:
        super().__init__()
        self._all = (main, *others)

    def read(self, line: Line) -> None:
        for one in self._all:
            one.read(line)


def _decode(
    source: Source, indices: Iterable[int], bounds: SandboxLimits, tally: ffmpeg.Tally, report: ffmpeg.ProgressCallback
) -> None:
    maps = [word for index in indices for word in ("-map", f"0:{index}")]
    with source.opened() as file:
        arguments = [
            *QUIET, *input_arguments(file, bounds.limits, "-max_error_rate", "1"), *maps,
            "-fps_mode", "passthrough", "-f", "null", "pipe:2",
        ]  # fmt: skip
        ffmpeg.run(arguments, bounds, keep_open=[file], tally=tally, on_progress=report)


def _counted(stream: VideoFacts | AudioFacts, counts: ffmpeg.Tally) -> Inspected:
    if isinstance(stream, AudioFacts):
        return Inspected(stream.index, "audio", stream.codec, counts.packets, counts.decoded, counts.errors)
    expected = stream.frames - skipped_at_start(stream, counts)
    missing = expected - counts.decoded if stream.codec in ONE_PICTURE_A_PACKET else 0
    missing = max(missing, counts.errors)
    return Inspected(
        stream.index, "video", stream.codec, expected, counts.decoded, counts.errors, missing, counts.corrupt
    )


def _located(
    source: Source, facts: MediaFacts, stream: VideoFacts | AudioFacts, found: Inspected, bounds: SandboxLimits
) -> Inspected:
    own_clock = not any(one.clock_restarts for one in facts.videos) and not stream.joining
    begin_s = facts.start_s if own_clock else 0.0
    with source.opened() as file:
        before = (
            *stream.joining,
            "-max_error_rate",
            "1",
            *(("-threads", "1") if isinstance(stream, VideoFacts) else ()),
        )
        arguments = [*QUIET, *(("-copyts",) if own_clock else ()), *input_arguments(file, bounds.limits, *before)]
        seen: _Pictures | _Sounds
        if isinstance(stream, VideoFacts):
            seen = _Pictures(stream)
            arguments += ["-debug_ts", "-fps_mode", "passthrough"]
        else:
            seen = _Sounds()
            arguments += ["-af", "ashowinfo"]
        arguments += ["-map", f"0:{stream.index}", "-f", "null", "pipe:2", *(() if own_clock else reading_all())]
        ffmpeg.run(arguments, bounds, keep_open=[file], tally=seen)
    if isinstance(seen, _Sounds):
        assert isinstance(stream, AudioFacts)
        found.ranges = list(seen.ranges(begin_s, stream))
    else:
        found = _counted(stream, seen)
        found.ranges = list(seen.ranges(begin_s, found))
    return found


class _Pictures(ffmpeg.Tally):
    """Reads the times of packets and of pictures, and which pictures are damaged."""

    def __init__(self, video: VideoFacts) -> None:
        super().__init__(stream=f"0:{video.index}")
        self._video = video
        self._packets: list[int] = []
        self._pictures: dict[int, bool] = {}
        self._next_is_damaged = False

    def read(self, line: Line) -> None:
        super().read(line)
        first = line.parts[0] if line.parts else ""
        if not line.contexts or not line.contexts[0].startswith(f"vist#{self.stream}/"):
            return
        if line.level == "info" and (found := _PACKET.fullmatch(first)):
            self._packets.append(int(found[1]))
        elif line.level == "info" and (found := _PICTURE.fullmatch(first)):
            self._pictures[int(found[1])], self._next_is_damaged = self._next_is_damaged, False
        elif first.startswith(ffmpeg.CORRUPT):
            # The decoder's thread says so just before it tells the time of the picture.
            self._next_is_damaged = True

    def ranges(self, begin_s: float, found: Inspected) -> Iterator[Range]:
        """The parts in which pictures are damaged or missing."""
        video = self._video
        fates = dict.fromkeys(self._packets if found.missing else (), "missing") | {
            time: "damaged" if damaged else "" for time, damaged in self._pictures.items()
        }
        shown_from = round(Fraction(video.start_s) / video.time_base)
        first = min(self._pictures, default=shown_from)
        early = sorted(time for time in fates if time < first)
        # What an edit list hides, and what no decoder can show, is no damage.
        hidden = {time for time in early if time < shown_from} | set(early[: video.leading + video.early])
        times = sorted(fates.keys() - hidden)
        last = times[-1] + max(video.last_duration, 1) if times else 0
        ends = dict(pairwise([*times, last]))
        for fate, group in groupby(times, key=lambda time: fates[time]):
            part = list(group)
            if fate:
                start_s, end_s = (float(time * video.time_base) - begin_s for time in (part[0], ends[part[-1]]))
                yield Range(start_s, end_s, "missing" if fate == "missing" else "damaged", len(part))


class _Sounds(ffmpeg.Tally):
    """Reads from when to when there is sound, in seconds."""

    def __init__(self) -> None:
        super().__init__()
        self._heard: list[tuple[float, float]] = []

    def read(self, line: Line) -> None:
        if not line.contexts or not line.contexts[0].startswith("Parsed_ashowinfo"):
            return
        if line.parts and (found := _SOUND.fullmatch(line.parts[0])) and (rate := int(found[2])):
            start = int(found[1])
            self._heard.append((start / rate, (start + int(found[3])) / rate))

    def ranges(self, begin_s: float, audio: AudioFacts) -> Iterator[Range]:
        """The parts in which there should be sound and is none."""
        heard = sorted(self._heard)
        starts, ends = audio.start_s, audio.start_s + audio.duration_s
        if not heard:
            yield Range(starts - begin_s, ends - begin_s, "missing")
            return
        gaps = [(a[1], b[0], _ROUNDED_S) for a, b in pairwise(heard)]
        gaps = [(starts, heard[0][0], _PADDED_S), *gaps, (heard[-1][1], ends, _PADDED_S)]
        for start_s, end_s, slack_s in gaps:
            if end_s - start_s > slack_s:
                yield Range(start_s - begin_s, end_s - begin_s, "missing")
