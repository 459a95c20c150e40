"""Encodes a video to fit a size in bytes: first at the requested quality, then at qualities found by interpolation."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from vidqueue.errors import VidqueueError
from vidqueue.media import ffmpeg
from vidqueue.media.encoders import LEAST_KBIT, Encoder, Quality
from vidqueue.processors.context import Context

# The encoders' own two passes keep their notes in files, by path, and no path enters the jail. A constant quality
# shares the bytes out among the pictures as two passes do; which one fits is found from the sizes of earlier runs.
_AIM = 0.98
# The share of the size at which the search stops: after the first result that fits, and after each further one.
_CLOSE = (0.94, 0.9, 0.85, 0.0)
_MOST_RUNS = 6
# The most by which the response of an encoder to a setting may differ from the usual one, as a factor.
_ODDEST = 4.0


@dataclass(frozen=True, slots=True)
class Dial:
    """A setting of an encoder that decides how large pictures become; a higher one makes them smaller.

    Attributes:
        start: the requested value.
        halving: the increase that about halves the bytes.
        end: the highest value.
        step: the smallest difference between two values.
        words: formats a value for users.
    """

    start: float
    halving: float
    end: float
    step: float
    words: Callable[[float], str]

    @classmethod
    def of_quality(cls, encoder: Encoder, quality: Quality | int) -> Dial:
        """The quality of an encoder, which stays the same from the first picture to the last."""
        start, end = encoder.level(quality), encoder.lowest_quality
        return cls(start, end / 8, max(start, end), encoder.quality_step, lambda value: f"quality {value:g}")

    @classmethod
    def of_rate(cls, kbit: int) -> Dial:
        """A mean rate, as the negative logarithm of kbit a second."""
        end = -math.log2(min(kbit, LEAST_KBIT))
        return cls(-math.log2(kbit), 1.0, end, 0.01, lambda value: f"{kbit_at(value)} kbit/s")


def kbit_at(value: float) -> int:
    """The rate that a value of `Dial.of_rate` means."""
    return round(2**-value)


@dataclass(frozen=True, slots=True)
class Encoding:
    """An encoding that can be repeated: the path of the result, and the function that writes it with a setting.

    `write` also gets its range of the whole progress.
    """

    path: Path
    dial: Dial
    write: Callable[[float, tuple[float, float]], ffmpeg.Tally]


def encode_to_fit(encoding: Encoding, max_size_mb: float | None, ctx: Context) -> ffmpeg.Tally:
    """Write the result, again if it is too large; return the counts of the run that wrote it.

    Raises:
        VidqueueError: `output_too_large`, it cannot be made small enough; or a run failed.
        CanceledError: the job was canceled.
    """
    if max_size_mb is None:
        return encoding.write(encoding.dial.start, (0.0, 0.98))
    search = _Search(encoding.dial, max_size_mb * 1e6)
    kept, value = encoding.path.with_name(f"fits.{encoding.path.name}"), encoding.dial.start
    fitting: ffmpeg.Tally | None = None
    for run in range(_MOST_RUNS):
        tally = encoding.write(value, (0.98 * (1 - 0.5**run), 0.98 * (1 - 0.5 ** (run + 1))))
        size = encoding.path.stat().st_size
        search.take(value, size, tally.video_bytes)
        if size <= search.most:
            encoding.path.replace(kept)
            fitting = tally
        wanted = search.next(last=run == _MOST_RUNS - 1)
        if wanted is None:
            break
        ctx.log(f"The result has {size / 1e6:.3g} MB; it is encoded again at {encoding.dial.words(wanted)}.")
        encoding.path.unlink(missing_ok=True)
        value = wanted
    if fitting is None:
        raise VidqueueError(
            "output_too_large",
            f"The result has {size / 1e6:.3g} MB, {search.others / 1e6:.3g} MB of it without the pictures, "
            f"and cannot be made as small as {max_size_mb:g} MB.",
            hint="Give a smaller resolution, fewer sound tracks, or a shorter part.",
        )
    kept.replace(encoding.path)
    return fitting


@dataclass(slots=True)
class _Search:
    """The search for the setting with the largest result that fits.

    Attributes:
        most: bytes of a result that fits.
        others: bytes of the last result that do not belong to pictures.
        runs: settings tried, with the logarithms of the bytes of their pictures.
        large: the highest setting whose result was too large.
        fits: the lowest setting whose result fits.
        share: the size of the best result as a share of the limit.
        closer: the number of results that were tried after one that fits.
        creeps: whether the last two results were both too large.
    """

    dial: Dial
    most: float
    others: float = 0.0
    runs: list[tuple[float, float]] = field(default_factory=list)
    large: float = -math.inf
    fits: float = math.inf
    share: float = 0.0
    closer: int = -1
    creeps: bool = False

    def take(self, value: float, size: int, video_bytes: int) -> None:
        """Record one result."""
        self.others = size - video_bytes
        self.creeps = size > self.most and bool(self.runs) and self.runs[-1][0] == self.large
        self.runs.append((value, math.log2(max(video_bytes, 1))))
        if size > self.most:
            self.large = max(self.large, value)
        else:
            self.fits, self.share = min(self.fits, value), max(self.share, size / self.most)
        self.closer += self.fits < math.inf

    def next(self, *, last: bool) -> float | None:
        """Return the setting to try next; None if there is none, or the best result is close enough."""
        pictures = self.most * _AIM - self.others
        first_fits = self.fits == self.dial.start
        if last or first_fits or pictures <= 0 or self.share >= _CLOSE[max(self.closer, 0)]:
            return None
        value = self._guess(math.log2(pictures))
        if self.fits < math.inf and (self.creeps or not self.large < value < self.fits):
            value = (self.large + self.fits) / 2
        value = min(math.ceil(value / self.dial.step - 1e-6) * self.dial.step, self.dial.end)
        return value if self.large < value < self.fits else None

    def _guess(self, wanted: float) -> float:
        """Interpolate between the two results nearest to the limit; with one result, use the usual response."""
        near = sorted(self.runs, key=lambda run: abs(run[1] - wanted))[:2]
        value, bits = near[0]
        halving = self.dial.halving
        if len(near) == 2 and near[1][1] != bits:
            told = (value - near[1][0]) / (near[1][1] - bits)
            halving = told if halving / _ODDEST < told < halving * _ODDEST else halving
        return value + (bits - wanted) * halving
