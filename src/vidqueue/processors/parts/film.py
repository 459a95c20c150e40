"""Making the film of an export: facts of the clips, their places, their pieces, the joined file, and its check."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

from vidqueue.errors import VidqueueError
from vidqueue.job import OutputDraft
from vidqueue.media import ffmpeg, verify
from vidqueue.media.containers import CONTAINERS
from vidqueue.media.film import join
from vidqueue.media.film.mixing import Heard
from vidqueue.media.film.music import Music, Voice
from vidqueue.media.film.piece_cache import PieceCache
from vidqueue.media.film.pieces import PIECE, Look, Piece, Shot, pieces_of, render
from vidqueue.media.film.sound_reader import Track
from vidqueue.media.film.subtitles import Cue, as_srt, one_at_a_time, within
from vidqueue.media.film.text_overlay import Burned
from vidqueue.media.film.timeline import Placed, place
from vidqueue.media.jail.sandbox import SandboxLimits
from vidqueue.ops import active_time
from vidqueue.processors.base import Context
from vidqueue.processors.parts.export_params import Clip, ExportParams
from vidqueue.processors.parts.film_clips import (
    PROBED,
    Material,
    about_clip,
    begin_of,
    lengths,
    look_of,
    oddities,
    probed,
    with_cards,
)
from vidqueue.processors.parts.film_sound import backing_of, cut_voices, film_sound
from vidqueue.processors.parts.film_space import FilmSpace
from vidqueue.processors.parts.film_text import cues_of, fonts_for, late_cues, subtitle_style
from vidqueue.processors.parts.reporting import log_remarks
from vidqueue.progress import Progress, eta_s
from vidqueue.storage.reserved import ReservedSpace

# Shares of the whole work: until the pieces are rendered, and joined.
_RENDERED, _JOINED = 0.9, 0.98


@dataclass(slots=True)
class Film:
    """One export while it is made."""

    params: ExportParams
    ctx: Context
    bounds: SandboxLimits
    materials: list[Material] = field(default_factory=list)
    music: Music | None = None
    voices: list[Voice] = field(default_factory=list)
    cues: list[Cue] = field(default_factory=list)
    placed: list[Placed] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    cache: PieceCache | None = None
    reused: int = 0
    rendered: int = 0

    def warn(self, text: str) -> None:
        """Log a warning that the result carries; each sentence once."""
        if text not in self.warnings:
            self.warnings.append(text)
            self.ctx.log(text, "warning")


def make(params: ExportParams, ctx: Context, reserved: ReservedSpace, later: int = 0) -> OutputDraft:
    """Make the film.

    Args:
        params: the parameters of `export`.
        ctx: the context of the run.
        reserved: the reservation of disk space.
        later: bytes that the job will need after this film.

    Raises:
        VidqueueError: a clip cannot be used, or the result is not what it must be.
        WaitingError: other jobs have reserved the space that it needs.
        CanceledError: the job was canceled.
    """
    film = Film(params, ctx, SandboxLimits(ctx.limits, ctx.limits.ffmpeg_timeout_s, ctx.canceled))
    if ctx.cache_dir is not None and ctx.limits.film_cache_mib:
        film.cache = PieceCache(ctx.cache_dir / "film", ctx.limits.film_cache_mib * 1024 * 1024, ctx.canceled)
    found = probed(params, ctx)
    film.music, film.voices = backing_of(params, ctx)
    film.cues, guessed = cues_of(params, ctx)
    look = look_of(params, found, ctx)
    fonts, lacking = fonts_for(params, film.cues, ctx)
    for warning in [*guessed, *lacking]:
        film.warn(warning)
    if params.subtitle_mode == "burn" and film.cues:
        look = replace(look, burned=Burned(tuple(film.cues), subtitle_style(params.subtitle_style, look.size), fonts))
    film.materials = with_cards(params, found, look, fonts, ctx, film.bounds)
    for number, material in enumerate(film.materials):
        for note in oddities(material):
            film.warn(f"Clip {number}: {note}")
    film.placed = place(lengths(params.clips, film.materials), look.rate)
    _check_length(film, look.rate)
    space = FilmSpace(reserved, later)
    rendered = _rendered(film, look, space)
    space.joining()
    output = _joined(film, look, rendered)
    return _checked(film, look, output)


def _check_length(film: Film, rate: Fraction) -> None:
    seconds = film.placed[-1].end / rate
    if seconds > film.ctx.limits.max_duration_s:
        raise VidqueueError("media_too_long", f"The film would last {float(seconds):.0f} s.")
    for warning in [*cut_voices(film.voices, float(seconds)), *late_cues(film.cues, float(seconds))]:
        film.warn(warning)


def _rendered(film: Film, look: Look, space: FilmSpace) -> list[join.Rendered]:
    shots = [
        Shot(one.source, one.facts, one.video, begin_of(clip, one.facts, one.video), clip.fit, placed)
        for one, clip, placed in zip(film.materials, film.params.clips, film.placed, strict=True)
    ]
    pieces = pieces_of(shots)
    files = [join.Rendered(film.ctx.output_path(f"piece-{n}.mp4"), one.frames) for n, one in enumerate(pieces)]
    names = [film.cache.name_of(piece, look) if film.cache else "" for piece in pieces]
    # All at once, so that the space for the missing pieces is known, and the cache keeps these meanwhile.
    kept = [
        file.path if film.cache and film.cache.take(name, file.path) else None
        for name, file in zip(names, files, strict=True)
    ]
    film.reused = len(kept) - kept.count(None)
    space.begin(pieces, look, kept)
    reporter = _Reporter(film.ctx, "render", film.placed[-1].end, PROBED, _RENDERED)
    for number, (piece, file) in enumerate(zip(pieces, files, strict=True)):
        reporter.message = f"piece {number + 1} of {len(pieces)}"
        if kept[number] is None:
            tally = render(piece, look, file.path, film.bounds, on_progress=space.watched(file, reporter.seen))
            space.rendered(file)
            film.rendered += 1
            _judge(film, look, piece, tally, shots)
            # One from a damaged source is rendered again, so that its warnings are told again.
            if film.cache and not tally.errors and not tally.corrupt:
                film.cache.keep(names[number], file.path)
        reporter.add(piece.frames)
    return files


def _judge(film: Film, look: Look, piece: Piece, tally: ffmpeg.Tally, shots: list[Shot]) -> None:
    """Warn of what was lost in decoding, or refuse."""
    log_remarks(film.ctx.log, tally)
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
        for warning in verify.check_decoding(part.shot.video, tally, complete=False, begins=False):
            film.warn(f"Clip {number}: {warning}")
    except VidqueueError as error:
        raise about_clip(number, error) from error


class _Reporter:
    """Turns pictures into the progress of a stage, with the time that is left for the whole work."""

    def __init__(self, ctx: Context, stage: str, total: int, begin: float, end: float) -> None:
        self._ctx, self._stage, self._total = ctx, stage, total
        self._begin, self._end = begin, end
        self._done = 0
        self._started = active_time.now()
        self.message = ""

    def seen(self, seen: ffmpeg.Seen) -> None:
        """Take a report of a run."""
        share = min((self._done + seen.frame) / self._total, 1.0)
        left = eta_s(share * self._end, active_time.now() - self._started)
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
    subtitles = _muxed(film, look.rate) if film.params.subtitle_mode == "mux" else ""
    target = join.Target(output, container, codec, look.rate, subtitles)
    reporter = _Reporter(film.ctx, "join", film.placed[-1].end, _RENDERED, _JOINED)
    sound = film_sound(_heard(film), look.rate, film.music, film.voices, film.bounds)
    join.join_film(rendered, sound, target, film.bounds, on_progress=reporter.seen)
    for one in rendered:
        one.path.unlink()
    for card in film.ctx.workspace.glob("card-*.png"):
        card.unlink()
    return output


def _muxed(film: Film, rate: Fraction) -> str:
    """The subtitles that lie in the film, as SRT."""
    shown = within(film.cues, 0.0, float(film.placed[-1].end / rate))
    # MP4 shows one text at a time, and ffmpeg would cut the earlier one of two.
    return as_srt(one_at_a_time(shown) if film.params.container in ("mp4", "mov") else shown)


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
    begin_s = begin_of(clip, material.facts, video)
    return Track(
        material.source, audio, begin_s, clock_restarts=video.clock_restarts, container=material.facts.container
    )


def _checked(film: Film, look: Look, output: Path) -> OutputDraft:
    film.ctx.progress(Progress(0.99, "check"))
    frames = film.placed[-1].end
    subtitles = int(film.params.subtitle_mode == "mux" and bool(_muxed(film, look.rate)))
    expected = verify.Expected(frames, float(frames / look.rate), float(1 / look.rate), 1, subtitles)
    facts = verify.check_output(output, expected, film.ctx.limits, film.ctx.canceled)
    if facts.subtitles < subtitles:
        raise VidqueueError("output_incomplete", "The result has no subtitles.")
    told = {
        "warnings": film.warnings,
        "pieces": {"rendered": film.rendered, "reused": film.reused},
        "clips": [
            {"start_s": _rounded(one.first / look.rate), "duration_s": _rounded(one.frames / look.rate)}
            for one in film.placed
        ],
    }
    return OutputDraft("video", output, CONTAINERS[film.params.container].media_type, facts.as_json() | told)


def _rounded(seconds: Fraction) -> float:
    return round(float(seconds), 6)
