"""Transcode: one jailed ffmpeg turns a video into another container, codec, size, rate or length."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from vidqueue.errors import VidqueueError
from vidqueue.job import OutputDraft
from vidqueue.media import encoders, ffmpeg, verify
from vidqueue.media.arguments import QUIET, input_arguments, output_arguments
from vidqueue.media.carry import Keeping, plan_extras
from vidqueue.media.containers import CONTAINERS, Container, ContainerName, Extras, VideoCodec
from vidqueue.media.encoders import Effort, EncoderChoice, Quality
from vidqueue.media.facts import MediaFacts, VideoFacts
from vidqueue.media.filters import (
    Treatment,
    conversions,
    even,
    has_alpha,
    output_colour,
    output_time_base,
    tagged,
    upright_yuv,
)
from vidqueue.media.jail.sandbox import SandboxLimits
from vidqueue.media.loudness import Loudness, measure
from vidqueue.media.probe import probe
from vidqueue.media.sink import created
from vidqueue.media.soundtracks import AudioMode, AudioPlan, Channels, SoundWishes, plan_audio, with_tracks
from vidqueue.media.source import check_source, unchanged
from vidqueue.media.tags import read_tags
from vidqueue.processors.base import Context, Parameters, Processor, VideoInput
from vidqueue.processors.parts.choices import (
    BLACK,
    RESOLUTIONS,
    AudioTracks,
    Background,
    Fields,
    Metadata,
    Subtitles,
    ToneMap,
    fitting_encoder,
    treatment,
)
from vidqueue.processors.parts.reporting import log_remarks, stage_reporter
from vidqueue.progress import Progress

Resolution = Literal["source", "2160p", "1440p", "1080p", "720p", "540p", "480p", "360p", "240p"]


class TranscodeParams(Parameters):
    """Parameters of `transcode`."""

    video: VideoInput
    container: ContainerName = Field("mp4", description="Kind of file to write.")
    codec: VideoCodec | None = Field(None, description="Video codec; h264, or vp9 in webm, when not given.")
    encoder: EncoderChoice = Field("auto", description="`auto` and `software` use the CPU, `nvenc` a GPU lane.")
    quality: Quality = Field("medium", description="low, medium or high: crf 28, 23 or 18 with x264.")
    effort: Effort = Field("medium", description="Time spent on making the file small.")
    resolution: Resolution = Field("source", description="Lines of the shorter side, aspect kept.")
    width: int | None = Field(None, ge=16, le=16384, description="Width in pixels; height follows when not given.")
    height: int | None = Field(None, ge=16, le=16384, description="Height in pixels; width follows when not given.")
    upscale: bool = Field(False, description="Allow a larger picture than the source's.")
    fps: float | None = Field(None, gt=0, le=240, description="Constant rate; the source's own times when not given.")
    start_s: float = Field(0.0, ge=0, allow_inf_nan=False, description="Where to begin, in seconds.")
    end_s: float | None = Field(None, gt=0, allow_inf_nan=False, description="Where to end, in seconds.")
    audio: AudioMode = Field(
        "keep", description="`keep` copies the sound where the container can carry it, `web` where browsers play it."
    )
    audio_tracks: AudioTracks = "all"
    channels: Channels = Field("keep", description="Channels of the sound.")
    loudness: float | None = Field(
        None, ge=-40, le=-5, description="Loudness to aim at in LUFS (EBU R128), such as -16 or -23; measured first."
    )
    subtitles: Subtitles = "keep"
    metadata: Metadata = "safe"
    deinterlace: Fields = "auto"
    tone_map: ToneMap = "auto"
    alpha: Literal["keep", "blend"] = Field("keep", description="`keep` keeps transparency in webm with vp9.")
    background: Background = BLACK
    faststart: bool = Field(True, description="Put the index first, so that players start before they have it all.")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        fitting_encoder(self.container, self.codec, self.encoder)
        if self.end_s is not None and self.end_s <= self.start_s:
            raise ValueError("end_s must be larger than start_s")
        if self.resolution != "source" and (self.width or self.height):
            raise ValueError("give either resolution or width/height, not both")
        return self

    @property
    def trims(self) -> bool:
        """True if only a part of the source is wanted."""
        return self.start_s > 0 or self.end_s is not None


@dataclass(frozen=True, slots=True)
class _Plan:
    """The source of one job and what its result must be; times in seconds."""

    path: Path
    facts: MediaFacts
    video: VideoFacts
    size: tuple[int, int]
    duration_s: float
    container: Container
    encoder: encoders.Encoder
    how: Treatment
    extras: Extras

    @property
    def depth(self) -> int:
        """Bits of one component of the result."""
        return 10 if self.video.bit_depth > 8 and self.encoder.ten_bit and not self.how.keeps_alpha else 8


class Transcode(Processor):
    """Convert a video: container, codec, quality, size, rate, trim and sound."""

    name = "transcode"
    gpu_when: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "encoder": ("nvenc", *(name for name, encoder in encoders.ENCODERS.items() if encoder.gpu))
    }
    Params: ClassVar[type[Parameters]] = TranscodeParams

    def run(self, params: TranscodeParams, ctx: Context) -> list[OutputDraft]:
        """Probe, encode, check, and return the one output."""
        with unchanged(ctx.inputs["video"]):
            return self._run(params, ctx)

    def _run(self, params: TranscodeParams, ctx: Context) -> list[OutputDraft]:
        ctx.progress(Progress(0.0, "probe"))
        plan = _plan(params, ctx)
        sound = _sound(params, plan, ctx)
        output = ctx.output_path(plan.container.filename)
        tally = _encode(params, plan, sound, output, ctx)
        ctx.progress(Progress(0.99, "check"))
        expected = _expected(params, plan, sound, tally)
        facts = verify.check_output(output, expected, ctx.limits, ctx.canceled)
        warnings = [
            *(plan.facts.left_out if params.audio != "drop" else ()),
            *plan.extras.warnings,
            *expected.losses(facts),
            *conversions(plan.video, plan.depth, plan.how),
            *verify.check_decoding(plan.video, tally, complete=not params.trims),
        ]
        for warning in warnings:
            ctx.log(warning, "warning")
        return [OutputDraft("video", output, plan.container.media_type, facts.as_json() | {"warnings": warnings})]


def _plan(params: TranscodeParams, ctx: Context) -> _Plan:
    path = ctx.inputs["video"]
    wanted = "none" if params.audio == "drop" else params.audio_tracks
    facts = with_tracks(probe(path, ctx.limits, ctx.canceled, whole=True), wanted)
    video = verify.playable_video(facts)
    _check_trim(params, video)
    end_s = min(params.end_s or math.inf, video.duration_s)
    container = CONTAINERS[params.container]
    encoder = fitting_encoder(params.container, params.codec, params.encoder)
    encoders.require(encoder)
    keeps_alpha = (
        params.alpha == "keep" and encoder.alpha and container.name == "webm" and has_alpha(video.pixel_format)
    )
    how = treatment(params.deinterlace, params.tone_map, params.background, keeps_alpha=keeps_alpha)
    tags = read_tags(check_source(path), facts.described_streams, _bounds(ctx))
    extras = plan_extras(facts, tags, container, Keeping(params.subtitles, params.metadata, trimmed=params.trims))
    size = target_size(params, video)
    return _Plan(path, facts, video, size, end_s - params.start_s, container, encoder, how, extras)


def _bounds(ctx: Context) -> SandboxLimits:
    return SandboxLimits(ctx.limits, ctx.limits.ffmpeg_timeout_s, ctx.canceled)


def _sound(params: TranscodeParams, plan: _Plan, ctx: Context) -> AudioPlan:
    """The plan of all sound tracks, measured first where a loudness is wanted."""
    filters = {}
    if params.loudness is not None and params.audio != "drop":
        for audio in plan.facts.audios:
            loudness = Loudness(params.loudness)
            report = stage_reporter(ctx, "measure", audio.duration_s, end=0.0)
            measure(check_source(plan.path), audio, loudness, _bounds(ctx), report)
            # It works at a rate of its own.
            if correcting := loudness.correcting():
                filters[audio.index] = f"aresample=async=1,{correcting},aresample={audio.sample_rate}"
    planned = plan_audio(plan.facts, plan.container, SoundWishes(params.audio, params.channels, filters))
    for note in planned.notes:
        ctx.log(note)
    return planned


def _check_trim(params: TranscodeParams, video: VideoFacts) -> None:
    # People read durations rounded, so an end a little late is the end.
    last = video.duration_s + max(video.longest_frame_s, 0.1)
    if params.start_s >= video.duration_s or (params.end_s or 0.0) > last:
        wanted = f"{params.start_s:g} to {'the end' if params.end_s is None else f'{params.end_s:g}'}"
        raise VidqueueError(
            "trim_out_of_range", f"The trim is {wanted} s, but the video lasts {video.duration_s:.3f} s."
        )


def target_size(params: TranscodeParams, video: VideoFacts) -> tuple[int, int]:
    """Width and height of the result in pixels, even; never larger than the source unless that was asked for."""
    width, height = video.upright
    scale = _scale(params, width, height)
    if not params.upscale:
        scale = (min(scale[0], 1.0), min(scale[1], 1.0))
    if scale == (1.0, 1.0):
        return even((width, height))
    return _nearest_even(width * scale[0]), _nearest_even(height * scale[1])


def _scale(params: TranscodeParams, width: int, height: int) -> tuple[float, float]:
    if params.resolution != "source":
        # 1080p of a phone's upright clip means 1080 wide.
        factor = RESOLUTIONS[params.resolution] / min(width, height)
        return factor, factor
    across = params.width / width if params.width else None
    down = params.height / height if params.height else None
    return across or down or 1.0, down or across or 1.0


def _nearest_even(pixels: float) -> int:
    return max(2, round(pixels / 2) * 2)


def _encode(params: TranscodeParams, plan: _Plan, audio: AudioPlan, output: Path, ctx: Context) -> ffmpeg.Tally:
    encoder, container, depth = plan.encoder, plan.container, plan.depth
    if depth < min(plan.video.bit_depth, 10):
        ctx.log(f"{encoder.name} writes 8 bits; the source has {plan.video.bit_depth}. codec h265 keeps them.")
    tally = ffmpeg.Tally(stream=f"0:{plan.video.index}")
    with check_source(plan.path).opened() as file, created(output) as sink:
        arguments = [
            *QUIET,
            *input_arguments(file, ctx.limits, *_trim(params)),
            "-map", f"0:{plan.video.index}", *audio.arguments,
            "-vf", _filters(params, plan),
            *_clock(params, plan.video),
            *encoder.arguments(params.quality, params.effort, params.fps or plan.video.fps, container),
            *(("-metadata:s:v:0", "alpha_mode=1") if plan.how.keeps_alpha else ()),
            *output_arguments(
                sink.writing, container, ctx.limits, faststart=params.faststart, extras=plan.extras,
                length_s=plan.duration_s if params.end_s is not None else math.inf,
                projected=plan.video.projection is not None,
            ),
        ]  # fmt: skip
        try:
            ffmpeg.run(
                arguments, replace(_bounds(ctx), gpu=encoder.gpu), keep_open=[file, sink.writing],
                stdin=sink.reading, tally=tally, on_progress=stage_reporter(ctx, "encode", plan.duration_s),
            )  # fmt: skip
        finally:
            log_remarks(ctx, tally)
    return tally


def _trim(params: TranscodeParams) -> list[str]:
    # Before the input: ffmpeg seeks to the key picture before and throws away what it decodes up to the wanted time.
    start = ["-ss", f"{params.start_s:.6f}"] if params.start_s else []
    length = ["-t", f"{params.end_s - params.start_s:.6f}"] if params.end_s is not None else []
    return start + length


def _filters(params: TranscodeParams, plan: _Plan) -> str:
    steps = [upright_yuv(plan.video, plan.size, plan.depth, plan.how)]
    if params.fps:
        steps.append(f"fps={params.fps:.6f}")
    steps.append(tagged(output_colour(plan.video, plan.depth, plan.how)))
    planes = "yuva420p" if plan.how.keeps_alpha else plan.encoder.pixel_format(plan.depth)
    return ",".join(filter(None, [*steps, f"format={planes}"]))


def _clock(params: TranscodeParams, video: VideoFacts) -> list[str]:
    if params.fps:
        return ["-fps_mode", "passthrough"]
    return ["-fps_mode", "passthrough", "-enc_time_base", str(output_time_base(video))]


def _expected(params: TranscodeParams, plan: _Plan, sound: AudioPlan, tally: ffmpeg.Tally) -> verify.Expected:
    # Where neither rate nor length change, every decoded picture must be in the result.
    frames = tally.encoded if params.fps or params.trims else tally.decoded
    duration_s = plan.duration_s if params.trims else verify.shown_s(plan.video, tally)
    return verify.Expected(frames, duration_s, plan.video.longest_frame_s, sound.streams, plan.extras.subtitles)
