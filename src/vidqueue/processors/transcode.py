"""Transcode: one jailed ffmpeg turns a video into another container, codec, size, rate or length."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from vidqueue.errors import VidqueueError
from vidqueue.job import OutputDraft
from vidqueue.media import encoders, ffmpeg, verify
from vidqueue.media.arguments import QUIET, input_arguments, output_arguments
from vidqueue.media.containers import CONTAINERS, AudioMode, ContainerName, VideoCodec, plan_audio
from vidqueue.media.encoders import Effort, EncoderChoice, Quality
from vidqueue.media.facts import MediaFacts, VideoFacts
from vidqueue.media.filters import conversions, even, output_colour, output_time_base, tagged, upright_yuv
from vidqueue.media.jail.sandbox import SandboxLimits
from vidqueue.media.probe import probe
from vidqueue.media.sink import created
from vidqueue.media.source import check_source
from vidqueue.processors.base import Context, Parameters, Processor, VideoInput
from vidqueue.processors.parts.choices import RESOLUTIONS, fitting_encoder
from vidqueue.progress import Progress, eta_s

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
    audio: AudioMode = Field("keep", description="`keep` copies the sound where the container can carry it.")
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


class Transcode(Processor):
    """Convert a video: container, codec, quality, size, rate, trim and sound."""

    name = "transcode"
    gpu_when: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "encoder": ("nvenc", *(name for name, encoder in encoders.ENCODERS.items() if encoder.gpu))
    }
    Params: ClassVar[type[Parameters]] = TranscodeParams

    def run(self, params: TranscodeParams, ctx: Context) -> list[OutputDraft]:
        """Probe, encode, check, and return the one output."""
        ctx.progress(Progress(0.0, "probe"))
        plan = _plan(params, ctx)
        container = CONTAINERS[params.container]
        output = ctx.output_path(container.filename)
        tally = _encode(params, plan, output, ctx)
        ctx.progress(Progress(0.99, "check"))
        facts = verify.check_output(output, _expected(params, plan, tally), ctx.limits, ctx.canceled)
        warnings = [
            *(plan.facts.left_out if params.audio != "drop" else ()),
            *plan.facts.uncarried,
            *conversions(plan.video, _depth(params, plan.video)),
            *verify.check_decoding(plan.video, tally, complete=not params.trims),
        ]
        for warning in warnings:
            ctx.log(warning, "warning")
        return [OutputDraft("video", output, container.media_type, facts.as_json() | {"warnings": warnings})]


def _plan(params: TranscodeParams, ctx: Context) -> _Plan:
    path = ctx.inputs["video"]
    facts = probe(path, ctx.limits, ctx.canceled, whole=True)
    video = verify.playable_video(facts)
    _check_trim(params, video)
    end_s = min(params.end_s or math.inf, video.duration_s)
    return _Plan(path, facts, video, target_size(params, video), end_s - params.start_s)


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


def _encode(params: TranscodeParams, plan: _Plan, output: Path, ctx: Context) -> ffmpeg.Tally:
    encoder = fitting_encoder(params.container, params.codec, params.encoder)
    encoders.require(encoder)
    container = CONTAINERS[params.container]
    audio = plan_audio(plan.facts, container, params.audio)
    for note in audio.notes:
        ctx.log(note)
    bounds = SandboxLimits(ctx.limits, ctx.limits.ffmpeg_timeout_s, ctx.canceled, gpu=encoder.gpu)
    depth = _depth(params, plan.video)
    if depth < min(plan.video.bit_depth, 10):
        ctx.log(f"{encoder.name} writes 8 bits; the source has {plan.video.bit_depth}. codec h265 keeps them.")
    tally = ffmpeg.Tally(stream=f"0:{plan.video.index}")
    with check_source(plan.path).opened() as file, created(output) as sink:
        arguments = [
            *QUIET,
            *input_arguments(file, ctx.limits, *_trim(params)),
            "-map", f"0:{plan.video.index}", *audio.arguments,
            "-vf", _filters(params, plan, depth, encoder),
            *_clock(params, plan.video),
            *encoder.arguments(params.quality, params.effort, params.fps or plan.video.fps, container),
            *output_arguments(sink.writing, container, ctx.limits, faststart=params.faststart),
        ]  # fmt: skip
        try:
            ffmpeg.run(
                arguments, bounds, keep_open=[file, sink.writing], stdin=sink.reading, tally=tally,
                on_progress=_reporter(plan.duration_s, ctx),
            )  # fmt: skip
        finally:
            for level, text in tally.remarks:
                ctx.log(text, level)
    return tally


def _depth(params: TranscodeParams, video: VideoFacts) -> int:
    encoder = fitting_encoder(params.container, params.codec, params.encoder)
    return 10 if video.bit_depth > 8 and encoder.ten_bit else 8


def _trim(params: TranscodeParams) -> list[str]:
    # Before the input: ffmpeg seeks to the key picture before and throws away what it decodes up to the wanted time.
    start = ["-ss", f"{params.start_s:.6f}"] if params.start_s else []
    length = ["-t", f"{params.end_s - params.start_s:.6f}"] if params.end_s is not None else []
    return start + length


def _filters(params: TranscodeParams, plan: _Plan, depth: int, encoder: encoders.Encoder) -> str:
    steps = [upright_yuv(plan.video, plan.size, depth)]
    if params.fps:
        steps.append(f"fps={params.fps:.6f}")
    return ",".join(
        filter(None, [*steps, tagged(output_colour(plan.video, depth)), f"format={encoder.pixel_format(depth)}"])
    )


def _clock(params: TranscodeParams, video: VideoFacts) -> list[str]:
    if params.fps:
        return ["-fps_mode", "passthrough"]
    return ["-fps_mode", "passthrough", "-enc_time_base", str(output_time_base(video))]


def _expected(params: TranscodeParams, plan: _Plan, tally: ffmpeg.Tally) -> verify.Expected:
    # Where neither rate nor length change, every decoded picture must be in the result.
    frames = tally.encoded if params.fps or params.trims else tally.decoded
    audio_streams = 0 if params.audio == "drop" else len(plan.facts.audios)
    return verify.Expected(frames, plan.duration_s, plan.video.longest_frame_s, audio_streams)


def _reporter(duration_s: float, ctx: Context) -> ffmpeg.ProgressCallback:
    started = time.monotonic()

    def report(seen: ffmpeg.Seen) -> None:
        fraction = min(seen.out_time_s / duration_s, 1.0) if duration_s else 0.0
        left = eta_s(fraction, time.monotonic() - started)
        ctx.progress(Progress(fraction * 0.98, "encode", fps=seen.fps, speed=seen.speed, eta_s=left))

    return report
