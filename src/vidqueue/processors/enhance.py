"""Enhance: denoise, sharpen and correct colour with torch on the lane's device, through the shared frame pipeline."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, NamedTuple, Self

from pydantic import Field, model_validator

from vidqueue.job import Device, OutputDraft
from vidqueue.media import encoders, verify
from vidqueue.media.carry import Keeping, plan_extras
from vidqueue.media.closed_captions import lost_captions
from vidqueue.media.containers import CONTAINERS, Container, ContainerName, VideoCodec, carrying_untouched
from vidqueue.media.drawing import NOTHING_DRAWN, drawn
from vidqueue.media.encoder import Target
from vidqueue.media.encoders import Effort, Encoder, Quality
from vidqueue.media.facts import MediaFacts, VideoFacts
from vidqueue.media.filters import conversions, output_colour
from vidqueue.media.frames import Processed, picture_format, process_frames
from vidqueue.media.hdr import NO_METADATA, read_static_metadata
from vidqueue.media.jail.sandbox import SandboxLimits
from vidqueue.media.marks import lost_track_marks
from vidqueue.media.picture import Frame
from vidqueue.media.pixel_shapes import changed_shape
from vidqueue.media.probe import probe
from vidqueue.media.sound_changes import changing, first_channels
from vidqueue.media.soundtracks import SoundWishes, plan_audio, with_tracks
from vidqueue.media.source import check_source, unchanged
from vidqueue.media.tags import read_tags
from vidqueue.ops import active_time
from vidqueue.processors.base import Context, Parameters, Processor, VideoInput
from vidqueue.processors.parts.choices import (
    BLACK,
    AudioTracks,
    Background,
    EncoderWish,
    Fields,
    Metadata,
    Subtitles,
    ToneMap,
    fitting_encoder,
    treatment,
)
from vidqueue.processors.parts.encoder_choice import Wanted, taken, with_fallback
from vidqueue.progress import Progress, eta_s

_REPORT_EVERY_S = 0.25
# A quality at which decoded pictures are the same to within about 47 dB, as measured with x264, x265, VP9 and AV1.
_FAITHFUL = 10
OPERATIONS = ("denoise", "sharpen", "brightness", "contrast", "saturation", "gamma")


class EnhanceParams(Parameters):
    """Parameters of `enhance`; the defaults change nothing."""

    video: VideoInput
    denoise: float = Field(0.0, ge=0, le=1, description="Smooth noise, keep edges; 0 is off, 1 is strongest.")
    sharpen: float = Field(0.0, ge=0, le=1, description="Unsharp mask; 0 is off, 1 is strongest.")
    brightness: float = Field(0.0, ge=-0.5, le=0.5, description="Added to every pixel, as a share of white.")
    contrast: float = Field(1.0, ge=0.25, le=4, description="Around middle grey; 1 changes nothing.")
    saturation: float = Field(1.0, ge=0, le=4, description="0 is black and white, 1 changes nothing.")
    gamma: float = Field(1.0, ge=0.25, le=4, description="Above 1 lifts the shadows; 1 changes nothing.")
    container: ContainerName | None = Field(
        None, description="Kind of file to write; the first of mp4, mov, mkv that carries the sound when not given."
    )
    codec: VideoCodec | None = Field(None, description="h264, or h265 for sources of more than 8 bits, when not given.")
    encoder: EncoderWish = "auto"
    quality: Quality = Field(
        "medium",
        description="low, medium or high: crf 28, 23 or 18 with x264. Without an operation, medium and high keep the "
        "pictures as they are (crf 10).",
    )
    crf: int | None = Field(None, ge=0, le=63, description="Constant quality in the encoder's own scale.")
    effort: Effort = Field("medium", description="Time spent on making the file small.")
    audio_tracks: AudioTracks = "all"
    subtitles: Subtitles = "keep"
    metadata: Metadata = "safe"
    deinterlace: Fields = "auto"
    tone_map: ToneMap = "auto"
    background: Background = BLACK

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        fitting_encoder(self.container or "mkv", self.codec, self.encoder)
        return self

    @property
    def changes_nothing(self) -> bool:
        """True if no operation is enabled."""
        return all(getattr(self, name) == type(self).model_fields[name].default for name in OPERATIONS)

    @property
    def level(self) -> Quality | int:
        """Return the quality of the encoder: without an operation it should not change the pictures visibly either."""
        if self.crf is not None:
            return self.crf
        return _FAITHFUL if self.changes_nothing and self.quality != "low" else self.quality


class Enhance(Processor):
    """Improve a video's picture: denoise, sharpen, brightness, contrast, saturation, gamma. The sound is untouched."""

    name = "enhance"
    deterministic: ClassVar[bool] = True
    device: ClassVar[Device] = "gpu"
    Params: ClassVar[type[Parameters]] = EnhanceParams

    def deterministic_for(self, params: EnhanceParams) -> bool:
        """Return False for encoders of GPUs, whose output may differ between runs."""
        return params.encoder in ("auto", "software")

    def remark(self, params: EnhanceParams) -> str:
        """Return a remark if no operation is enabled."""
        asked = f"none of {', '.join(OPERATIONS)} is set"
        return f"Nothing is enhanced, because {asked}." if params.changes_nothing else ""

    def run(self, params: EnhanceParams, ctx: Context) -> list[OutputDraft]:
        """Probe, process every frame, check, and return the one output."""
        with unchanged(ctx.inputs["video"]):
            return self._run(params, ctx)

    def _run(self, params: EnhanceParams, ctx: Context) -> list[OutputDraft]:
        if remark := self.remark(params):
            ctx.log(remark, "warning")
        ctx.progress(Progress(0.0, "probe"))
        path = ctx.inputs["video"]
        facts = with_tracks(probe(path, ctx.limits, ctx.canceled, whole=True), params.audio_tracks)
        video = verify.playable_video(facts)
        container = CONTAINERS[params.container] if params.container else carrying_untouched(facts)
        target = _target(params, facts, video, container, ctx)

        def make(encoder: Encoder) -> _Made:
            return _made(params, facts, video, replace(target, encoder=encoder), ctx)

        def undo() -> None:
            target.path.unlink(missing_ok=True)

        encoder = taken(_wanted(params, target), ctx)
        (by, done, expected, result), fallen_back = with_fallback(encoder, target.encoder, make, undo, ctx)
        bounds = SandboxLimits(ctx.limits, ctx.limits.ffmpeg_timeout_s, ctx.canceled)
        warnings = [
            *facts.left_out,
            *target.audio.warnings,
            *target.extras.warnings,
            *target.drawn.warnings,
            *lost_captions(check_source(path), video, bounds),
            *changed_shape(check_source(path), facts.container, video, bounds),
            *verify.jumps(facts),
            *expected.losses(result),
            *first_channels(facts.audios, result),
            *lost_track_marks(facts, result),
            *conversions(video, target.picture.depth, target.how, result.video),
            *(
                [f"The 360 degree projection ({video.projection}) is left out."]
                if video.projection not in (None, "equirectangular")
                else []
            ),
            *target.static.lost,
            *done.warnings,
            *fallen_back,
        ]
        for warning in warnings:
            ctx.log(warning, "warning")
        told = result.as_json() | {"encoder": by.name, "warnings": warnings}
        return [OutputDraft("video", target.path, container.media_type, told)]


