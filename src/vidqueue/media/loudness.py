"""Loudness normalisation after EBU R128 in two passes: one measures, the other changes the volume."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field

from vidqueue.media import ffmpeg
from vidqueue.media.arguments import QUIET, input_arguments
from vidqueue.media.facts import AudioFacts
from vidqueue.media.jail.lines import Line
from vidqueue.media.jail.sandbox import SandboxLimits
from vidqueue.media.source import Source

# The highest true peak, in dBTP: lossy codecs overshoot a little.
_PEAK = -1.5
_RANGE = 11
_LONGEST = 2000
_NAMES = ("input_i", "input_tp", "input_lra", "input_thresh", "target_offset")


@dataclass(slots=True)
class Loudness:
    """What the first pass measured, read from ffmpeg's lines. `text` is the JSON that `loudnorm` prints at its end."""

    target: float
    text: str = field(default="")

    @property
    def measuring(self) -> str:
        """The filter of the first pass."""
        return f"loudnorm=I={self.target:g}:TP={_PEAK}:LRA={_RANGE}:print_format=json"

    def read(self, line: Line) -> None:
        """Take one line of ffmpeg's standard error."""
        if not line.contexts or not line.contexts[0].startswith("Parsed_loudnorm"):
            return
        if (text := "".join(line.parts).strip()).startswith("{"):
            self.text = text[:_LONGEST]

    def correcting(self) -> str | None:
        """The filter of the second pass; None where there is nothing to hear, which no gain changes."""
        values = self._values()
        if values is None:
            return None
        integrated, peak, spread, threshold, offset = values
        return (
            f"loudnorm=I={self.target:g}:TP={_PEAK}:LRA={max(_RANGE, min(50, spread)):.2f}:measured_I={integrated:.2f}"
            f":measured_TP={peak:.2f}:measured_LRA={spread:.2f}:measured_thresh={threshold:.2f}:offset={offset:.2f}"
            ":linear=true"
        )

    @property
    def integrated(self) -> float | None:
        """The loudness of the source in LUFS; None for silence."""
        values = self._values()
        return values[0] if values else None

    def _values(self) -> list[float] | None:
        try:
            told = json.loads(self.text)
            values = [float(told[name]) for name in _NAMES]
        except (ValueError, KeyError, TypeError):
            return None
        # -70 LUFS is the gate of the measurement: below it there is only silence.
        return values if all(map(math.isfinite, values)) and values[0] > -70 else None


def measure(
    source: Source,
    audio: AudioFacts,
    loudness: Loudness,
    bounds: SandboxLimits,
    on_progress: ffmpeg.ProgressCallback = lambda _: None,
) -> None:
    """Decode a sound track and read its loudness.

    Raises:
        VidqueueError: the track cannot be decoded.
        CanceledError: the event of `bounds` was set.
    """
    with source.opened() as file:
        arguments = [
            *QUIET, *input_arguments(file, bounds.limits, *audio.joining), "-map", f"0:{audio.index}",
            "-af", f"aresample=async=1:first_pts=0,{loudness.measuring}", "-f", "null", "pipe:2",
        ]  # fmt: skip
        tally = _Measuring(loudness, stream=f"0:{audio.index}")
        ffmpeg.run(arguments, bounds, keep_open=[file], tally=tally, on_progress=on_progress)


class _Measuring(ffmpeg.Tally):
    """Reads the measurement beside the counts."""

    def __init__(self, loudness: Loudness, stream: str) -> None:
        super().__init__(stream=stream)
        self._loudness = loudness

    def read(self, line: Line) -> None:
        self._loudness.read(line)
        super().read(line)
