"""Rendering the pieces of a film: the part of a clip that is seen alone, or a crossfade from one clip to the next.

Each piece is encoded once, with the settings of the whole film, so that joining them copies what is there: a long
film needs no more open decoders than two, and a changed clip costs its own pieces only.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

from vidqueue.errors import VidqueueError
from vidqueue.media import ffmpeg
from vidqueue.media.arguments import QUIET, counting_from_all, input_arguments, output_arguments
from vidqueue.media.containers import CONTAINERS
from vidqueue.media.cutting import can_be_sought, earlier_s, sought_from
from vidqueue.media.encoders import Effort, Encoder, Quality
from vidqueue.media.facts import MediaFacts, VideoFacts
from vidqueue.media.film.subtitles import Cue
from vidqueue.media.film.text_overlay import Burned, text_filter
from vidqueue.media.film.timeline import Placed, clock_of
from vidqueue.media.filters import standard_yuv, transparent_over
from vidqueue.media.jail.sandbox import SandboxLimits
from vidqueue.media.sampling import shown_size
from vidqueue.media.sink import created
from vidqueue.media.source import Source
from vidqueue.media.steady import STEADY, steadied

Fit = Literal["contain", "cover"]

# Pieces are in this container whatever the film will be in; its times are exact.
PIECE = CONTAINERS["mp4"]
# Further back than the picture that is shown at the wanted time, because the times of files are rounded.
_MARGIN_S = 0.25


@dataclass(frozen=True, slots=True)
class Look:
    """What all pieces of a film have in common; size in pixels, `background` as #rrggbb."""

    size: tuple[int, int]
    rate: Fraction
    background: str
    encoder: Encoder
    quality: Quality
    effort: Effort
    burned: Burned | None = None


@dataclass(frozen=True, slots=True)
class Shot:
    """A clip's pictures: a video from `start_s` on (from the beginning of the file, in seconds), or a still."""

    source: Source
    facts: MediaFacts
    video: VideoFacts
    start_s: float
    fit: Fit
    placed: Placed


@dataclass(frozen=True, slots=True)
class Part:
    """Some pictures of a shot, counted from its beginning."""

    shot: Shot
    skip: int
    frames: int

    def seek(self, rate: Fraction) -> tuple[float, float]:
        """Where to begin to read, and how long after that the first picture is shown; in seconds."""
        if self.shot.facts.is_still:
            return 0.0, 0.0
        wanted = self.shot.start_s + float(self.skip / rate)
        if self.shot.video.clock_restarts or not can_be_sought(self.shot.facts.container, self.shot.video):
            return 0.0, wanted
        # The picture that is shown at that time may have begun long before.
        container = self.shot.facts.container
        margin_s = max(earlier_s(container, self.shot.video), _MARGIN_S)
        begin = sought_from(container, wanted - self.shot.video.longest_frame_s - margin_s)
        return begin, wanted - begin


@dataclass(frozen=True, slots=True)
class Piece:
    """One part, or two that are crossfaded, of the same number of pictures."""

    parts: tuple[Part, ...]

    @property
    def frames(self) -> int:
        """How many pictures it has."""
        return self.parts[0].frames

    @property
    def first(self) -> int:
        """The picture of the film that is its first."""
        return self.parts[0].shot.placed.first + self.parts[0].skip


def pieces_of(shots: list[Shot]) -> list[Piece]:
    """The pieces of a film in their order."""
    found: list[Piece] = []
    for number, shot in enumerate(shots):
        placed = shot.placed
        if placed.before:
            earlier = shots[number - 1]
            tail = Part(earlier, earlier.placed.frames - placed.before, placed.before)
            found.append(Piece((tail, Part(shot, 0, placed.before))))
        alone = placed.frames - placed.before - placed.after
        if alone:
            found.append(Piece((Part(shot, placed.before, alone),)))
    return found


def render(
    piece: Piece, look: Look, path: Path, bounds: SandboxLimits, *, on_progress: ffmpeg.ProgressCallback
) -> ffmpeg.Tally:
    """Encode a piece into a new file.

    Raises:
        VidqueueError: a source cannot be decoded, or the piece is not whole.
        CanceledError: the event of `bounds` was set.
    """
    tally = _rendered(piece, look, path, bounds, on_progress)
    if tally.changed:
        path.unlink()
        sizes = tally.sizes
        tally = _rendered(piece, look, path, bounds, on_progress, steady=True)
        tally.sizes |= sizes
    if tally.decoded and tally.encoded != piece.frames:
        raise VidqueueError(
            "output_incomplete", f"A piece of the film has {tally.encoded} pictures instead of {piece.frames}."
        )
    return tally


def _rendered(
    piece: Piece, look: Look, path: Path, bounds: SandboxLimits, on_progress: ffmpeg.ProgressCallback,
    *, steady: bool = False,
) -> ffmpeg.Tally:  # fmt: skip
    last = len(piece.parts) - 1
    tally = ffmpeg.Tally(stream=f"{last}:{piece.parts[last].shot.video.index}")
    with ExitStack() as opened:
        files = [opened.enter_context(part.shot.source.opened()) for part in piece.parts]
        sink = opened.enter_context(created(path))
        drawn, texts = _text(piece, look, opened)
        ticks, _ = clock_of(look.rate)
        arguments = [*QUIET]
        for file, part in zip(files, piece.parts, strict=True):
            begin, _ = part.seek(look.rate)
            seeking = ("-ss", f"{begin:.6f}") if begin else ()
            arguments += input_arguments(
                file, bounds.limits, *part.shot.video.reading, *(STEADY if steady else ()), *seeking
            )
        arguments += [
            "-filter_complex", _graph(piece, look, drawn, steady=steady),
            "-map", "[film]", "-frames:v", str(piece.frames),
            "-fps_mode", "passthrough", "-enc_time_base", str(1 / look.rate), "-video_track_timescale", str(ticks),
            *look.encoder.arguments(look.quality, look.effort, float(look.rate), PIECE), *_stitchable(look.encoder),
            *output_arguments(sink.writing, PIECE, bounds.limits, faststart=False),
            *(
                word
                for number, part in enumerate(piece.parts)
                for word in counting_from_all(part.shot.facts.container, number)
            ),
        ]  # fmt: skip
        keep = [*files, *texts, sink.writing]
        ffmpeg.run(arguments, bounds, keep_open=keep, stdin=sink.reading, tally=tally, on_progress=on_progress)
    return tally


