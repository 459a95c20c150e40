"""Composing films: the narration, its subtitles, the parts of the materials in their order, and the exports of both."""

from __future__ import annotations

import random
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vidqueue.errors import VidqueueError
from vidqueue.job import OutputDraft
from vidqueue.media.facts import AudioFacts, MediaFacts
from vidqueue.media.film.listening import Listener, Track
from vidqueue.media.film.speech import loudness, phrases_of, spoken_spans, timed
from vidqueue.media.film.subtitles import Cue, as_srt, within
from vidqueue.media.jail.sandbox import SandboxLimits
from vidqueue.media.probe import probe
from vidqueue.media.source import check_source
from vidqueue.processors.base import Context
from vidqueue.processors.compose import SIZES, ComposeParams
from vidqueue.processors.export import ExportParams
from vidqueue.processors.media import media_of
from vidqueue.processors.parts.film import make
from vidqueue.processors.parts.film_clips import end_of, late_of
from vidqueue.processors.parts.narration import narrated
from vidqueue.progress import Progress

_RATE = 30
_TRANSITION_S = 0.5
_MUSIC_FADE_S = 3.0
# A shorter rest of a video is not shown.
_SHORTEST_S = 0.5
# Clips of one film; parts are longer where that many would not fill it.
_MOST_CLIPS = 450
# Letters of a subtitle: two lines of the frame's width.
_LETTERS = {"9:16": 44, "1:1": 56, "16:9": 84}
# Shares of the work that are done before the films are made; as its users know them.
_SCRIPT, _SPOKEN, _TIMED, _FOUND = 0.1, 0.3, 0.4, 0.5


@dataclass(frozen=True, slots=True)
class Scene:
    """A part of a material that is shown; a still has no beginning."""

    path: Path
    begin_s: float
    length_s: float
    is_still: bool

    def clip(self, length_s: float, params: ComposeParams, *, is_first: bool) -> dict[str, Any]:
        """The clip of an export that shows it for a time."""
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


@dataclass(frozen=True, slots=True)
class Narration:
    """What is said: the text, the recording, how long it is, and the subtitles."""

    script: str
    path: Path
    audio: AudioFacts
    length_s: float
    cues: tuple[Cue, ...] = ()


def tell(params: ComposeParams, ctx: Context) -> list[OutputDraft]:
    """Make the films.

    Raises:
        VidqueueError: a material or the narration cannot be used, or a film is not what it must be.
        CanceledError: the job was canceled.
    """
    warnings: list[str] = []
    narration = _with_cues(params, _narration(params, ctx), ctx, warnings)
    seed = params.seed if params.seed is not None else secrets.randbelow(2**31)
    ctx.progress(Progress(_TIMED, "materials"))
    scenes = _scenes(params, narration, ctx, warnings)
    outputs = []
    for number in range(1, params.count + 1):
        chosen = _filled(scenes, params, narration.length_s, random.Random(seed + number - 1))  # noqa: S311 - an order, no secret
        outputs += _film(number, chosen, narration, params, ctx, seed)
    outputs.sort(key=lambda one: not one.name.startswith("final"))
    if narration.cues:
        path = ctx.output_path("subtitles.srt")
        path.write_text(as_srt(narration.cues), encoding="utf-8")
        outputs.append(OutputDraft("subtitles", path, "application/x-subrip", {"cues": len(narration.cues)}))
    for warning in warnings:
        ctx.log(warning, "warning")
    told = {"seed": seed, "script": narration.script}
    return [replace(one, facts=one.facts | told | _warned(one, warnings)) for one in outputs]


def transition_s(params: ComposeParams) -> float:
    """How long a transition takes: less where the parts are short."""
    return min(_TRANSITION_S, params.clip_s / 4)


def _warned(output: OutputDraft, warnings: list[str]) -> dict[str, Any]:
    return {"warnings": [*warnings, *output.facts.get("warnings", ())]} if output.name.startswith("final") else {}


def _narration(params: ComposeParams, ctx: Context) -> Narration:
    ctx.progress(Progress(0.05, "script"))
    script, path = narrated(params, ctx, lambda stage: ctx.progress(Progress(_SCRIPT, stage)))
    ctx.progress(Progress(_SPOKEN, "audio"))
    facts = probe(path, ctx.limits, ctx.canceled, whole=True)
    if facts.audio is None or facts.audio.duration_s <= 0:
        raise VidqueueError("no_audio_stream", "The narration has no sound.")
    return Narration(script, path, facts.audio, _heard_s(facts, facts.audio))


def _heard_s(facts: MediaFacts, audio: AudioFacts) -> float:
    return max(0.0, audio.start_s - facts.start_s) + audio.duration_s


