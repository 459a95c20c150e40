"""The clips of an export: their files, probed and checked, their lengths, and the size and rate of the film."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from vidqueue.errors import VidqueueError
from vidqueue.media import encoders, verify
from vidqueue.media.facts import MULTIVIEW, MediaFacts, VideoFacts, end_of, late_of
from vidqueue.media.film.fonts import Font
from vidqueue.media.film.pieces import Look
from vidqueue.media.film.text_overlay import write_card
from vidqueue.media.film.timeline import Length, exact_rate
from vidqueue.media.jail.sandbox import SandboxLimits
from vidqueue.media.probe import probe
from vidqueue.media.sampling import shown_size
from vidqueue.media.source import Source, check_source
from vidqueue.processors.base import Context
from vidqueue.processors.parts.choices import fitting_encoder
from vidqueue.processors.parts.export_params import Clip, ExportParams
from vidqueue.processors.parts.film_text import card_style
from vidqueue.progress import Progress

# The share of the whole work until all clips are probed.
PROBED = 0.04
_STILL_S = 3.0
_STILL_FPS = 30.0
_CARDS_ONLY = (1280, 720)


@dataclass(frozen=True, slots=True)
class Material:
    """The file of a clip and what a probe found in it."""

    source: Source
    facts: MediaFacts
    video: VideoFacts


def probed(params: ExportParams, ctx: Context) -> list[Material | None]:
    """The material of each clip, None for title cards; a file that is used more than once is probed once.

    Raises:
        VidqueueError: a clip cannot be used.
        CanceledError: the job was canceled.
    """
    found: dict[Path, Material] = {}
    materials: list[Material | None] = []
    for number, clip in enumerate(params.clips):
        share = number / len(params.clips)
        ctx.progress(Progress(share * PROBED, "probe", f"clip {number + 1} of {len(params.clips)}"))
        if clip.media is None:
            materials.append(None)
            continue
        path = ctx.input("clips", number, "media")
        if path not in found:
            found[path] = _material(path, number, ctx)
        _check_kind(number, clip, found[path])
        materials.append(found[path])
    return materials


def with_cards(
    params: ExportParams,
    found: list[Material | None],
    look: Look,
    fonts: Sequence[Font],
    ctx: Context,
    bounds: SandboxLimits,
) -> list[Material]:
    """The materials with the title cards, which are drawn now that the size of the film is known."""
    drawn: dict[str, Material] = {}
    style = card_style(look.size, look.background)
    for number, clip in enumerate(params.clips):
        if clip.text is not None and clip.text not in drawn:
            path = ctx.output_path(f"card-{number}.png")
            write_card(clip.text, path, look.size, look.background, style, bounds, fonts=fonts)
            drawn[clip.text] = _material(path, number, ctx)
    return [material or drawn[clip.text or ""] for clip, material in zip(params.clips, found, strict=True)]


def _check_kind(number: int, clip: Clip, material: Material) -> None:
    if material.facts.is_still and (clip.start_s or clip.end_s is not None):
        raise VidqueueError("invalid_params", f"Clip {number} is a still; it has duration_s, not start_s and end_s.")
    if not material.facts.is_still and clip.duration_s is not None:
        raise VidqueueError("invalid_params", f"Clip {number} is a video; it has start_s and end_s, not duration_s.")


def _material(path: Path, number: int, ctx: Context) -> Material:
    try:
        facts = probe(path, ctx.limits, ctx.canceled, whole=True)
        if facts.is_still and facts.video is not None:
            return Material(check_source(path), facts, facts.video)
        return Material(check_source(path), facts, verify.playable_video(facts))
    except VidqueueError as error:
        raise about_clip(number, error) from error


def look_of(params: ExportParams, found: list[Material | None], ctx: Context) -> Look:
    """Size, rate and encoder of the film.

    Raises:
        VidqueueError: `media_too_large`, `encoder_unavailable`.
    """
    encoder = fitting_encoder(params.container, None, "software")
    encoders.require(encoder)
    files = [one for one in found if one is not None]
    fps = params.fps or next((one.video.fps for one in files if not one.facts.is_still), 0.0) or _STILL_FPS
    size = frame_size(params.width, params.height, shown_size(files[0].video) if files else _CARDS_ONLY)
    if size[0] * size[1] > ctx.limits.max_pixels:
        raise VidqueueError("media_too_large", f"The film would be {size[0]}x{size[1]} pixels.")
    rate = exact_rate(min(max(fps, 1.0), 240.0))
    return Look(size, rate, params.background, encoder, params.quality, params.effort)


def about_clip(number: int, error: VidqueueError) -> VidqueueError:
    """The error with the number of the clip that it is about."""
    return VidqueueError(error.code, f"Clip {number}: {error.message}", hint=error.hint)


def frame_size(width: int | None, height: int | None, shown: tuple[int, int]) -> tuple[int, int]:
    """Width and height of the film, even; what is not given follows from the size of the first clip as it is shown."""
    if width and height:
        return width, height
    scale = width / shown[0] if width else height / shown[1] if height else 1.0
    return width or _even(shown[0] * scale), height or _even(shown[1] * scale)


def _even(pixels: float) -> int:
    return max(2, round(pixels / 2) * 2)


def lengths(clips: list[Clip], materials: list[Material]) -> list[Length]:
    """How long each clip is in the film.

    Raises:
        VidqueueError: `trim_out_of_range`.
    """
    return [
        Length(_seconds(number, clip, material), clip.transition, Fraction(str(clip.transition_s)))
        for number, (clip, material) in enumerate(zip(clips, materials, strict=True))
    ]


def _seconds(number: int, clip: Clip, material: Material) -> Fraction:
    if material.facts.is_still:
        return Fraction(str(clip.duration_s or _STILL_S))
    video = material.video
    end_s = end_of(material.facts, video)
    last = end_s + max(video.longest_frame_s, 0.1)
    if clip.start_s >= end_s or (clip.end_s or 0.0) > last:
        wanted = f"{clip.start_s:g} s to {'the end' if clip.end_s is None else f'{clip.end_s:g} s'}"
        raise VidqueueError(
            "trim_out_of_range", f"Clip {number} is wanted from {wanted}, but the video lasts {end_s:.3f} s."
        )
    end = end_s if clip.end_s is None else clip.end_s
    begin = begin_of(clip, material.facts, video)
    return Fraction(str(round(end, 6))) - Fraction(str(round(begin, 6)))


def oddities(material: Material) -> list[str]:
    """A sentence for each thing that a person would miss in a clip, and whose reason lies in its file."""
    video, said = material.video, []
    if video.leading:
        said.append(f"the first {video.leading} pictures are left out: they need others from before the file begins.")
    if video.clock_restarts:
        said.append("the clock of the file begins again or jumps; the parts were joined.")
    if video.stereo == MULTIVIEW:
        said.append("only one of the two views of the 3D video is shown.")
    if material.facts.unread_audio and not material.facts.audios:
        said.append("it is silent, because its sound cannot be read.")
    return said


def begin_of(clip: Clip, facts: MediaFacts, video: VideoFacts) -> float:
    """Where a clip begins, in seconds from the beginning of the file; a whole video begins with its first picture."""
    return late_of(facts, video) if not clip.start_s and clip.end_s is None else clip.start_s
