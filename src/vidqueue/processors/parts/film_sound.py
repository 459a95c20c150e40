"""The sound of an export: that of its clips, its voices and its music."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

from vidqueue.errors import VidqueueError
from vidqueue.media.facts import AudioFacts
from vidqueue.media.film.mixing import Heard, clip_sound, not_too_loud
from vidqueue.media.film.music import Music, Voice, with_backing
from vidqueue.media.film.sound_reader import Sound, Track
from vidqueue.media.film.timeline import samples_at
from vidqueue.media.jail.sandbox import SandboxLimits
from vidqueue.media.probe import probe
from vidqueue.media.source import check_source
from vidqueue.processors.base import Context
from vidqueue.processors.parts.export_params import ExportParams


def backing_of(params: ExportParams, ctx: Context) -> tuple[Music | None, list[Voice]]:
    """The music and the voices of a film, probed.

    Raises:
        VidqueueError: a file has no sound that can be read.
        CanceledError: the job was canceled.
    """
    music = None
    if params.music is not None:
        audio = _audio(ctx.input("music", "media"), "The music", ctx)
        track = Track(check_source(ctx.input("music", "media")), audio, loops=params.music.loop)
        length_s = audio.start_s + audio.duration_s
        music = Music(track, length_s, params.music.volume, params.music.duck, params.music.fade_out_s)
    voices = []
    for number, voice in enumerate(params.voice):
        path = ctx.input("voice", number, "media")
        track = Track(check_source(path), _audio(path, f"Voice {number}", ctx))
        voices.append(Voice(track, voice.start_s, voice.volume))
    return music, voices


def cut_voices(voices: Sequence[Voice], length_s: float) -> list[str]:
    """A sentence for each voice that the film is too short for."""
    return [
        f"Voice {number} is cut off: the film ends before it."
        for number, voice in enumerate(voices)
        if voice.start_s + voice.track.audio.duration_s > length_s + 0.1
    ]


def film_sound(
    clips: Sequence[Heard], rate: Fraction, music: Music | None, voices: Sequence[Voice], bounds: SandboxLimits
) -> Iterator[Sound]:
    """The whole sound of a film in blocks, as long as its pictures."""
    sound = clip_sound(clips, rate, bounds)
    if music or voices:
        sound = with_backing(sound, samples_at(clips[-1].placed.end, rate), music, voices, bounds)
    return map(not_too_loud, sound)


def _audio(path: Path, what: str, ctx: Context) -> AudioFacts:
    try:
        facts = probe(path, ctx.limits, ctx.canceled, whole=True)
    except VidqueueError as error:
        raise VidqueueError(error.code, f"{what}: {error.message}", hint=error.hint) from error
    if facts.audio is None:
        raise VidqueueError("no_audio_stream", f"{what}: the file has no sound.")
    return facts.audio
