"""Decodes sound into 48 kHz stereo samples, in blocks of a requested size, with a jailed ffmpeg."""

from __future__ import annotations

import subprocess
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from vidqueue.media.arguments import QUIET, VERBOSE, counting_from_all, decoded_evenly, input_arguments
from vidqueue.media.cutting import sought_from
from vidqueue.media.facts import AudioFacts
from vidqueue.media.faults import raise_if_failed
from vidqueue.media.ffmpeg import Tally
from vidqueue.media.film.timeline import SAMPLE_RATE
from vidqueue.media.jail import sandbox
from vidqueue.media.source import Source

Sound = NDArray[np.float32]
"""Samples, and left and right."""

CHANNELS = 2
_BYTES = 4 * CHANNELS
_ONE_CHANNEL = ("mono", "1 channels")


@dataclass(frozen=True, slots=True)
class Track:
    """A sound track from `start_s` on, in seconds from the beginning of the file.

    Attributes:
        loops: whether it begins again at its end; else silence follows.
        clock_restarts: the file cannot be sought, because its clock begins again.
        container: of the file, where the sound must be in step with its pictures.
    """

    source: Source
    audio: AudioFacts
    start_s: float = 0.0
    loops: bool = False
    clock_restarts: bool = False
    container: str = ""


class Listener:
    """Reads the samples of a track in their order. Use it in a `with` block, from a long-lived thread."""

    def __init__(self, track: Track, bounds: sandbox.SandboxLimits) -> None:
        self._track, self._bounds = track, bounds
        self._open = ExitStack()
        self._running: sandbox.Sandboxed | None = None
        self._heard = 0

    def __enter__(self) -> Self:
        self._start(self._track.start_s)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._open.close()

    def read(self, count: int) -> Sound:
        """The next samples; silence after the end of a track that does not loop.

        Raises:
            VidqueueError: the sound cannot be decoded.
            CanceledError: the event of `bounds` was set.
        """
        samples = np.zeros((count, CHANNELS), np.float32)
        filled = 0
        while filled < count and self._running is not None:
            data = self._running.stdout.read((count - filled) * _BYTES)
            found = np.frombuffer(data[: len(data) // _BYTES * _BYTES], np.float32).reshape(-1, CHANNELS)
            samples[filled : filled + len(found)] = found
            filled += len(found)
            self._heard += len(found)
            if filled < count:
                self._end()
        return samples

    def _end(self) -> None:
        """The track is over; a loop that gave anything begins again."""
        assert self._running is not None
        raise_if_failed(self._running.wait())
        self._open.close()
        self._running = None
        if self._track.loops and self._heard:
            self._heard = 0
            self._start(0.0)

    def _start(self, start_s: float) -> None:
        file = self._open.enter_context(self._track.source.opened())
        self._running = self._open.enter_context(
            sandbox.start(
                self._arguments(file, start_s),
                self._bounds,
                keep_open=[file],
                stdout=subprocess.PIPE,
                on_line=Tally().read,
            )
        )

    def _arguments(self, file: int, start_s: float) -> list[str]:
        seek = ("-ss", f"{start_s:.6f}") if start_s else ()
        can_seek = not self._track.clock_restarts and sought_from(self._track.container, start_s) == start_s
        before, after = (seek, ()) if can_seek else ((), seek)
        # A single channel is heard as loud from both sides as it was from its own.
        layout = "pan=stereo|c0=c0|c1=c0" if self._track.audio.channel_layout in _ONE_CHANNEL else "anull"
        steps = f"aresample={SAMPLE_RATE}:async=1:first_pts=0,{layout},aformat=sample_fmts=flt:channel_layouts=stereo"
        all_streams = counting_from_all(self._track.container)
        unused = () if all_streams else ("-vn",)
        return [
            *QUIET, *VERBOSE, *input_arguments(file, self._bounds.limits, *unused, *self._track.audio.joining, *before),
            *decoded_evenly(self._track.audio), "-filter_complex", f"[dec:0]{steps}[sound]", "-map", "[sound]",
            *after, "-c:a", "pcm_f32le", "-f", "f32le", "pipe:1", *all_streams,
        ]  # fmt: skip
