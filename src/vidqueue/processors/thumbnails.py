"""Thumbnails: a poster, a contact sheet, a sprite with WebVTT for scrubbing, and an animated preview of a video."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from vidqueue.errors import VidqueueError
from vidqueue.job import OutputDraft
from vidqueue.media import ffmpeg, verify
from vidqueue.media.facts import MediaFacts, VideoFacts
from vidqueue.media.jail.sandbox import SandboxLimits
from vidqueue.media.probe import probe
from vidqueue.media.source import Source, check_source
from vidqueue.processors.base import Context, Parameters, Processor, VideoInput
from vidqueue.processors.parts.reporting import log_remarks
from vidqueue.progress import Progress

if TYPE_CHECKING:  # they load numpy, which the catalogue does without
    from vidqueue.media.images import Window
    from vidqueue.media.sampling import Picture, Sample
    from vidqueue.processors.parts.scenes import Album

_MOST_SAMPLES = 600
_TILE = 320
_SPRITE_COLUMNS = 10
_MOST_TILES = 400
# From this length on only key pictures are decoded, as long as there are enough of them.
_LONG_S = 300.0
ImageChoice = Literal["jpg", "png", "webp"]
AnimationChoice = Literal["webp", "gif", "none"]
_MEDIA_TYPES = {"jpg": "image/jpeg", "png": "image/png", "webp": "image/webp", "gif": "image/gif"}


class ThumbnailsParams(Parameters):
    """Parameters of `thumbnails`."""

    video: VideoInput
    poster: bool = Field(True, description="One picture in full size: typical of the first scene, never a black one.")
    poster_at_s: float | None = Field(
        None, ge=0, allow_inf_nan=False, description="Time of the poster in seconds, instead of a choice."
    )
    poster_width: int | None = Field(None, ge=16, le=8192, description="Width of the poster; the video's if not given.")
    sheet: bool = Field(True, description="A contact sheet: pictures from all parts of the video in one.")
    columns: int = Field(4, ge=1, le=12, description="Columns of the contact sheet.")
    rows: int = Field(4, ge=1, le=12, description="Rows of the contact sheet.")
    sprite: bool = Field(True, description="Small pictures at even times, and a WebVTT file that names them.")
    interval_s: float | None = Field(
        None,
        ge=0.1,
        le=3600,
        description="Seconds between pictures of the sprite; it gets about a hundred if not given.",
    )
    preview: AnimationChoice = Field("webp", description="Kind of animated preview; `none` makes none.")
    preview_s: float = Field(6.0, ge=0.5, le=30, description="Length of the preview, in seconds.")
    preview_width: int = Field(320, ge=32, le=1280, description="Longer side of the preview, in pixels.")
    image: ImageChoice = Field("jpg", description="Kind of the pictures that do not move.")


@dataclass(frozen=True, slots=True)
class _Work:
    """One job: its parameters, its source, and the bounds of each run."""

    params: ThumbnailsParams
    ctx: Context
    source: Source
    facts: MediaFacts
    video: VideoFacts
    bounds: SandboxLimits

    @property
    def duration_s(self) -> float:
        return max(self.video.duration_s, 0.001)


class Thumbnails(Processor):
    """Make pictures of a video: a poster, a contact sheet, a sprite with WebVTT, and an animated preview."""

    name = "thumbnails"
    deterministic: ClassVar[bool] = True
    Params: ClassVar[type[Parameters]] = ThumbnailsParams

    def run(self, params: ThumbnailsParams, ctx: Context) -> list[OutputDraft]:
        """Probe, sample, choose, and write the pictures that are wanted."""
        from vidqueue.processors.parts.scenes import Album

        ctx.progress(Progress(0.0, "probe"))
        if not (params.poster or params.sheet or params.sprite or params.preview != "none"):
            raise VidqueueError("invalid_params", "Nothing was asked for.")
        path = ctx.inputs["video"]
        facts = probe(path, ctx.limits, ctx.canceled, whole=True)
        bounds = SandboxLimits(ctx.limits, ctx.limits.ffmpeg_timeout_s, ctx.canceled)
        work = _Work(params, ctx, check_source(path), facts, verify.playable_video(facts), bounds)
        album = Album(_sampled(work))
        outputs: list[OutputDraft] = []
        if params.poster:
            outputs.append(_poster(work, album))
        if params.sheet:
            outputs.append(_sheet(work, album))
        if params.sprite:
            outputs += _sprite(work, album)
        if params.preview != "none":
            outputs.append(_preview(work, album))
        return outputs


def _sampled(work: _Work) -> list[Sample]:
    step_s = max(work.duration_s / _MOST_SAMPLES, 0.1)
    if work.params.sprite and work.params.interval_s:
        step_s = max(min(step_s, work.params.interval_s), work.duration_s / _MOST_TILES)
    if work.duration_s > _LONG_S:
        found = _samples(work, step_s, keys_only=True)
        longest = max((b.time_s - a.time_s for a, b in itertools.pairwise(found)), default=math.inf)
        if longest <= max(4 * step_s, 10):
            return found
    found = _samples(work, step_s, keys_only=False)
    if not found:
        raise VidqueueError("media_damaged", "No picture of the video can be decoded.")
    return found


def _samples(work: _Work, step_s: float, *, keys_only: bool) -> list[Sample]:
    from vidqueue.media.sampling import Sampling, fitted, samples, shown_size

    wanted = Sampling(step_s, fitted(shown_size(work.video), _TILE, 4), keys_only)
    tally = ffmpeg.Tally(stream=f"0:{work.video.index}")
    found = []
    for one in samples(work.source, work.video, wanted, work.bounds, tally):
        found.append(one)
        work.ctx.progress(Progress(min(one.time_s / work.duration_s, 1.0) * 0.7, "sample"))
    log_remarks(work.ctx.log, tally)
    return found


def _poster(work: _Work, album: Album) -> OutputDraft:
    from vidqueue.media.sampling import Sampling, samples, shown_size

    work.ctx.progress(Progress(0.7, "poster"))
    time_s = work.params.poster_at_s
    if time_s is None:
        time_s = album.samples[album.poster()].time_s
    elif time_s >= work.duration_s + 0.1:
        raise VidqueueError(
            "trim_out_of_range", f"The poster is wanted at {time_s:g} s, but the video lasts {work.duration_s:.3f} s."
        )
    width, height = shown_size(work.video)
    scale = (work.params.poster_width or width) / width
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    wanted = Sampling(1e9, size, from_s=time_s, container=work.facts.container)
    tally = ffmpeg.Tally(stream=f"0:{work.video.index}")
    picture = next((one.picture for one in samples(work.source, work.video, wanted, work.bounds, tally)), None)
    if picture is None:  # nothing can be decoded from there on
        picture = album.samples[album.shown_at(time_s)].picture
    return _image(work, "poster", picture, {"time_s": round(time_s, 3)})


def _sheet(work: _Work, album: Album) -> OutputDraft:
    from vidqueue.processors.parts.scenes import grid

    work.ctx.progress(Progress(0.78, "sheet"))
    chosen = album.spread(work.params.columns * work.params.rows)
    tiles = [album.samples[number] for number in chosen]
    facts = {"columns": work.params.columns, "times_s": [round(one.time_s, 3) for one in tiles]}
    return _image(work, "sheet", grid([one.picture for one in tiles], work.params.columns), facts)


def _sprite(work: _Work, album: Album) -> list[OutputDraft]:
    from vidqueue.processors.parts.scenes import grid, halved

    work.ctx.progress(Progress(0.82, "sprite"))
    wanted_s = work.params.interval_s or max(work.duration_s / 100, 0.5)
    interval_s = max(wanted_s, work.duration_s / _MOST_TILES)
    if interval_s > wanted_s * 1.001:
        work.ctx.log(
            f"The sprite has a picture every {interval_s:.3f} s; more than {_MOST_TILES} are too many.", "warning"
        )
    count = max(1, math.ceil(work.duration_s / interval_s - 0.01))
    tiles = [halved(album.samples[album.shown_at(number * interval_s)].picture) for number in range(count)]
    columns = min(_SPRITE_COLUMNS, count)
    image = _image(work, "sprite", grid(tiles, columns), {"columns": columns, "count": count, "interval_s": interval_s})
    vtt = work.ctx.output_path("sprite.vtt")
    vtt.write_text(_webvtt(image.name, tiles[0], count, columns, interval_s, work.duration_s), encoding="utf-8")
    return [image, OutputDraft("sprite.vtt", vtt, "text/vtt", {"count": count})]


def _webvtt(image: str, tile: Picture, count: int, columns: int, interval_s: float, duration_s: float) -> str:
    height, width, _ = tile.shape
    cues = ["WEBVTT"]
    for number in range(count):
        end_s = duration_s if number == count - 1 else (number + 1) * interval_s
        place = f"{number % columns * width},{number // columns * height},{width},{height}"
        cues.append(f"{_clock(number * interval_s)} --> {_clock(end_s)}\n{image}#xywh={place}")
    return "\n\n".join(cues) + "\n"


def _clock(seconds: float) -> str:
    milliseconds = round(seconds * 1000)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{milliseconds // 1000:02}.{milliseconds % 1000:03}"


def _preview(work: _Work, album: Album) -> OutputDraft:
    from vidqueue.media.images import Animation, write_animation
    from vidqueue.media.sampling import fitted, shown_size

    kind = work.params.preview
    assert kind != "none"
    work.ctx.progress(Progress(0.88, "preview"))
    windows = _windows(work, album)
    fps = min(12.0, work.video.fps or 12.0)
    size = fitted(shown_size(work.video), work.params.preview_width)
    path = work.ctx.output_path(f"preview.{kind}")
    made = write_animation(
        work.source, work.video, Animation(windows, size, fps, kind, work.facts.container), path, work.bounds,
        on_progress=lambda _: work.ctx.progress(Progress(0.9, "preview")),
    )  # fmt: skip
    facts = {"width": size[0], "height": size[1], "pictures": made.encoded, "starts_s": [w.start_s for w in windows]}
    return OutputDraft(path.name, path, _MEDIA_TYPES[kind], facts)


def _windows(work: _Work, album: Album) -> list[Window]:
    """Parts of the video for the preview: all of a short one, else four from its whole length."""
    from vidqueue.media.images import Window

    if work.duration_s <= work.params.preview_s * 1.5:
        return [Window(0.0, max(work.duration_s, 0.05))]
    count = 4
    length_s = work.params.preview_s / count
    latest_s = work.duration_s - length_s
    chosen = [max(0.0, min(album.samples[number].time_s, latest_s)) for number in album.spread(count)]
    return [Window(round(start_s, 3), length_s) for start_s in chosen]


def _image(work: _Work, name: str, picture: Picture, facts: dict[str, object]) -> OutputDraft:
    from vidqueue.media.images import write_image

    path = work.ctx.output_path(f"{name}.{work.params.image}")
    write_image(picture, path, work.params.image, work.bounds)
    height, width, _ = picture.shape
    return OutputDraft(path.name, path, _MEDIA_TYPES[work.params.image], {"width": width, "height": height, **facts})
