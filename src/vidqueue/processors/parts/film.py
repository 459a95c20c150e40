"""Making the film of an export: facts of the clips, their places, their pieces, the joined file, and its check."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from vidqueue.errors import VidqueueError
from vidqueue.job import OutputDraft
from vidqueue.media import encoders, ffmpeg, verify
from vidqueue.media.containers import CONTAINERS
from vidqueue.media.facts import MediaFacts, VideoFacts
from vidqueue.media.film import join
from vidqueue.media.film.backing import Music, Voice
from vidqueue.media.film.listening import Track
from vidqueue.media.film.mixing import Heard
from vidqueue.media.film.pieces import PIECE, Look, Piece, Shot, pieces_of, render
from vidqueue.media.film.timeline import Length, Placed, exact_rate, place
from vidqueue.media.jail.sandbox import SandboxLimits
from vidqueue.media.probe import probe
from vidqueue.media.sampling import shown_size
from vidqueue.media.source import Source, check_source
from vidqueue.processors.base import Context
from vidqueue.processors.export import Clip, ExportParams
from vidqueue.processors.parts.choices import fitting_encoder
from vidqueue.processors.parts.film_sound import backing_of, cut_voices, film_sound
from vidqueue.processors.parts.reporting import log_remarks
from vidqueue.progress import Progress, eta_s

_STILL_S = 3.0
_STILL_FPS = 30.0
# Shares of the whole work: until the clips are probed, rendered, and joined.
_PROBED, _RENDERED, _JOINED = 0.04, 0.9, 0.98


@dataclass(frozen=True, slots=True)
class Material:
    """The file of a clip and what a probe found in it."""

    source: Source
    facts: MediaFacts
    video: VideoFacts


@dataclass(slots=True)
class Film:
    """One export while it is made."""

    params: ExportParams
    ctx: Context
    bounds: SandboxLimits
    materials: list[Material] = field(default_factory=list)
    music: Music | None = None
    voices: list[Voice] = field(default_factory=list)
    placed: list[Placed] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def warn(self, text: str) -> None:
        """Log a warning that the result carries; each sentence once."""
        if text not in self.warnings:
            self.warnings.append(text)
            self.ctx.log(text, "warning")


def make(params: ExportParams, ctx: Context) -> OutputDraft:
    """Make the film.

    Raises:
        VidqueueError: a clip cannot be used, or the result is not what it must be.
        CanceledError: the job was canceled.
    """
    film = Film(params, ctx, SandboxLimits(ctx.limits, ctx.limits.ffmpeg_timeout_s, ctx.canceled))
    film.materials = _probed(film)
    film.music, film.voices = backing_of(params, ctx)
    look = _look(film)
    film.placed = place(_lengths(film), look.rate)
    _check_length(film, look.rate)
    rendered = _rendered(film, look)
    output = _joined(film, look, rendered)
    return _checked(film, look, output)


def _probed(film: Film) -> list[Material]:
    """The material of each clip; a file that is used more than once is probed once."""
    found: dict[Path, Material] = {}
    materials = []
    for number, clip in enumerate(film.params.clips):
        share = number / len(film.params.clips)
        film.ctx.progress(Progress(share * _PROBED, "probe", f"clip {number + 1} of {len(film.params.clips)}"))
        path = film.ctx.input("clips", number, "media")
        if path not in found:
            found[path] = _material(path, number, film)
        if found[path].facts.is_still and (clip.start_s or clip.end_s is not None):
            raise VidqueueError(
                "invalid_params", f"Clip {number} is a still; it has duration_s, not start_s and end_s."
            )
        if not found[path].facts.is_still and clip.duration_s is not None:
            raise VidqueueError(
                "invalid_params", f"Clip {number} is a video; it has start_s and end_s, not duration_s."
            )
        materials.append(found[path])
    return materials


def _material(path: Path, number: int, film: Film) -> Material:
    try:
        facts = probe(path, film.ctx.limits, film.ctx.canceled, whole=True)
        if facts.is_still and facts.video is not None:
            return Material(check_source(path), facts, facts.video)
        return Material(check_source(path), facts, verify.playable_video(facts))
    except VidqueueError as error:
        raise about_clip(number, error) from error


def about_clip(number: int, error: VidqueueError) -> VidqueueError:
    """The error with the number of the clip that it is about."""
    return VidqueueError(error.code, f"Clip {number}: {error.message}", hint=error.hint)


def _look(film: Film) -> Look:
    params, first = film.params, film.materials[0].video
    encoder = fitting_encoder(params.container, None, "software")
    encoders.require(encoder)
    fps = params.fps or next((one.video.fps for one in film.materials if not one.facts.is_still), 0.0) or _STILL_FPS
    size = frame_size(params.width, params.height, shown_size(first))
    if size[0] * size[1] > film.ctx.limits.max_pixels:
        raise VidqueueError("media_too_large", f"The film would be {size[0]}x{size[1]} pixels.")
    rate = exact_rate(min(max(fps, 1.0), 240.0))
    return Look(size, rate, params.background, encoder, params.quality, params.effort)


def frame_size(width: int | None, height: int | None, shown: tuple[int, int]) -> tuple[int, int]:
    """Width and height of the film, even; what is not given follows from the size of the first clip as it is shown."""
    if width and height:
        return width, height
    scale = width / shown[0] if width else height / shown[1] if height else 1.0
    return width or _even(shown[0] * scale), height or _even(shown[1] * scale)


def _even(pixels: float) -> int:
    return max(2, round(pixels / 2) * 2)


def _lengths(film: Film) -> list[Length]:
    return [
        Length(_seconds(number, clip, material), clip.transition, Fraction(str(clip.transition_s)))
        for number, (clip, material) in enumerate(zip(film.params.clips, film.materials, strict=True))
    ]


def _seconds(number: int, clip: Clip, material: Material) -> Fraction:
    if material.facts.is_still:
        return Fraction(str(clip.duration_s or _STILL_S))
    video = material.video
    end_s = end_of(material.facts, video)
    last = end_s + max(video.longest_frame_s, 0.1)
    if clip.start_s >= end_s or (clip.end_s or 0.0) > last:
        wanted = f"{clip.start_s:g} to {'the end' if clip.end_s is None else f'{clip.end_s:g}'}"
        raise VidqueueError(
            "trim_out_of_range", f"Clip {number} is wanted from {wanted} s, but the video lasts {end_s:.3f} s."
        )
    end = end_s if clip.end_s is None else clip.end_s
    return Fraction(str(round(end, 6))) - Fraction(str(clip.start_s))


def end_of(facts: MediaFacts, video: VideoFacts) -> float:
    """When the pictures of a file end, in seconds from its beginning."""
    return video.duration_s if video.clock_restarts else max(0.0, video.start_s - facts.start_s) + video.duration_s


def _check_length(film: Film, rate: Fraction) -> None:
    seconds = film.placed[-1].end / rate
    if seconds > film.ctx.limits.max_duration_s:
        raise VidqueueError("media_too_long", f"The film would last {float(seconds):.0f} s.")
    for warning in cut_voices(film.voices, float(seconds)):
        film.warn(warning)


def _rendered(film: Film, look: Look) -> list[join.Rendered]:
    shots = [
        Shot(one.source, one.facts, one.video, clip.start_s, clip.fit, placed)
        for one, clip, placed in zip(film.materials, film.params.clips, film.placed, strict=True)
    ]
    pieces = pieces_of(shots)
    reporter = _Reporter(film.ctx, "render", film.placed[-1].end, _PROBED, _RENDERED)
    rendered = []
    for number, piece in enumerate(pieces):
        path = film.ctx.output_path(f"piece-{number}.mp4")
        reporter.message = f"piece {number + 1} of {len(pieces)}"
        tally = render(piece, look, path, film.bounds, on_progress=reporter.seen)
        reporter.add(piece.frames)
        _judge(film, look, piece, tally, shots)
        rendered.append(join.Rendered(path, piece.frames))
    return rendered


def _judge(film: Film, look: Look, piece: Piece, tally: ffmpeg.Tally, shots: list[Shot]) -> None:
    """Warn of what was lost in decoding, or refuse."""
    log_remarks(film.ctx, tally)
    part = piece.parts[-1]
    if part.shot.facts.is_still and tally.decoded:
        return
    number = next(place for place, shot in enumerate(shots) if shot is part.shot)
    if tally.decoded and part.seek(look.rate)[0] > 0:
        # After a seek some decoders complain about pictures that need earlier ones and are not shown.
        if tally.errors or tally.corrupt:
            film.warn(f"Clip {number}: {tally.errors} packets were refused and {tally.corrupt} pictures damaged.")
        return
    try:
        for warning in verify.check_decoding(part.shot.video, tally, complete=False):
            film.warn(f"Clip {number}: {warning}")
    except VidqueueError as error:
        raise about_clip(number, error) from error


class _Reporter:
    """Turns pictures into the progress of a stage, with the time that is left for the whole work."""

    def __init__(self, ctx: Context, stage: str, total: int, begin: float, end: float) -> None:
        self._ctx, self._stage, self._total = ctx, stage, total
        self._begin, self._end = begin, end
        self._done = 0
        self._started = time.monotonic()
        self.message = ""

    def seen(self, seen: ffmpeg.Seen) -> None:
        """Take a report of a run."""
        share = min((self._done + seen.frame) / self._total, 1.0)
        left = eta_s(share * self._end, time.monotonic() - self._started)
        fraction = self._begin + share * (self._end - self._begin)
        self._ctx.progress(Progress(fraction, self._stage, self.message, seen.fps or None, seen.speed or None, left))

    def add(self, frames: int) -> None:
        """Pictures that are done for good."""
        self._done += frames
        self.seen(ffmpeg.Seen())


def _joined(film: Film, look: Look, rendered: list[join.Rendered]) -> Path:
    container = CONTAINERS[film.params.container]
    codec = look.encoder.codec
    while len(rendered) > join.MOST_AT_ONCE:
        rendered = list(_grouped(film, look, rendered))
    output = film.ctx.output_path(container.filename)
    target = join.Target(output, container, codec, look.rate)
    reporter = _Reporter(film.ctx, "join", film.placed[-1].end, _RENDERED, _JOINED)
    sound = film_sound(_heard(film), look.rate, film.music, film.voices, film.bounds)
    join.join_film(rendered, sound, target, film.bounds, on_progress=reporter.seen)
    for one in rendered:
        one.path.unlink()
    return output


def _grouped(film: Film, look: Look, rendered: list[join.Rendered]) -> Iterator[join.Rendered]:
    for begin in range(0, len(rendered), join.MOST_AT_ONCE):
        film.ctx.progress(Progress(_RENDERED, "join"))
        group = rendered[begin : begin + join.MOST_AT_ONCE]
        path = group[0].path.with_suffix(f".{len(group)}.mp4")
        yield join.join_pictures(group, join.Target(path, PIECE, look.encoder.codec, look.rate), film.bounds)
        for one in group:
            one.path.unlink()


def _heard(film: Film) -> list[Heard]:
    return [
        Heard(placed, _track(clip, material), clip.volume)
        for clip, material, placed in zip(film.params.clips, film.materials, film.placed, strict=True)
    ]


def _track(clip: Clip, material: Material) -> Track | None:
    audio, video = material.facts.audio, material.video
    if audio is None or material.facts.is_still:
        return None
    return Track(material.source, audio, clip.start_s, clock_restarts=video.clock_restarts)


def _checked(film: Film, look: Look, output: Path) -> OutputDraft:
    film.ctx.progress(Progress(0.99, "check"))
    frames = film.placed[-1].end
    expected = verify.Expected(frames, float(frames / look.rate), float(1 / look.rate), 1)
    facts = verify.check_output(output, expected, film.ctx.limits, film.ctx.canceled)
    told = {
        "warnings": film.warnings,
        "clips": [
            {"start_s": _rounded(one.first / look.rate), "duration_s": _rounded(one.frames / look.rate)}
            for one in film.placed
        ],
    }
    return OutputDraft("video", output, CONTAINERS[film.params.container].media_type, facts.as_json() | told)


def _rounded(seconds: Fraction) -> float:
    return round(float(seconds), 6)
