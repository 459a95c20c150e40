"""Timing subtitles by a recorded narration: where somebody speaks, where pauses are, and which words lie between."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vidqueue.media.film.sound_reader import Listener, Sound
from vidqueue.media.film.subtitles import Cue
from vidqueue.media.film.timeline import SAMPLE_RATE
from vidqueue.media.film.wrapping import columns

# Loudness is looked at in steps of this many seconds.
_STEP_S = 0.01
_HOP = round(SAMPLE_RATE * _STEP_S)
# A pause is this long at least, and this much less loud than speech.
_SHORTEST_PAUSE_S = 0.18
_BELOW_SPEECH = 10 ** (-26 / 20)
_SILENCE = 10 ** (-50 / 20)
# How far from the place that the number of its letters suggests a pause may be and still end a phrase, in seconds.
_REACH_S = 1.2
_LONGEST_S = 6 * 3600

_ENDS = re.compile(r"(?<=[.!?;:…])\s+|(?<=[。！？；：…])|\n+")  # noqa: RUF001 - the marks of Chinese and Japanese
_COMMAS = re.compile(r"(?<=[,–—])\s+|(?<=[，、])")  # noqa: RUF001


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of sound in which somebody speaks, in seconds."""

    begin_s: float
    end_s: float


def loudness(listener: Listener, length_s: float) -> NDArray[np.float32]:
    """How loud each hundredth of a second is, of a track of this length."""
    return np.concatenate([*_levels(listener, min(length_s, _LONGEST_S)), np.zeros(1, np.float32)])


def spoken_spans(levels: NDArray[np.float32]) -> list[Span]:
    """Where somebody speaks; pauses shorter than those between phrases belong to the speech."""
    if levels.size == 0:
        return []
    # Noise under the whole recording must not count as speech, nor a single loud click as the measure of it.
    threshold = max(_SILENCE, float(np.percentile(levels, 95)) * _BELOW_SPEECH, float(np.percentile(levels, 5)) * 2)
    loud = np.flatnonzero(levels > threshold)
    if loud.size == 0:
        return []
    breaks = np.flatnonzero(np.diff(loud) * _STEP_S > _SHORTEST_PAUSE_S)
    begins = np.concatenate([loud[:1], loud[breaks + 1]])
    ends = np.concatenate([loud[breaks], loud[-1:]]) + 1
    return [Span(float(a) * _STEP_S, float(b) * _STEP_S) for a, b in zip(begins, ends, strict=True)]


def phrases_of(script: str, longest: int) -> list[str]:
    """The script in pieces that fit on the screen at once: sentences, parts of sentences, at worst some words."""
    sentences = (sentence.strip() for sentence in _ENDS.split(script))
    phrases = (phrase for sentence in sentences for phrase in _divided(sentence, longest))
    # A dash or dots alone are not spoken.
    return [phrase for phrase in phrases if _weight(phrase)]


def timed(phrases: Sequence[str], spans: Sequence[Span]) -> list[Cue]:
    """When each phrase is spoken.

    The number of its letters suggests where a phrase ends; the nearest pause says where it does. What follows is
    counted from there, so that errors do not add up.
    """
    total = sum(map(_weight, phrases))
    spoken_s = sum(span.end_s - span.begin_s for span in spans)
    if not total or not spoken_s:
        return []
    pauses = _pauses(spans)
    cues, at_s, left = [], 0.0, float(total)
    for number, phrase in enumerate(phrases):
        is_last = number == len(phrases) - 1
        expected_s = at_s + (spoken_s - at_s) * _weight(phrase) / left
        end_s = spoken_s if is_last else _snapped(expected_s, at_s, spoken_s, pauses)
        cues.append(Cue(_clock(at_s, spans, begins=True), _clock(end_s, spans, begins=False), phrase))
        at_s, left = end_s, left - _weight(phrase)
    return cues


def _levels(listener: Listener, length_s: float) -> Iterator[NDArray[np.float32]]:
    left = round(length_s / _STEP_S)
    while left > 0:
        steps = min(left, 1000)
        yield _rms(listener.read(steps * _HOP))
        left -= steps


def _rms(sound: Sound) -> NDArray[np.float32]:
    squares = np.square(sound, dtype=np.float64).mean(axis=1).reshape(-1, _HOP)
    levels: NDArray[np.float32] = np.sqrt(squares.mean(axis=1)).astype(np.float32)
    return levels


def _weight(phrase: str) -> int:
    """About how long a phrase takes to say: letters, of which those of Chinese and Japanese are syllables."""
    return sum(3 if ord(character) > 0x2E80 else 1 for character in phrase if character.isalnum())


def _pauses(spans: Sequence[Span]) -> list[float]:
    """Where pauses lie, in seconds of speech before them."""
    return list(itertools.accumulate(span.end_s - span.begin_s for span in spans))[:-1]


def _snapped(expected_s: float, after_s: float, end_s: float, pauses: Iterable[float]) -> float:
    near = [one for one in pauses if after_s + 0.05 < one < end_s and abs(one - expected_s) <= _REACH_S]
    return min(near, key=lambda one: abs(one - expected_s), default=expected_s)


def _clock(spoken_s: float, spans: Sequence[Span], *, begins: bool) -> float:
    """The time in the recording of a time of speech; at a pause, what begins comes after it and what ends before it."""
    for span in spans:
        length_s = span.end_s - span.begin_s
        if spoken_s < length_s - 1e-6 or (not begins and spoken_s <= length_s + 1e-6):
            return span.begin_s + max(0.0, spoken_s)
        spoken_s -= length_s
    return spans[-1].end_s


def _divided(sentence: str, longest: int) -> Iterator[str]:
    """A sentence, or its parts where it is too long for the screen."""
    held = ""
    for part in _COMMAS.split(sentence):
        for words in _chunks(part.strip(), longest):
            joined = _joined(held, words)
            if held and columns(joined) > longest:
                yield held
                joined = words
            held = joined
    if held:
        yield held


def _joined(before: str, after: str) -> str:
    # After a comma of Chinese or Japanese there was no space.
    return f"{before}{after}" if before.endswith(("，", "、")) else f"{before} {after}".strip()  # noqa: RUF001


def _chunks(part: str, longest: int) -> Iterator[str]:
    """Words of a part, of about equal length; what has no spaces is cut anywhere."""
    if columns(part) <= longest:
        if part:
            yield part
        return
    if " " not in part:
        letters = max(1, longest * len(part) // columns(part))
        yield from (part[at : at + letters] for at in range(0, len(part), letters))
        return
    words = part.split()
    count = -(-columns(part) // longest)
    target, held = columns(part) / count, ""
    for word in words:
        joined = f"{held} {word}".strip()
        if held and columns(joined) > max(target * 1.15, columns(held)) and columns(held) >= target * 0.7:
            yield held
            joined = word
        held = joined
    yield held
