"""Running one jailed ffmpeg to its end: progress reports while it runs, and its counts of packets and frames."""

from __future__ import annotations

import math
import re
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from functools import cache

from vidqueue.limits import Limits
from vidqueue.media.arguments import VERBOSE
from vidqueue.media.faults import raise_if_failed
from vidqueue.media.jail import sandbox
from vidqueue.media.jail.lines import COMPLAINTS, Line

_INPUT_STREAM = re.compile(r"  Input stream #(\d{1,9}:\d{1,9}) \((?:video|audio)\): ")
_OUTPUT_STREAM = re.compile(r"  Output stream #0:\d{1,9} \(video\): ")
_COUNT = re.compile(r"(\d{1,18}) (packets read|frames decoded|decode errors|frames encoded)")
_WRITTEN = re.compile(r"video:(\d{1,15})KiB audio:.*", re.ASCII)
_SOUND_CHANGED = re.compile(
    r"Reconfiguring filter graph because audio parameters changed to \d{1,7} Hz, ([^,]{1,100}), .*", re.ASCII
)
_SOUND_FILTER = re.compile(r"af#(\d{1,9}:\d{1,9}) .*", re.ASCII)
_PICTURES_CHANGED = re.compile(
    r"Reconfiguring filter graph because video parameters changed to [^x]{1,100}, (\d{1,6}x\d{1,6}), .*", re.ASCII
)
_READER_OF = re.compile(r"vist#(\d{1,9}:\d{1,9})/")
CORRUPT = "corrupt decoded frame"
# What says nothing about the file: remarks on our own command line, what `corrupt` counts already, and that streams
# which nobody asked for may not be decoded, that the jail has no fonts (drawn text brings its own), and that ffmpeg
# estimates lengths, as of raw pictures (ours are counted).
_NOISE = (
    "deprecated pixel format", CORRUPT, "not on whitelist", "Mjpegtools", "fontconfig",
    "Estimating duration from bitrate",
)  # fmt: skip
_LOGGED_LINES = 40


@dataclass(slots=True)
class Tally:
    """The packet and frame counts that ffmpeg reports for the video, read from its verbose log.

    Attributes:
        stream: the input stream that counts, as `input:index`.
        packets: read of it.
        decoded: pictures that came out of the decoder.
        errors: packets that the decoder refused.
        corrupt: pictures that came out visibly damaged.
        encoded: pictures that were written.
        remarks: warnings and errors, the first few, as (level, text).
        others: packets read and packets refused of every other input stream that was decoded.
        sounds: the channels that a sound track changed to midway, by output and stream as `output:stream`.
        changed: whether pictures changed their size, format or colours midway. ffmpeg begins its filters anew then, and
            those that count pictures begin to count again; `steady` tells how to avoid that. `sizes` are those
            to which they changed, as `320x180`.
        video_bytes: how large the encoded video is without its container, to the KiB; of all outputs together.
    """

    stream: str = "0:0"
    packets: int = 0
    decoded: int = 0
    errors: int = 0
    corrupt: int = 0
    encoded: int = 0
    remarks: list[tuple[str, str]] = field(default_factory=list)
    video_bytes: int = 0
    changed: bool = False
    sizes: set[str] = field(default_factory=set)
    others: dict[str, tuple[int, int]] = field(default_factory=dict)
    sounds: dict[str, set[str]] = field(default_factory=dict)

    def read(self, line: Line) -> None:
        """Take one line of ffmpeg's standard error."""
        first = line.parts[0] if line.parts else ""
        if line.level == "verbose":
            self._read_counts(first, line)
        elif line.level == "info" and line.contexts and (seen := _PICTURES_CHANGED.fullmatch(line.body)):
            self.changed = True
            self.sizes.add(seen[1])
        elif line.level == "info" and line.contexts and line.contexts[0].startswith("out#"):
            found = _WRITTEN.match(line.body)
            self.video_bytes += int(found[1]) * 1024 if found else 0
        elif line.level == "info" and line.contexts and (filtered := _SOUND_FILTER.fullmatch(line.contexts[0])):
            if changed := _SOUND_CHANGED.fullmatch(line.body):
                self.sounds.setdefault(filtered[1], set()).add(changed[1])
        elif line.level in COMPLAINTS:
            self.corrupt += first.startswith(CORRUPT) and self._is_about_the_stream(line)
            if len(self.remarks) < _LOGGED_LINES and not any(word in line.body for word in _NOISE):
                self.remarks.append((line.level, line.body))

    def forget(self) -> None:
        """Begin to count anew, for another run; the sizes of pictures stay known."""
        fresh = Tally(self.stream, sizes=self.sizes)
        for name in (one.name for one in fields(Tally)):
            setattr(self, name, getattr(fresh, name))

    def _read_counts(self, first: str, line: Line) -> None:
        if found := _INPUT_STREAM.fullmatch(first):
            counts = _counts(line)
            if found[1] != self.stream:
                self.others[found[1]] = counts.get("packets read", 0), counts.get("decode errors", 0)
                return
            self.packets = counts.get("packets read", 0)
            self.decoded, self.errors = counts.get("frames decoded", 0), counts.get("decode errors", 0)
        elif _OUTPUT_STREAM.fullmatch(first):
            self.encoded = _counts(line).get("frames encoded", self.encoded)

    def _is_about_the_stream(self, line: Line) -> bool:
        found = _READER_OF.match(line.contexts[0]) if line.contexts else None
        return found is not None and found[1] == self.stream