def recipe(piece: Piece, look: Look) -> list[object]:
    """All that decides the pictures of a piece but the bytes of its sources, as JSON values."""
    cues = _cues(piece, look)
    return [
        _graph(piece, look, ""),
        piece.frames,
        [part.seek(look.rate)[0] for part in piece.parts],
        look.encoder.arguments(look.quality, look.effort, float(look.rate), PIECE),
        [[cue.start_s, cue.end_s, cue.text] for cue in cues],
        repr((look.burned.style, look.burned.fonts)) if look.burned and cues else "",
        str(look.rate),
    ]


def _stitchable(encoder: Encoder) -> tuple[str, ...]:
    # x264 writes the same headers for all pieces, whatever their pictures are.
    return ("-x264-params", "stitchable=1") if encoder.name == "libx264" else ()


def _cues(piece: Piece, look: Look) -> list[Cue]:
    begin_s, end_s = (float(picture / look.rate) for picture in (piece.first, piece.first + piece.frames))
    return look.burned.within(begin_s, end_s) if look.burned else []


def _text(piece: Piece, look: Look, opened: ExitStack) -> tuple[str, list[int]]:
    """The filter that draws the subtitles of this piece, with a comma, and the descriptor that it reads."""
    cues = _cues(piece, look)
    if look.burned is None or not cues:
        return "", []
    drawn, script = opened.enter_context(text_filter(cues, look.size, look.burned.style, look.burned.fonts))
    return f"{drawn},", [script]


def _graph(piece: Piece, look: Look, drawn: str, *, steady: bool = False) -> str:
    chains = [
        f"[{number}:{part.shot.video.index}]{_chain(part, look, number, steady=steady)}[p{number}]"
        for number, part in enumerate(piece.parts)
    ]
    joined = "[p0]"
    if len(piece.parts) > 1:
        joined += f"[p1]xfade=transition=fade:offset=0:duration={float(piece.frames / look.rate):.6f},"
    return ";".join([*chains, f"{joined}{drawn}format={look.encoder.pixel_format(8)}[film]"])


def _chain(part: Part, look: Look, number: int, *, steady: bool) -> str:
    """The filters from decoded pictures to those of the film: exactly as many, all of one size, from time 0 on."""
    video, placed = part.shot.video, part.shot.placed
    _, wait = part.seek(look.rate)
    # A last picture that is shorter than one of the film is needed all the same.
    even_times = [] if part.shot.facts.is_still else [f"fps={look.rate}:start_time={wait:.6f}:eof_action=pass"]
    # Fewer pictures first; but a deinterlacer needs the neighbours.
    early = look.rate < video.fps and not video.interlaced
    inner = fitted_size(shown_size(video), look.size, part.shot.fit)
    steps = [
        *(steadied(video) if steady else []),
        *(even_times if early else []),
        transparent_over(video, look.background, f"t{number}"),
        standard_yuv(video, inner),
        _framed(inner, look),
        *([] if early else even_times),
        "tpad=stop_mode=clone:stop=-1",
        # A still has no rate of its own, and a crossfade asks both sides for theirs.
        f"settb={1 / look.rate},setpts=N,fps={look.rate}",
        f"trim=end_frame={part.frames}",
        *_fades(part, placed),
    ]
    return ",".join(filter(None, steps))


def _fades(part: Part, placed: Placed) -> list[str]:
    steps = []
    if placed.fade_in and part.skip == 0:
        steps.append(f"fade=t=in:s=0:n={placed.fade_in}")
    begin = placed.frames - placed.fade_out - part.skip
    if placed.fade_out and begin < part.frames:
        steps.append(f"fade=t=out:s={begin}:n={placed.fade_out}")
    return steps


def fitted_size(shown: tuple[int, int], frame: tuple[int, int], fit: Fit) -> tuple[int, int]:
    """The size to which a picture is scaled so that it lies inside the frame, or covers it; sides are even."""
    scales = [outer / inner for outer, inner in zip(frame, shown, strict=True)]
    scale = min(scales) if fit == "contain" else max(scales)
    sides = (round(inner * scale / 2) * 2 for inner in shown)
    width, height = (
        max(2, min(side, outer) if fit == "contain" else max(side, outer))
        for side, outer in zip(sides, frame, strict=True)
    )
    return width, height


def _framed(inner: tuple[int, int], look: Look) -> str:
    """Bars around a picture that is smaller than the frame; the middle of one that is larger."""
    width, height = look.size
    if inner == look.size:
        return ""
    # Of even distance to the edges, because two pixels share a sample of colour.
    x, y = abs(width - inner[0]) // 4 * 2, abs(height - inner[1]) // 4 * 2
    if inner[0] > width or inner[1] > height:
        return f"crop={width}:{height}:{x}:{y}"
    return f"pad={width}:{height}:{x}:{y}:color={look.background}"