class _Made(NamedTuple):
    """A result that was checked, and the encoder that wrote it."""

    encoder: Encoder
    done: Processed
    expected: verify.Expected
    facts: MediaFacts


def _made(params: EnhanceParams, facts: MediaFacts, video: VideoFacts, target: Target, ctx: Context) -> _Made:
    done = _process(params, ctx.inputs["video"], facts, video, target, ctx)
    ctx.progress(Progress(0.99, "check"))
    expected = verify.Expected(
        done.decoded,
        done.duration_s,
        video.longest_frame_s,
        target.audio.streams,
        target.extras.subtitles,
        sounds=done.heard_s,
    )
    result = verify.check_output(target.path, expected, ctx.limits, ctx.canceled)
    return _Made(target.encoder, done, expected, result)


def _wanted(params: EnhanceParams, target: Target) -> Wanted:
    size = (target.picture.width, target.picture.height)
    return Wanted(params.encoder, target.encoder, target.quality, params.effort, size, target.picture.depth)


def _target(params: EnhanceParams, facts: MediaFacts, video: VideoFacts, container: Container, ctx: Context) -> Target:
    encoder = _encoder(params, video, container)
    encoders.require(encoder)
    bounds = SandboxLimits(ctx.limits, ctx.limits.ffmpeg_timeout_s, ctx.canceled)
    source = check_source(ctx.inputs["video"])
    wishes = SoundWishes(changing=changing(source, facts, facts.audios, bounds))
    audio = plan_audio(facts, container, wishes, input_number=1)
    for note in audio.notes:
        ctx.log(note)
    tags = read_tags(source, facts.described_streams, bounds)
    burned = drawn(source, facts, bounds) if params.subtitles == "burn" else NOTHING_DRAWN
    keeping = Keeping(params.subtitles, params.metadata, drawn=burned.track)
    extras = plan_extras(facts, tags, container, keeping, input_number=1)
    picture = picture_format(video, keep_depth=encoder.ten_bit is not None)
    how = treatment(params.deinterlace, params.tone_map, params.background)
    path = ctx.output_path(container.filename)
    # Output of 8 bits cannot be HDR, so no HDR metadata is read.
    static = read_static_metadata(source, video, bounds) if picture.depth > 8 else NO_METADATA
    return Target(path, container, encoder, params.level, params.effort, picture, audio, extras, how, static, burned)