def _with_cues(params: ComposeParams, narration: Narration, ctx: Context, warnings: list[str]) -> Narration:
    """The narration with subtitles that are in time with its pauses."""
    ctx.progress(Progress(_SPOKEN, "subtitle"))
    if not params.subtitles:
        return narration
    if not narration.script:
        warnings.append("There are no subtitles: the narration has no script.")
        return narration
    bounds = SandboxLimits(ctx.limits, ctx.limits.ffmpeg_timeout_s, ctx.canceled)
    with Listener(Track(check_source(narration.path), narration.audio), bounds) as listener:
        spans = spoken_spans(loudness(listener, narration.length_s))
    cues = timed(phrases_of(narration.script, _LETTERS[params.aspect]), spans)
    if not cues:
        warnings.append("There are no subtitles: nobody speaks in the narration.")
    return replace(narration, cues=tuple(within(cues, 0.0, narration.length_s)))


def _scenes(params: ComposeParams, narration: Narration, ctx: Context, warnings: list[str]) -> list[Scene]:
    """The parts of all materials, in the order of the list."""
    longest_s = max(params.clip_s, narration.length_s / _MOST_CLIPS + transition_s(params))
    if longest_s > params.clip_s:
        warnings.append(f"Each part is shown for {longest_s:.1f} s, because the film would have too many.")
    scenes: list[Scene] = []
    for number in range(len(params.materials)):
        ctx.progress(Progress(_TIMED, "materials", f"{number + 1} of {len(params.materials)}"))
        scenes += _parts(ctx.input("materials", number), number, longest_s, ctx)
    return scenes


def _parts(path: Path, number: int, longest_s: float, ctx: Context) -> Iterator[Scene]:
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
        yield Scene(path, begin_s, min(longest_s, end_s - begin_s), is_still=False)


def _filled(
    scenes: list[Scene], params: ComposeParams, length_s: float, dice: random.Random
) -> list[tuple[Scene, float]]:
    """Scenes, from the beginning again where they are too few, and how long each is shown, to exactly this length."""
    overlap_s = transition_s(params) if params.transition == "crossfade" else 0.0
    chosen: list[tuple[Scene, float]] = []
    left_s = length_s
    while left_s > 1e-6:
        for scene in _ordered(scenes, params, dice):
            overlap = overlap_s if chosen else 0.0
            shown_s = min(scene.length_s, left_s + overlap)
            if scene.length_s <= 2 * overlap_s or shown_s - overlap <= 0:
                continue
            chosen.append((scene, shown_s))
            left_s -= shown_s - overlap
            if left_s <= 1e-6:
                break
        if not chosen:
            raise VidqueueError("invalid_params", "All materials are shorter than the transitions between them.")
    return chosen


def _ordered(scenes: list[Scene], params: ComposeParams, dice: random.Random) -> list[Scene]:
    return dice.sample(scenes, len(scenes)) if params.order == "random" else scenes


def _film(
    number: int, chosen: list[tuple[Scene, float]], narration: Narration, params: ComposeParams, ctx: Context, seed: int
) -> list[OutputDraft]:
    """The montage alone, and the film with voice, music and subtitles."""
    ctx.log(f"Film {number}: {len(chosen)} parts, order by seed {seed + number - 1}.")
    share = (1 - _FOUND) / params.count
    begin = _FOUND + (number - 1) * share
    clips = [scene.clip(shown_s, params, is_first=place == 0) for place, (scene, shown_s) in enumerate(chosen)]
    combined = _exported(f"combined_{number}", {"clips": clips, "quality": "high"}, params, ctx, (begin, share / 2))
    wishes: dict[str, Any] = {
        "clips": [{"media": str(combined.path), "volume": 0}],
        "voice": [{"media": str(narration.path), "volume": params.voice_volume}],
        "quality": params.quality,
    }
    if params.music is not None:
        music = ctx.input("music")
        wishes["music"] = {"media": str(music), "volume": params.music_volume, "fade_out_s": _MUSIC_FADE_S}
    if narration.cues:
        path = ctx.output_path(f"said-{number}.srt")
        path.write_text(as_srt(narration.cues), encoding="utf-8")
        wishes |= {"subtitles": str(path), "subtitle_style": params.subtitle_style}
    final = _exported(f"final_{number}", wishes, params, ctx, (begin + share / 2, share / 2))
    ctx.output_path(f"said-{number}.srt").unlink(missing_ok=True)
    return [combined, final]


def _exported(
    name: str, wishes: dict[str, Any], params: ComposeParams, ctx: Context, part: tuple[float, float]
) -> OutputDraft:
    """An export into a folder of its own, whose result is moved to the others."""
    width, height = SIZES[params.aspect]
    told = ExportParams.model_validate(
        {**wishes, "width": width, "height": height, "fps": _RATE, "effort": params.effort}
    )
    folder = ctx.workspace / name
    folder.mkdir()
    stage = "combine" if name.startswith("combined") else "final"

    def report(progress: Progress) -> None:
        fraction = part[0] + progress.fraction * part[1]
        ctx.report(replace(progress, fraction=fraction, stage=stage, message=progress.message or progress.stage))

    inputs = {one.name: Path(one.reference) for one in media_of(told)}
    draft = make(told, replace(ctx, inputs=inputs, workspace=folder, report=report))
    path = ctx.output_path(f"{name}.mp4")
    draft.path.rename(path)
    folder.rmdir()
    return replace(draft, name=name, path=path)
