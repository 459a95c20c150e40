"""The montage of a composed film: scenes from the materials, in order, to the length of the narration."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidqueue.errors import VidqueueError
from vidqueue.media.facts import end_of, late_of
from vidqueue.media.film.space import byte_rate
from vidqueue.media.probe import probe
from vidqueue.processors.base import Context
from vidqueue.processors.parts.compose_params import SIZES, ComposeParams
from vidqueue.progress import Progress

# Pictures a second of every film.
RATE = 30
# The share of the work that is done before the materials are looked at, as the users of MoneyPrinterTurbo know it.
SCENES_FROM = 0.4
_TRANSITION_S = 0.5
# How near a time must be to a picture to mean it; more than the roundings of all clips.
_TOLERANCE_S = 0.001
# A shorter remainder of a video is not used.
_SHORTEST_S = 0.5
# The most clips of one film; scenes are longer if that many would not fill it.
_MOST_CLIPS = 450


@dataclass(frozen=True, slots=True)
class Scene:
    """A part of a material; a still has no start. `byte_rate` is that of its file (see `film/space`)."""

    path: Path
    begin_s: float
    length_s: float
    is_still: bool
    byte_rate: float = 0.0

    def clip(self, length_s: float, params: ComposeParams, *, is_first: bool) -> dict[str, Any]:
        """Return the clip of an export that shows the scene for a time."""
        times = (
            {"duration_s": length_s}
            if self.is_still
            else {"start_s": self.begin_s, "end_s": round(self.begin_s + length_s, 6)}
        )
        transition = "cut" if is_first else params.transition
        return {
            "media": str(self.path), "volume": 0, "fit": params.fit, "transition": transition,
            "transition_s": transition_s(params), **times,
        }  # fmt: skip


def transition_s(params: ComposeParams) -> float:
    """Return the length of transitions, which is shorter for short scenes."""
    return min(_TRANSITION_S, params.clip_s / 4)


def scenes_of(params: ComposeParams, length_s: float, ctx: Context, warnings: list[str]) -> list[Scene]:
    """Return the scenes of all materials, in the order of the list."""
    longest_s = max(params.clip_s, length_s / _MOST_CLIPS + transition_s(params))
    if longest_s > params.clip_s:
        warnings.append(f"Each part is shown for {longest_s:.1f} s, because the film would have too many.")
    scenes: list[Scene] = []
    for number in range(len(params.materials)):
        ctx.progress(Progress(SCENES_FROM, "materials", f"{number + 1} of {len(params.materials)}"))
        scenes += _parts(ctx.input("materials", number), number, longest_s, SIZES[params.aspect], ctx)
    return _long_enough(scenes, params, ctx, warnings)


def _parts(path: Path, number: int, longest_s: float, size: tuple[int, int], ctx: Context) -> Iterator[Scene]:
    try:
        facts = probe(path, ctx.limits, ctx.canceled, whole=True)
    except VidqueueError as error:
        raise VidqueueError(error.code, f"Material {number}: {error.message}", hint=error.hint) from error
    if facts.video is None:
        raise VidqueueError("no_video_stream", f"Material {number} has no pictures.")
    if facts.is_still:
        yield Scene(path, 0.0, longest_s, is_still=True)
        return
    first_s, end_s = late_of(facts, facts.video), end_of(facts, facts.video)
    rest_s = (end_s - first_s) % longest_s
    count = max(1, int((end_s - first_s) / longest_s) + (rest_s >= _SHORTEST_S))
    for place in range(count):
        begin_s = round(first_s + place * longest_s, 6)
        length_s = min(longest_s, end_s - begin_s)
        yield Scene(path, begin_s, length_s, is_still=False, byte_rate=byte_rate(facts, size))


def filled(
    scenes: list[Scene], params: ComposeParams, length_s: float, dice: random.Random
) -> list[tuple[Scene, float]]:
    """Fill exactly this length with scenes, repeated if they are too few, and return each with its time."""
    chosen: list[tuple[Scene, float]] = []
    length_s, done_s = max(length_s, 1 / RATE), 0.0
    while True:
        for scene in _ordered(scenes, params, dice):
            overlap_s = _overlap_s(params) if chosen else 0.0
            shown_s = min(scene.length_s, length_s - done_s + overlap_s)
            chosen.append((scene, shown_s))
            done_s += shown_s - overlap_s
            # A remainder shorter than one picture would be a clip without pictures.
            if _pictures(done_s + _TOLERANCE_S) >= _pictures(length_s):
                return chosen


def _overlap_s(params: ComposeParams) -> float:
    return transition_s(params) if params.transition == "crossfade" else 0.0


def _pictures(seconds: float) -> int:
    return int(seconds * RATE + 0.5)


def _long_enough(scenes: list[Scene], params: ComposeParams, ctx: Context, warnings: list[str]) -> list[Scene]:
    """Return the scenes that are longer than the crossfades at both ends.

    Raises:
        VidqueueError: `invalid_params`, there are none.
    """
    shortest_s = 2 * _overlap_s(params) + (2 if params.transition == "crossfade" else 1) / RATE
    found = [scene for scene in scenes if scene.length_s >= shortest_s]
    if not found:
        raise VidqueueError(
            "invalid_params", f"All materials are too short: one must be shown for {shortest_s:.2f} s at least."
        )
    shown = {scene.path for scene in found}
    for number in range(len(params.materials)):
        if ctx.input("materials", number) not in shown:
            warnings.append(f"Material {number} is not shown: it is shorter than {shortest_s:.2f} s.")
    return found


def _ordered(scenes: list[Scene], params: ComposeParams, dice: random.Random) -> list[Scene]:
    return dice.sample(scenes, len(scenes)) if params.order == "random" else scenes