def _encoder(params: EnhanceParams, video: VideoFacts, container: Container) -> Encoder:
    codec = params.codec
    if codec is None and params.encoder in ("auto", "software", "nvenc") and video.bit_depth > 8:
        codec = "h265" if "h265" in container.video else None
    return fitting_encoder(container.name, codec, params.encoder)


def _process(
    params: EnhanceParams, path: Path, facts: MediaFacts, video: VideoFacts, target: Target, ctx: Context
) -> Processed:
    from vidqueue.processors.parts.adjust import Adjustment, Settings

    settings = Settings(
        denoise=params.denoise, sharpen=params.sharpen, brightness=params.brightness, contrast=params.contrast,
        saturation=params.saturation, gamma=params.gamma,
    )  # fmt: skip
    adjustment = Adjustment(
        settings,
        target.picture,
        full_range=output_colour(video, target.picture.depth, target.how).range == "pc",
        device=ctx.device,
    )

    def operation(frames: Iterator[Frame]) -> Iterator[Frame]:
        for frame in frames:
            adjustment.apply(frame.samples)
            yield frame

    bounds = SandboxLimits(ctx.limits, ctx.limits.ffmpeg_timeout_s, ctx.canceled, gpu=target.encoder.gpu)
    reporter = _Reporter(video, ctx)
    return process_frames(path, facts, operation, target, bounds, on_frame=reporter.report, log=ctx.log)


class _Reporter:
    """Turns a count of frames into progress, and stops the work soon after a cancel."""

    def __init__(self, video: VideoFacts, ctx: Context) -> None:
        self._video, self._ctx = video, ctx
        self._started = active_time.now()
        self._next = 0.0

    def report(self, frames: int) -> None:
        self._ctx.check_canceled()
        now = active_time.now()
        # A report costs as much as a small frame.
        if now < self._next:
            return
        self._next = now + _REPORT_EVERY_S
        elapsed = max(now - self._started, 1e-6)
        fraction = min(frames / self._video.frames, 1.0)
        fps = frames / elapsed
        speed = fps / self._video.fps if self._video.fps else None
        self._ctx.progress(Progress(fraction * 0.98, "enhance", fps=fps, speed=speed, eta_s=eta_s(fraction, elapsed)))
