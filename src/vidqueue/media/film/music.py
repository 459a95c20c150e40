"""Mixes music and voices into the sound of a film: music loops, is ducked under speech, and fades out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vidqueue.media.film.sound_reader import Listener, Sound, Track
from vidqueue.media.film.timeline import SAMPLE_RATE
from vidqueue.media.jail.sandbox import SandboxLimits

# Ducking: the gain under speech, the threshold of speech, and the attack and release times.
DUCKED = 10 ** (-12 / 20)
_SPOKEN = 10 ** (-40 / 20)
_DOWN_S, _UP_S, _HOLD_S = 0.06, 0.4, 0.35
_HOP = SAMPLE_RATE // 100


@dataclass(frozen=True, slots=True)
class Music:
    """Music under the whole film; `length_s` is that of the track, and of the end `fade_out_s` fades out."""

    track: Track
    length_s: float
    volume: float
    duck: bool
    fade_out_s: float


@dataclass(frozen=True, slots=True)
class Voice:
    """A voice that begins at `start_s` of the film, in seconds."""

    track: Track
    start_s: float
    volume: float


def with_backing(
    sound: Iterable[Sound], total: int, music: Music | None, voices: Sequence[Voice], bounds: SandboxLimits
) -> Iterator[Sound]:
    """The sound of the clips with voices and music, in the same blocks.

    Music goes down under the voices; where there are none, under what the clips say.

    Args:
        sound: of the clips.
        total: how many samples it has.
        music: what lies under it.
        voices: what is spoken over it.
        bounds: bounds of each decoder.

    Raises:
        VidqueueError: music or a voice cannot be decoded.
        CanceledError: the event of `bounds` was set.
    """
    with ExitStack() as opened:
        speaking = [_Speaking(voice, bounds, opened) for voice in voices]
        playing = _Playing(music, total, opened.enter_context(Listener(music.track, bounds))) if music else None
        at = 0
        for block in sound:
            spoken = sum((voice.read(at, len(block)) for voice in speaking), np.zeros_like(block))
            mixed = block + spoken
            if playing is not None:
                mixed = mixed + playing.read(at, key=spoken if voices else block)
            at += len(block)
            yield mixed


class _Speaking:
    """A voice, which is opened when its time comes."""

    def __init__(self, voice: Voice, bounds: SandboxLimits, opened: ExitStack) -> None:
        self._voice, self._bounds, self._opened = voice, bounds, opened
        self._first = round(voice.start_s * SAMPLE_RATE)
        self._listener: Listener | None = None

    def read(self, at: int, count: int) -> Sound:
        samples = np.zeros((count, 2), np.float32)
        late = max(0, self._first - at)
        if late < count:
            if self._listener is None:
                self._listener = self._opened.enter_context(Listener(self._voice.track, self._bounds))
            samples[late:] = self._listener.read(count - late) * np.float32(self._voice.volume)
        return samples


@dataclass(slots=True)
class Ducking:
    """The gain of music while something else is heard, over many blocks."""

    _now: float = 1.0
    _held: float = 0.0

    def gain(self, key: Sound) -> NDArray[np.float32]:
        """The gain under the next samples of what is heard, for each sample."""
        gains = np.empty(len(key), np.float32)
        for begin in range(0, len(key), _HOP):
            part = key[begin : begin + _HOP]
            seconds = len(part) / SAMPLE_RATE
            loud = float(np.sqrt(np.mean(np.square(part, dtype=np.float64)))) > _SPOKEN
            self._held = _HOLD_S if loud else self._held - seconds
            down = self._held > 0
            step = (1 - DUCKED) * seconds / (_DOWN_S if down else _UP_S)
            following = max(DUCKED, self._now - step) if down else min(1.0, self._now + step)
            gains[begin : begin + _HOP] = np.linspace(self._now, following, len(part), dtype=np.float32)
            self._now = following
        return gains


@dataclass(slots=True)
class _Playing:
    """Music that is played now."""

    music: Music
    total: int
    listener: Listener
    ducking: Ducking = field(default_factory=Ducking)

    def read(self, at: int, key: Sound) -> Sound:
        music = self.music
        gain = np.full(len(key), music.volume, np.float32)
        if music.fade_out_s:
            end = self.total
            if not music.track.loops:
                end = min(end, round(music.length_s * SAMPLE_RATE))
            left = end - np.arange(at, at + len(key), dtype=np.float64)
            gain *= np.clip(left / (music.fade_out_s * SAMPLE_RATE), 0, 1).astype(np.float32)
        if music.duck:
            gain *= self.ducking.gain(key)
        return self.listener.read(len(key)) * gain[:, None]
