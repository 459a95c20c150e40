"""The steps of `compose`: the narration, its subtitles, the scenes from the materials, and the films."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import Any

from vidqueue.errors import VidqueueError
from vidqueue.job import OutputDraft
from vidqueue.media.facts import AudioFacts, MediaFacts
from vidqueue.media.film.sound_reader import Listener, Track
from vidqueue.media.film.speech import loudness, phrases_of, spoken_spans, timed
from vidqueue.media.film.subtitles import as_srt, within
from vidqueue.media.jail.sandbox import SandboxLimits
from vidqueue.media.probe import probe
from vidqueue.media.source import check_source
from vidqueue.processors.base import Context
from vidqueue.processors.parts.compose_params import ComposeParams
from vidqueue.processors.parts.composed_films import Films, Narration
from vidqueue.processors.parts.montage import SCENES_FROM, scenes_of
from vidqueue.processors.parts.narration import narrated
from vidqueue.processors.parts.seeds import drawn_seed
from vidqueue.progress import Progress

# The most characters of a subtitle: two lines of the frame's width.
_LETTERS = {"9:16": 44, "1:1": 56, "16:9": 84}
# Shares of the work that are done before the materials are looked at; as its users know them.
_SCRIPT, _SPOKEN = 0.1, 0.3


def tell(params: ComposeParams, ctx: Context) -> list[OutputDraft]:
    """Make the films.

    Raises:
        VidqueueError: a material or the narration cannot be used, or a film is not what it must be.
        CanceledError: the job was canceled.
    """
    warnings: list[str] = []
    narration = _with_cues(params, _narration(params, ctx), ctx, warnings)
    if params.stop_at != "film":
        return _said(params, narration, ctx, warnings)
    # Drawn by the id of the job, so that its next attempt finds the pieces of this one.
    seed = params.seed if params.seed is not None else drawn_seed(ctx) % 2**31
    ctx.progress(Progress(SCENES_FROM, "materials"))
    scenes = scenes_of(params, narration.length_s, ctx, warnings)
    outputs = Films(params, ctx, narration, seed).made_of(scenes)
    outputs.sort(key=lambda one: not one.name.startswith("final"))
    outputs += _subtitles(narration, ctx)
    if params.audio is None:
        outputs.append(_audio(narration, ctx))
    for warning in warnings:
        ctx.log(warning, "warning")
    told = {"seed": seed, **_told(narration)}
    return [replace(one, facts=one.facts | told | _warned(one, warnings)) for one in outputs]


def _said(params: ComposeParams, narration: Narration, ctx: Context, warnings: list[str]) -> list[OutputDraft]:
    """Make the narration, and its subtitles if enabled."""
    outputs = [_audio(narration, ctx)]
    outputs += _subtitles(narration, ctx) if params.stop_at == "subtitle" else []
    for warning in warnings:
        ctx.log(warning, "warning")
    return [replace(one, facts=one.facts | _told(narration)) for one in outputs]


def _told(narration: Narration) -> dict[str, Any]:
    return {"script": narration.script, "audio_duration_s": round(narration.length_s, 3)}


def _subtitles(narration: Narration, ctx: Context) -> list[OutputDraft]:
    if not narration.cues:
        return []
    path = ctx.output_path("subtitles.srt")
    path.write_text(as_srt(narration.cues), encoding="utf-8")
    return [OutputDraft("subtitles", path, "application/x-subrip", {"cues": len(narration.cues)})]


def _audio(narration: Narration, ctx: Context) -> OutputDraft:
    """Return the narration as an output: a copy, because the recording may be an input."""
    draft = ctx.output("audio", f"audio{narration.path.suffix.lower()}")
    shutil.copyfile(narration.path, draft.path)
    return draft


def _warned(output: OutputDraft, warnings: list[str]) -> dict[str, Any]:
    return {"warnings": [*warnings, *output.facts.get("warnings", ())]} if output.name.startswith("final") else {}


def _narration(params: ComposeParams, ctx: Context) -> Narration:
    ctx.progress(Progress(0.05, "script"))
    script, path = narrated(params, ctx, lambda stage: ctx.progress(Progress(_SCRIPT, stage)))
    ctx.progress(Progress(_SPOKEN, "audio"))
    try:
        facts = probe(path, ctx.limits, ctx.canceled, whole=True)
        if facts.audio is None or facts.audio.duration_s <= 0:
            raise VidqueueError("no_audio_stream", "The file has no sound.")
    except VidqueueError as error:
        if params.audio is not None:
            raise VidqueueError(error.code, f"The narration: {error.message}", hint=error.hint) from error
        message = f"The speech program wrote no usable sound: {error.message}"
        raise VidqueueError("model_failed", message) from error
    return Narration(script, path, facts.audio, _heard_s(facts, facts.audio))


def _heard_s(facts: MediaFacts, audio: AudioFacts) -> float:
    return max(0.0, audio.start_s - facts.start_s) + audio.duration_s


def _with_cues(params: ComposeParams, narration: Narration, ctx: Context, warnings: list[str]) -> Narration:
    """Add subtitles to the narration, timed by its pauses."""
    ctx.progress(Progress(_SPOKEN, "subtitle"))
    if not params.subtitles:
        return narration
    if not narration.script:
        warnings.append("There are no subtitles: the narration has no script.")
        return narration
    bounds = SandboxLimits(ctx.limits, ctx.limits.ffmpeg_timeout_s, ctx.canceled)
    with Listener(Track(check_source(narration.path), narration.audio), bounds) as listener:
        spans = spoken_spans(loudness(listener, narration.length_s))
    phrases = phrases_of(narration.script, _LETTERS[params.aspect])
    cues = timed(phrases, spans)
    if not cues:
        why = "nobody speaks in the narration" if phrases else "the script has no words"
        warnings.append(f"There are no subtitles: {why}.")
    return replace(narration, cues=tuple(within(cues, 0.0, narration.length_s)))