def _counts(line: Line) -> dict[str, int]:
    return {what: int(number) for number, what in _COUNT.findall(line.body)}


def endured(level: str) -> str:
    """The level of a remark of a run that succeeded: what ffmpeg calls an error was none of the whole."""
    return "warning" if level in COMPLAINTS else level


@dataclass(frozen=True, slots=True)
class Seen:
    """One progress report: frames written, seconds of output, frames per second, media seconds per second."""

    frame: int = 0
    out_time_s: float = 0.0
    fps: float = 0.0
    speed: float = 0.0


ProgressCallback = Callable[[Seen], None]


def run(
    arguments: Sequence[str],
    bounds: sandbox.SandboxLimits,
    *,
    keep_open: Sequence[int] = (),
    stdin: int = subprocess.DEVNULL,
    tally: Tally | None = None,
    on_progress: ProgressCallback = lambda _: None,
) -> Tally:
    """Run ffmpeg in the jail until it ends, and return what it counted.

    Args:
        arguments: without loglevel and progress, which are added here.
        bounds: the bounds of the run.
        keep_open: descriptors that the arguments speak of.
        stdin: what the run reads as standard input; see `sink` for why this may be the output.
        tally: where to count, when another stream than 0:0 matters.
        on_progress: called about twice a second; what it raises ends the run.

    Raises:
        VidqueueError: the run failed, with the code of the cause.
        CanceledError: the event of `bounds` was set.
    """
    counted = tally or Tally()
    command = [*VERBOSE, "-progress", "pipe:1", "-stats_period", "0.5", *arguments]
    running = sandbox.start(
        command, bounds, keep_open=keep_open, stdin=stdin, stdout=subprocess.PIPE, on_line=counted.read
    )
    with running:
        for seen in read_progress(line.decode("ascii", "replace") for line in running.stdout):
            on_progress(seen)
        raise_if_failed(running.wait())
    return counted


def read_progress(lines: Iterable[str]) -> Iterator[Seen]:
    """Group ffmpeg's `key=value` lines into reports."""
    values: dict[str, str] = {}
    for line in lines:
        key, _, value = line.strip().partition("=")
        values[key] = value.strip()
        if key == "progress":
            yield Seen(
                frame=int(_number(values.get("frame"))),
                out_time_s=max(0.0, _number(values.get("out_time_us")) / 1e6),
                fps=_number(values.get("fps")),
                speed=_number((values.get("speed") or "").removesuffix("x")),
            )
            values = {}


def _number(text: str | None) -> float:
    try:
        number = float(text or 0)
    except ValueError:
        return 0.0  # "N/A" until the first picture is out
    return number if math.isfinite(number) else 0.0


@cache
def ffmpeg_version() -> str:
    """The version that ffmpeg prints, such as `n9.0.2-17-g2a571b6068`."""
    words: list[str] = []
    with sandbox.start(["-version"], sandbox.SandboxLimits(Limits(), 30.0), stdout=subprocess.PIPE) as running:
        words = running.stdout.readline().decode("ascii", "replace").split()
    return words[2] if len(words) > 2 else "unknown"
