"""Estimates the largest size of the pieces of a film on disk before they are encoded. No IO."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from vidqueue.media.encoders import Quality
from vidqueue.media.facts import MediaFacts
from vidqueue.media.sampling import shown_size

# Bits of a pixel of a moving picture, and how many times as many bytes a second as its source has. More than x264 and
# VP9 took for any of the clips of cameras and screens that we have; noise takes ten times as much (see `Needs`).
_BITS: dict[Quality, float] = {"low": 0.12, "medium": 0.22, "high": 0.4}
_TIMES: dict[Quality, float] = {"low": 2, "medium": 3, "high": 5}
# Bits of a pixel of a picture that is encoded whole, and how often there is one.
_WHOLE_BITS = 2
_WHOLE_EVERY = 250
# What a file has beside its pictures.
_OVERHEAD = 64 * 1024
_OVERHEAD_OF_PICTURE = 32


@dataclass(frozen=True, slots=True)
class Canvas:
    """Size in pixels, rate and quality of the pictures of a film."""

    size: tuple[int, int]
    rate: Fraction
    quality: Quality


def byte_rate(facts: MediaFacts, size: tuple[int, int]) -> float:
    """Bytes a second of a source, as if it had at least as many pixels as the film; 0 for a still."""
    if facts.video is None or facts.is_still:
        return 0.0
    width, height = shown_size(facts.video)
    larger = max(1.0, size[0] * size[1] / (width * height))
    return larger * facts.size / max(facts.duration_s, float(1 / Fraction(240)))


def most_bytes(frames: int, byte_rates: Iterable[float], canvas: Canvas) -> int:
    """The size that a piece is not expected to exceed.

    Args:
        frames: how many pictures it has.
        byte_rates: of the sources that are seen in it together.
        canvas: of the film.
    """
    pixels = canvas.size[0] * canvas.size[1]
    whole = -(-frames // _WHOLE_EVERY) * pixels * _WHOLE_BITS / 8
    source = sum(byte_rates) * float(frames / canvas.rate) * _TIMES[canvas.quality]
    moving = min(source, frames * pixels * _BITS[canvas.quality] / 8)
    return int(whole + moving) + frames * _OVERHEAD_OF_PICTURE + _OVERHEAD


def sound_bytes(frames: int, rate: Fraction, kbit: int) -> int:
    """The size of the sound of a film, with what its container adds."""
    return int(float(frames / rate) * kbit * 1000 / 8 * 1.1) + _OVERHEAD


@dataclass(slots=True)
class Needs:
    """The space that the rest of a film takes: what was expected, corrected by what its pieces did take.

    Attributes:
        expected: bytes of each piece that is still to be rendered, the next one first.
        copies: how often the bytes of all pieces are written again to make the film.
        beside: bytes of the rest of the film, such as its sound.
        written: bytes of the pieces that are there.
    """

    expected: list[int]
    copies: int
    beside: int
    written: int = 0
    _was_expected: int = 0
    _took: int = 0

    def rendered(self, size: int) -> None:
        """The next piece is there, with this size."""
        self._was_expected += self.expected.pop(0)
        self._took += size
        self.written += size

    def left(self, now: int = 0, share: float = 0.0) -> int:
        """Bytes that are still to be written, if the next piece has `now` already, for a `share` of its pictures."""
        # Pieces that are larger than expected are a sign that the others will be.
        factor = max(1.0, self._took / self._was_expected) if self._was_expected else 1.0
        rest = [int(size * factor) for size in self.expected]
        if rest:
            rest[0] = max(rest[0], int(now / share) if share else now)
        return sum(rest) - now + (self.written + sum(rest)) * self.copies + self.beside
