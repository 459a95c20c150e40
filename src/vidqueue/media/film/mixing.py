"""Mixing the sound of a film: the clips one after the other, crossfaded where their pictures are, in blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from vidqueue.media.film.sound_reader import CHANNELS, Listener, Sound, Track
from vidqueue.media.film.timeline import SAMPLE_RATE, Placed, samples_at
from vidqueue.media.jail.sandbox import SandboxLimits

# One second.
_BLOCK = SAMPLE_RATE
# From here on a sum that is too loud is bent instead of cut off.
_KNEE = 0.9


@dataclass(frozen=True, slots=True)
class Heard:
    """The sound of one clip: its place, its track (None for silence) and its volume."""

    placed: Placed
    track: Track | None
    volume: float = 1.0


def clip_sound(clips: Sequence[Heard], rate: Fraction, bounds: SandboxLimits) -> Iterator[Sound]:
    """The sound of all clips, exactly as long as their pictures.

    Raises:
        VidqueueError: the sound of a clip cannot be decoded.
        CanceledError: the event of `bounds` was set.
    """
    tail = np.zeros((0, CHANNELS), np.float32)
    for clip in clips:
        spans = _Spans.of(clip.placed, rate)
        alone = spans.total - spans.after
        with _opened(clip, bounds) as reader:
            for begin, count in _blocks(spans.before):
                mixed = reader.read(count) * spans.gain(begin, count)[:, None] + tail[begin : begin + count]
                yield mixed
            for begin, count in _blocks(alone - spans.before):
                yield reader.read(count) * spans.gain(spans.before + begin, count)[:, None]
            tail = reader.read(spans.after) * spans.gain(alone, spans.after)[:, None]


def not_too_loud(sound: Sound) -> Sound:
    """The sound with its loudest samples bent below full scale; most sound is returned as it is."""
    loud = np.abs(sound)
    if sound.size == 0 or loud.max() <= 1.0:
        return sound
    bent = _KNEE + (1 - _KNEE) * np.tanh((loud - _KNEE) / (1 - _KNEE))
    return np.where(loud > _KNEE, np.sign(sound) * bent, sound).astype(np.float32)


@dataclass(frozen=True, slots=True)
class _Spans:
    """The parts of one clip's sound, in samples."""

    total: int
    before: int
    after: int
    fade_in: int
    fade_out: int

    @classmethod
    def of(cls, placed: Placed, rate: Fraction) -> _Spans:
        first, end = samples_at(placed.first, rate), samples_at(placed.end, rate)
        return cls(
            end - first,
            samples_at(placed.first + placed.before, rate) - first,
            end - samples_at(placed.end - placed.after, rate),
            samples_at(placed.fade_in, rate),
            samples_at(placed.fade_out, rate),
        )

    def gain(self, begin: int, count: int) -> Sound:
        """How loud the samples are. Crossfades keep the power, so that nothing dips in the middle."""
        at = np.arange(begin, begin + count, dtype=np.float64)
        left = self.total - at
        gain = np.ones(count)
        if self.before:
            gain *= np.sin(np.pi / 2 * np.clip(at / self.before, 0, 1))
        if self.after:
            gain *= np.sin(np.pi / 2 * np.clip(left / self.after, 0, 1))
        if self.fade_in:
            gain *= np.clip(at / self.fade_in, 0, 1)
        if self.fade_out:
            gain *= np.clip(left / self.fade_out, 0, 1)
        return gain.astype(np.float32)


class _Silence:
    """A clip without sound."""

    def __enter__(self) -> _Silence:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def read(self, count: int) -> Sound:
        return np.zeros((count, CHANNELS), np.float32)


class _Louder:
    """A listener whose samples are multiplied."""

    def __init__(self, listener: Listener, volume: float) -> None:
        self._listener, self._volume = listener, np.float32(volume)

    def __enter__(self) -> _Louder:
        self._listener.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.__exit__(None, None, None)

    def read(self, count: int) -> Sound:
        return self._listener.read(count) * self._volume


def _opened(clip: Heard, bounds: SandboxLimits) -> _Silence | _Louder:
    if clip.track is None or clip.volume == 0:
        return _Silence()
    return _Louder(Listener(clip.track, bounds), clip.volume)


def _blocks(count: int) -> Iterator[tuple[int, int]]:
    for begin in range(0, count, _BLOCK):
        yield begin, min(_BLOCK, count - begin)
