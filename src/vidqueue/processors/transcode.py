"""Processor `transcode`: converts a video to another container, codec, size, rate or length with one jailed ffmpeg."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from vidqueue.job import OutputDraft
from vidqueue.media import encoders, ffmpeg, texts, verify
from vidqueue.media.arguments import QUIET, counting_from_all, input_arguments, output_arguments
from vidqueue.media.carry import Keeping, plan_extras
from vidqueue.media.closed_captions import lost_captions
from vidqueue.media.containers import CONTAINERS
from vidqueue.media.cutting import cut_out
from vidqueue.media.encoders import Encoder
from vidqueue.media.facts import AudioFacts, MediaFacts, VideoFacts
from vidqueue.media.filters import (
    conversions,
    has_alpha,
    lost_marks,
)
from vidqueue.media.hdr import read_static_metadata
from vidqueue.media.jail.sandbox import SandboxLimits
from vidqueue.media.key_before import cut_for_copy
from vidqueue.media.loudness import Loudness, measure
from vidqueue.media.marks import lost_track_marks
from vidqueue.media.pixel_shapes import changed_shape
from vidqueue.media.probe import probe
from vidqueue.media.sink import created
from vidqueue.media.sound_changes import behind_pictures, changing, first_channels, lost_channels
from vidqueue.media.soundtracks import AudioPlan, SoundWishes, plan_audio, with_tracks
from vidqueue.media.source import check_source, unchanged
from vidqueue.media.tags import read_tags
from vidqueue.processors.base import Context, Parameters, Processor
from vidqueue.processors.parts import captions, handbrake
from vidqueue.processors.parts.choices import treatment
from vidqueue.processors.parts.encoder_choice import Wanted, taken, with_fallback
from vidqueue.processors.parts.fitting import Dial, Encoding, encode_to_fit, kbit_at
from vidqueue.processors.parts.remux import copied, copy_tag, is_unofficial, why_not_copied
from vidqueue.processors.parts.reporting import log_remarks, stage_reporter
from vidqueue.processors.parts.transcode_params import ANIMATIONS, TranscodeParams, kept_size, shown_part, target_size
from vidqueue.processors.parts.transcode_plan import Plan, clock, expected_of, filters
from vidqueue.progress import Progress


class Transcode(Processor):
    """Convert a video: container, codec, quality, size, rate, trim and sound; or copy it into another container."""

    name = "transcode"
    deterministic: ClassVar[bool] = True
    gpu_when: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "encoder": ("nvenc", *(name for name, encoder in encoders.ENCODERS.items() if encoder.gpu))
    }
    Params: ClassVar[type[Parameters]] = TranscodeParams

    def deterministic_for(self, params: TranscodeParams) -> bool:
        """Return False for GPU encoders, and for CPU encoders with a rate limit (VBV): they depend on timing."""
        return self.device_for(params) == "cpu" and params.bitrate_kbit is None

    def run(self, params: TranscodeParams, ctx: Context) -> list[OutputDraft]:
        """Probe, encode or copy, check, and return the one output."""
        with unchanged(ctx.inputs["video"]):
            return self._run(params, ctx)

    def _run(self, params: TranscodeParams, ctx: Context) -> list[OutputDraft]:
        ctx.progress(Progress(0.0, "probe"))
        wanted = "none" if params.audio == "drop" else params.audio_tracks
        facts = with_tracks(probe(ctx.inputs["video"], ctx.limits, ctx.canceled, whole=True), wanted)
        video = verify.playable_video(facts)
        begin_s, end_s = shown_part(params, facts, video)
        if params.container in ANIMATIONS:
            from vidqueue.processors.parts.animated import write_moving  # it loads numpy

            return write_moving(params, facts, video, ctx)
        plan = _plan(params, facts, video, end_s - begin_s, ctx)
        sound = _sound(params, plan, ctx)
        output = ctx.output_path(plan.container.filename)
        kept, kept_is_warning = kept_size(params, video.upright)
        if kept and not kept_is_warning:
            ctx.log(kept)
        warnings = [
            *([kept] if kept_is_warning else ()),
            *(handbrake.left_out(params.handbrake) if params.handbrake else ()),
            *(plan.facts.left_out if params.audio != "drop" else ()),
            *sound.warnings,
            *plan.extras.warnings,
            *plan.drawn.warnings,
            *(verify.jumps(facts) if not params.trims else ()),
        ]
        result = _copied(params, plan, sound, output, warnings, ctx) if params.copies else None
        result = result or _encoded(params, plan, sound, output, warnings, ctx)
        for warning in warnings:
            ctx.log(warning, "warning")
        return [OutputDraft("video", output, plan.container.media_type, result | {"warnings": warnings})]


def _plan(params: TranscodeParams, facts: MediaFacts, video: VideoFacts, duration_s: float, ctx: Context) -> Plan:
    container, encoder = CONTAINERS[params.film], params.fitting_encoder()
    if not params.copies:
        encoders.require(encoder)
    keeps_alpha = (
        params.alpha == "keep" and encoder.alpha and container.name == "webm" and has_alpha(video.pixel_format)
    )
    how = treatment(params.deinterlace, params.tone_map, params.background, keeps_alpha=keeps_alpha)
    path = ctx.inputs["video"]
    source, bounds = check_source(path), _bounds(ctx)
    tags = read_tags(source, facts.described_streams, bounds)
    burned = captions.burned(params, source, facts, bounds)
    cut = captions.cut_texts(params, source, facts, burned.track, bounds)
    keeping = Keeping(
        params.subtitles, params.metadata, trimmed=params.start_s > 0, exact=not params.copies, drawn=burned.track,
        inputs={index: number for number, index in enumerate(cut, start=1)},
    )  # fmt: skip
    extras = plan_extras(facts, tags, container, keeping)
    size = target_size(params, video.upright)
    part = cut_out(facts.container, video, params.start_s, params.length_s)
    return Plan(
        path, facts, video, size, duration_s, container, encoder, how, extras, params.rate(video), burned, cut, part
    )  # fmt: skip


def _bounds(ctx: Context) -> SandboxLimits:
    return SandboxLimits(ctx.limits, ctx.limits.ffmpeg_timeout_s, ctx.canceled)


def _sound(params: TranscodeParams, plan: Plan, ctx: Context) -> AudioPlan:
    """The plan of all sound tracks, measured first where a loudness is wanted."""
    filters = {}
    if params.loudness is not None and params.audio != "drop":
        for audio in plan.facts.audios:
            loudness = Loudness(params.loudness)
            report = stage_reporter(ctx.progress, "measure", audio.duration_s, end=0.0)
            measure(check_source(plan.path), audio, loudness, _bounds(ctx), report)
            # It works at a rate of its own.
            if correcting := loudness.correcting():
                filters[audio.index] = f"aresample=async=1,{correcting},aresample={audio.sample_rate}"
    changes = changing(check_source(plan.path), plan.facts, _copyable(params, plan), _bounds(ctx))
    if not plan.cut.can_copy:
        changes = frozenset(audio.index for audio in plan.facts.audios)
    wishes = SoundWishes(params.audio, params.channels, filters, changes, plan.cut.sound)
    planned = plan_audio(plan.facts, plan.container, wishes)
    for note in planned.notes:
        ctx.log(note)
    return planned


def _copyable(params: TranscodeParams, plan: Plan) -> tuple[AudioFacts, ...]:
    return plan.facts.audios if params.audio in ("keep", "web") and params.loudness is None else ()


def _copied(
    params: TranscodeParams, plan: Plan, sound: AudioPlan, output: Path, warnings: list[str], ctx: Context
) -> dict[str, Any] | None:
    """The facts of a copy; None where the pictures cannot be copied, which is among the warnings then."""
    reason = why_not_copied(plan.video, plan.container) or (
        "" if plan.cut.can_copy else "ffmpeg cannot seek in the file, so a part of it has to be decoded."
    )
    if not reason:
        source, start_s = check_source(plan.path), params.start_s
        cut = cut_for_copy(source, plan.facts.container, plan.video, start_s, params.length_s, _bounds(ctx))
        plan = replace(plan, cut=cut)
        tally = _write(params, plan, sound, output, ctx, ["-c:v", "copy", *copy_tag(plan.video, plan.container)])
        ctx.progress(Progress(0.95, "check"))
        expected = expected_of(params, plan, sound, plan.video.frames)
        found = copied(output, expected, ctx, start_s=params.start_s, trims=params.trims)
        if found.facts is not None:
            log_remarks(ctx.log, tally)
            warnings += [*expected.losses(found.facts), *found.notes, *first_channels(plan.facts.audios, found.facts)]
            warnings += lost_track_marks(plan.facts, found.facts)
            warnings += lost_marks(plan.video, found.facts.video or plan.video)
            return found.facts.as_json()
        output.unlink()
        reason = found.notes[0]
    warnings.append(f"The pictures could not be copied and were re-encoded: {reason}")
    encoders.require(plan.encoder)
    return None


def _encoded(
    params: TranscodeParams, plan: Plan, sound: AudioPlan, output: Path, warnings: list[str], ctx: Context
) -> dict[str, Any]:
    """The facts of what the best encoder of the lane makes, with the name of that encoder."""

    def encode(encoder: Encoder) -> tuple[Encoder, MediaFacts]:
        said: list[str] = []
        facts = _encoded_by(params, replace(plan, encoder=encoder), sound, output, said, ctx)
        warnings.extend(said)
        return encoder, facts

    def undo() -> None:
        output.unlink(missing_ok=True)

    (encoder, facts), more = with_fallback(_taken(params, plan, ctx), plan.encoder, encode, undo, ctx)
    warnings += more
    return facts.as_json() | {"encoder": encoder.name}


def _taken(params: TranscodeParams, plan: Plan, ctx: Context) -> Encoder:
    def needs(gpu: Encoder) -> str:
        if params.bitrate_kbit is not None or params.max_size_mb is not None:
            return "the size of the result is bounded"
        if plan.how.keeps_alpha and not gpu.alpha:
            return "the result is transparent"
        lost = lost_captions(check_source(plan.path), plan.video, _bounds(ctx), gpu.name)
        return "the closed captions would be lost" if lost else ""

    quality = params.quality if params.crf is None else params.crf
    wanted = Wanted(params.encoder, plan.encoder, quality, params.effort, plan.size, plan.depth, needs)
    return taken(wanted, ctx)


def _encoded_by(
    params: TranscodeParams, plan: Plan, sound: AudioPlan, output: Path, warnings: list[str], ctx: Context
) -> MediaFacts:
    encoder, depth = plan.encoder, plan.depth
    if depth < min(plan.video.bit_depth, 10):
        ctx.log(f"{encoder.name} writes 8 bits; the source has {plan.video.bit_depth}. codec h265 keeps them.")
    fps = plan.fps or plan.video.fps
    kbit = params.bitrate_kbit
    quality = params.quality if params.crf is None else params.crf
    dial = Dial.of_quality(encoder, quality) if kbit is None else Dial.of_rate(kbit)

    def write(value: float, span: tuple[float, float]) -> ffmpeg.Tally:
        coded = (
            encoder.arguments(value, params.effort, fps, plan.container)
            if kbit is None
            else encoder.at_rate(kbit_at(value), params.effort, fps, plan.container)
        )
        with plan.drawn.filter(plan.size, alpha=plan.how.keeps_alpha) as (text, keep_open):
            pictures = ["-vf", filters(plan, text), *clock(plan), *coded]
            tally = _write(params, plan, sound, output, ctx, pictures, span, keep_open)
        log_remarks(ctx.log, tally)
        return tally

    tally = encode_to_fit(Encoding(output, dial, write), params.max_size_mb, ctx)
    ctx.progress(Progress(0.99, "check"))
    # Where neither rate nor length change, every decoded picture must be in the result.
    frames = tally.encoded if plan.fps or params.trims else tally.decoded
    expected = expected_of(params, plan, sound, frames, tally)
    audios = plan.facts.audios
    lost = verify.check_sound(audios, tally) + lost_channels(audios, tally, behind_pictures(audios))
    facts = verify.check_output(output, expected, ctx.limits, ctx.canceled)
    lost += first_channels(audios, facts) if params.channels == "keep" else []
    lost += lost_track_marks(plan.facts, facts)
    lost += lost_captions(check_source(plan.path), plan.video, _bounds(ctx), encoder.name)
    if not params.trims:
        lost += changed_shape(check_source(plan.path), plan.facts.container, plan.video, _bounds(ctx))
    if plan.depth > 8:
        lost += read_static_metadata(check_source(plan.path), plan.video, _bounds(ctx)).lost
    warnings += [
        *expected.losses(facts),
        *conversions(plan.video, plan.depth, plan.how, facts.video),
        *verify.check_decoding(plan.video, tally, complete=not params.trims, begins=not params.start_s),
        *lost,
    ]
    return facts


def _write(
    params: TranscodeParams, plan: Plan, sound: AudioPlan, output: Path, ctx: Context, pictures: list[str],
    span: tuple[float, float] = (0.0, 0.98), keep_open: Sequence[int] = (),
) -> ffmpeg.Tally:  # fmt: skip
    """Write the output with these arguments for its pictures."""
    tally = ffmpeg.Tally(stream=f"0:{plan.video.index}")
    copies = "copy" in pictures
    with check_source(plan.path).opened() as file, created(output) as sink, texts.opened(plan.texts) as (inputs, fds):
        arguments = [
            *QUIET,
            *input_arguments(file, ctx.limits, *plan.video.reading, *plan.cut.before),
            *inputs,
            "-map", f"0:{plan.video.index}", *sound.arguments, *plan.cut.copied, *pictures,
            *(("-metadata:s:v:0", "alpha_mode=1") if plan.how.keeps_alpha else ()),
            *output_arguments(
                sink.writing, plan.container, ctx.limits, faststart=params.faststart, extras=plan.extras,
                length_s=math.inf if params.length_s is None else params.length_s,
                unofficial=is_unofficial(plan.video, copied=copies),
            ),
            *(counting_from_all(plan.facts.container) if plan.cut.before else ()),
        ]  # fmt: skip
        report = stage_reporter(ctx.progress, "encode", plan.duration_s, begin=span[0], end=span[1])
        bounds = replace(_bounds(ctx), gpu=plan.encoder.gpu and not copies)
        try:
            ffmpeg.run(
                arguments, bounds, keep_open=[file, sink.writing, *fds, *keep_open], stdin=sink.reading, tally=tally,
                on_progress=report,
            )  # fmt: skip
        except BaseException:
            log_remarks(ctx.log, tally, failed=True)
            raise
    return tally
