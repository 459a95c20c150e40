"""Choosing pictures that stand for a video: where scenes change, what is black or flat, what is typical of a scene."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from vidqueue.media.sampling import Picture, Sample

_SMALL = 16
# Of 255. Fades begin below the first; a card of one colour has less contrast than the second.
_DARK = 22
_FLAT = 7
_CUT = 22
_SHORT_S = 0.7
# A picture with less than this share of the video's usual contrast is in the middle of a fade.
_FADED = 0.6


@dataclass(frozen=True, slots=True)
class Scene:
    """Samples without a cut between them: numbers of the first and of the one after the last."""

    first: int
    end: int


def luma(picture: Picture) -> np.ndarray:
    """A small grey version: 16 by 16 means."""
    height, width, _ = picture.shape
    grey = picture @ np.array([0.2126, 0.7152, 0.0722])
    rows = np.linspace(0, height, _SMALL, endpoint=False).astype(int)
    columns = np.linspace(0, width, _SMALL, endpoint=False).astype(int)
    return np.asarray(grey[np.ix_(rows, columns)])


class Album:
    """The samples of a video, and what can be said of them."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self.samples = samples
        self._small = np.array([luma(one.picture) for one in samples])
        flat = self._small.reshape(len(samples), -1)
        self.brightness, self.contrast = flat.mean(axis=1), flat.std(axis=1)

    def shows_something(self, number: int) -> bool:
        """True if a picture is neither black nor of one colour."""
        return bool(self.brightness[number] > _DARK and self.contrast[number] > _FLAT)

    def scenes(self) -> list[Scene]:
        """The scenes, in their order."""
        change = np.abs(np.diff(self._small, axis=0)).mean(axis=(1, 2))
        cuts = [0, *(int(place) + 1 for place in np.flatnonzero(change > _CUT)), len(self.samples)]
        return [Scene(first, end) for first, end in pairwise(cuts)]

    def typical(self, scene: Scene) -> int:
        """The number of the sample that is most like the mean of its scene, among those that show something."""
        numbers = [one for one in range(scene.first, scene.end) if self.shows_something(one)]
        numbers = numbers or list(range(scene.first, scene.end))
        mean = self._small[numbers].mean(axis=0)
        return min(numbers, key=lambda one: float(((self._small[one] - mean) ** 2).sum()))

    def poster(self) -> int:
        """The typical picture of the first scene that lasts a moment and shows something; else the richest picture."""
        usual = float(np.median(self.contrast))
        for scene in self.scenes():
            chosen = self.typical(scene)
            last = self.samples[min(scene.end, len(self.samples) - 1)].time_s
            lasts = last - self.samples[scene.first].time_s >= _SHORT_S or scene.end - scene.first == len(self.samples)
            if lasts and self.shows_something(chosen) and self.contrast[chosen] >= _FADED * usual:
                return chosen
        return int(np.argmax(self.contrast + np.minimum(self.brightness, 60) / 10))

    def spread(self, count: int) -> list[int]:
        """Numbers of at most `count` samples, one from each of equal parts of the video, typical and not black."""
        count = min(count, len(self.samples))
        edges = [round(place * len(self.samples) / count) for place in range(count + 1)]
        return [self.typical(Scene(first, end)) for first, end in pairwise(edges)]

    def shown_at(self, time_s: float) -> int:
        """The number of the last sample that is not after a time."""
        times = [one.time_s for one in self.samples]
        return max(0, int(np.searchsorted(times, time_s + 0.001, side="right")) - 1)


def grid(pictures: Sequence[Picture], columns: int) -> Picture:
    """The pictures, all of one size, row by row; places that are left over are black."""
    height, width, _ = pictures[0].shape
    rows = -(-len(pictures) // columns)
    whole = np.zeros((rows * height, columns * width, 3), np.uint8)
    for number, picture in enumerate(pictures):
        top, left = number // columns * height, number % columns * width
        whole[top : top + height, left : left + width] = picture
    return whole


def halved(picture: Picture) -> Picture:
    """The picture at half its size; both sides are even."""
    height, width, _ = picture.shape
    blocks = picture.reshape(height // 2, 2, width // 2, 2, 3).astype(np.uint16)
    smaller: Picture = ((blocks.sum(axis=(1, 3)) + 2) // 4).astype(np.uint8)
    return smaller
