"""The timeline of a film in whole pictures: where each clip begins, how long it is, how far it overlaps. No IO."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from vidqueue.errors import VidqueueError

Transition = Literal["cut", "fade", "crossfade"]

SAMPLE_RATE = 48_000
# How far a measured mean rate may be from a usual one and still mean it.
_NEAR = 0.02
_COARSEST_CLOCK = 10_000


@dataclass(frozen=True, slots=True)
class Length:
    """How long one clip is, and how it begins; times in seconds."""

    seconds: Fraction
    transition: Transition = "cut"
    transition_s: Fraction = Fraction(0)


@dataclass(frozen=True, slots=True)
class Placed:
    """One clip on the timeline; everything in pictures.

    Attributes:
        first: the picture of the film that is this clip's first.
        frames: how many it has, those that it shares with its neighbours included.
        before: how many it shares with the clip before it, in a crossfade; `after` with the next one.
        fade_in: over how many it comes up from black; over `fade_out` it goes to black.
    """

    first: int
    frames: int
    before: int = 0
    after: int = 0
    fade_in: int = 0
    fade_out: int = 0

    @property
    def end(self) -> int:
        """The picture of the film after this clip's last."""
        return self.first + self.frames


def exact_rate(fps: float) -> Fraction:
    """The rate that a decimal number means: 29.97 is 30000/1001."""
    nominals = (Fraction(round(fps)), Fraction(round(fps * 1.001) * 1000, 1001))
    usual = min(nominals, key=lambda rate: abs(float(rate) - fps))
    if usual > 0 and abs(float(usual) - fps) < min(_NEAR, 0.001 * fps):
        return usual
    return Fraction(fps).limit_denominator(1000)


def clock_of(rate: Fraction) -> tuple[int, int]:
    """The ticks of a second, and of a picture, in a clock on which each picture has an exact time."""
    factor = 1
    while rate.numerator * factor < _COARSEST_CLOCK:
        factor *= 2
    return rate.numerator * factor, rate.denominator * factor


def place(lengths: Sequence[Length], rate: Fraction) -> list[Placed]:
    """Lay the clips one after the other.

    Times are added exactly and rounded only then, so that the roundings of many clips do not add up.

    Raises:
        VidqueueError: `invalid_params`, a clip is too short for its transitions or for a picture.
    """
    begins, at = [], Fraction(0)
    for length in lengths:
        at -= length.transition_s if length.transition == "crossfade" else 0
        begins.append(at)
        at += length.seconds
    firsts = [_picture(begin, rate) for begin in begins]
    ends = [_picture(begin + one.seconds, rate) for begin, one in zip(begins, lengths, strict=True)]
    placed = []
    for number, length in enumerate(lengths):
        is_last = number == len(lengths) - 1
        before = max(0, ends[number - 1] - firsts[number]) if number else 0
        after = 0 if is_last else max(0, ends[number] - firsts[number + 1])
        frames = ends[number] - firsts[number]
        _check(number, frames, before, after)
        fades = _fades(length, None if is_last else lengths[number + 1], frames, rate)
        placed.append(Placed(firsts[number], frames, before, after, *fades))
    return placed


def samples_at(picture: int, rate: Fraction) -> int:
    """The number of the first sample of sound that belongs to a picture."""
    return round(picture * SAMPLE_RATE / rate)


def _picture(seconds: Fraction, rate: Fraction) -> int:
    return int(seconds * rate + Fraction(1, 2))


def _check(number: int, frames: int, before: int, after: int) -> None:
    if frames < 1:
        raise VidqueueError("invalid_params", f"Clip {number} is shorter than one picture of the film.")
    if before + after > frames:
        raise VidqueueError(
            "invalid_params",
            f"Clip {number} has {frames} pictures, and the crossfades at its ends need {before + after}.",
            hint="Make the clip longer or its crossfades (transition_s) shorter.",
        )


def _fades(length: Length, following: Length | None, frames: int, rate: Fraction) -> tuple[int, int]:
    """Pictures of the fades from and to black; those of a short clip get half of it each."""
    coming = round(length.transition_s * rate) if length.transition == "fade" else 0
    going = round(following.transition_s * rate) if following and following.transition == "fade" else 0
    if coming + going <= frames:
        return coming, going
    return min(coming, frames // 2), min(going, frames // 2)
