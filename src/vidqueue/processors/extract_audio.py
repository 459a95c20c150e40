"""Extract audio: one sound track of a video or sound file as m4a, mp3, wav, opus or flac."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from vidqueue.errors import VidqueueError, is_retryable
from vidqueue.job import OutputDraft
from vidqueue.media import ffmpeg
from vidqueue.media.arguments import QUIET, REPRODUCIBLE, counting_from_all, decoded_evenly, input_arguments
from vidqueue.media.channels import flac_holds, has_room, same_places
from vidqueue.media.facts import AudioFacts, MediaFacts
from vidqueue.media.jail.sandbox import SandboxLimits
from vidqueue.media.loudness import Loudness, measure
from vidqueue.media.probe import CUT_SHORT, probe
from vidqueue.media.sink import created
from vidqueue.media.sound_changes import changing, lost_channels
from vidqueue.media.source import check_source
from vidqueue.media.tags import Tags, kept_arguments, read_tags
from vidqueue.processors.base import AudioInput, Context, Parameters, Processor
from vidqueue.processors.parts.reporting import remarks_logged, stage_reporter
from vidqueue.processors.parts.sound import SOUND_KINDS, AudioFormat
from vidqueue.progress import Progress

# Encoders add up to two frames before and after the sound: that many seconds and samples.
_SLACK_S = 0.05
_SLACK_SAMPLES = 4800
_LATE_S = 0.05
_KBIT = {"mono": 96, "stereo": 192}
# Codecs whose samples may need more than 16 bits; those of lossy ones do not.
_DEEP = ("flac", "alac", "pcm_s24le", "pcm_s24be", "pcm_s32le", "pcm_s32be", "pcm_f32le")
_SURROUND = "3.0|5.0|5.1|7.1"


class ExtractAudioParams(Parameters):
    """Parameters of `extract-audio`."""

    media: AudioInput
    format: AudioFormat = Field("m4a", description="Kind of file to write.")
    track: int | None = Field(None, ge=1, le=64, description="Number of the sound track, from 1.")
    language: str | None = Field(
        None, pattern="^[a-z]{2,3}$", description="Language of the sound track as the file says it, such as `eng`."
    )
    copy_sound: bool = Field(
        True, description="Copy the sound without loss where the format takes its codec and nothing else is asked for."
    )
    bitrate_kbit: int | None = Field(None, ge=16, le=640, description="For m4a, mp3 and opus; kbit a second.")
    channels: Literal["keep", "stereo", "mono"] = Field("keep", description="mp3 holds two channels at most.")
    sample_rate: int | None = Field(
        None, ge=8000, le=192_000, description="Samples a second; the source's if not given."
    )
    loudness: float | None = Field(
        None, ge=-40, le=-5, description="Loudness to aim at in LUFS (EBU R128), such as -16 or -23; measured first."
    )
    metadata: Literal["safe", "none"] = Field(
        "safe", description="`safe` keeps title, artist, album, date and language, and never a place or a device."
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.track is not None and self.language is not None:
            raise ValueError("give either track or language, not both")
        if self.bitrate_kbit and not SOUND_KINDS[self.format].lossy:
            raise ValueError(f"{self.format} is without loss and has no bitrate")
        if self.bitrate_kbit and self.format == "mp3" and self.bitrate_kbit > 320:
            raise ValueError("mp3 has at most 320 kbit a second")
        return self

    @property
    def changes(self) -> bool:
        """True if the sound must be encoded anew whatever its codec is."""
        wishes = (self.bitrate_kbit, self.sample_rate, self.loudness)
        return not self.copy_sound or self.channels != "keep" or any(one is not None for one in wishes)


@dataclass(frozen=True, slots=True)
class _Plan:
    """The source of one job and the track to take from it; `late_s` is how long after the file it begins."""

    path: Path
    facts: MediaFacts
    tags: Tags
    audio: AudioFacts
    copies: bool
    bounds: SandboxLimits

    @property
    def late_s(self) -> float:
        return max(0.0, self.audio.start_s - self.facts.start_s)


class ExtractAudio(Processor):
    """Take one sound track out of a video or sound file, copied where possible, with a loudness target if wanted."""

    name = "extract-audio"
    deterministic: ClassVar[bool] = True
    Params: ClassVar[type[Parameters]] = ExtractAudioParams

    def run(self, params: ExtractAudioParams, ctx: Context) -> list[OutputDraft]:
        """Probe, measure if asked to, write, check, and return the one output."""
        ctx.progress(Progress(0.0, "probe"))
        plan = _plan(params, ctx)
        warnings = [said for said in plan.facts.damage if not said.endswith(CUT_SHORT)]
        steps = _filters(params, plan, ctx, warnings)
        kind = SOUND_KINDS[params.format]
        output = ctx.output_path(f"audio.{params.format}")
        tally = _write(params, plan, steps, output, ctx)
        warnings += _losses(plan.audio, tally)
        ctx.progress(Progress(0.99, "check"))
        facts = _check(output, plan, ctx)
        warnings += _lost_layout(params, plan.audio, facts.audios[0])
        for warning in warnings:
            ctx.log(warning, "warning")
        told = {"copied": plan.copies, "begins_at_s": round(plan.late_s, 3), "warnings": warnings}
        return [OutputDraft("audio", output, kind.media_type, facts.as_json() | told)]


def _plan(params: ExtractAudioParams, ctx: Context) -> _Plan:
    path = ctx.inputs["media"]
    facts = probe(path, ctx.limits, ctx.canceled, whole=True)
    bounds = SandboxLimits(ctx.limits, ctx.limits.ffmpeg_timeout_s, ctx.canceled)
    if not facts.audios:
        raise VidqueueError("no_audio_stream", "The file has no sound.")
    tags = read_tags(check_source(path), [one.index for one in facts.audios], bounds)
    audio = _chosen(params, facts, tags)
    if audio.duration_s <= 0:
        raise VidqueueError("no_audio_stream", "The sound track is empty.")
    copies = not params.changes and audio.codec in SOUND_KINDS[params.format].carries
    if copies and changing(check_source(path), facts, [audio], bounds):
        ctx.log("The sound is encoded anew: its channels, rate or clock change midway, or an edit list cuts it.")
        copies = False
    elif not copies and not params.changes:
        ctx.log(f"{params.format} does not carry {audio.codec}; the sound is encoded anew.")
    return _Plan(path, facts, tags, audio, copies, bounds)


def _chosen(params: ExtractAudioParams, facts: MediaFacts, tags: Tags) -> AudioFacts:
    audios = facts.audios
    if params.track is not None:
        if params.track > len(audios):
            raise VidqueueError(
                "no_audio_stream", f"There is no sound track {params.track}; the file has {len(audios)}."
            )
        return audios[params.track - 1]
    if params.language is not None:
        spoken = [tags.language(one.index) for one in audios]
        if params.language not in spoken:
            known = ", ".join(one or "not said" for one in spoken)
            raise VidqueueError(
                "no_audio_stream", f"No sound track is in {params.language!r}; the languages are: {known}."
            )
        return audios[spoken.index(params.language)]
    return facts.audio or audios[0]


def _filters(params: ExtractAudioParams, plan: _Plan, ctx: Context, warnings: list[str]) -> str:
    """The filters of the last pass; empty where the sound is copied."""
    if plan.copies:
        if plan.late_s > _LATE_S and params.format not in ("m4a", "opus"):
            warnings.append(f"The sound begins {plan.late_s:.3f} s after the file; the result begins with the sound.")
        return ""
    # Gaps become silence, also before the first sample, so that the result stays in step with the picture.
    steps = ["aresample=async=1:first_pts=0"]
    if params.loudness is not None:
        loudness = Loudness(params.loudness)
        report = stage_reporter(ctx.progress, "measure", plan.audio.duration_s, end=0.45)
        measure(check_source(plan.path), plan.audio, loudness, plan.bounds, report)
        if (correcting := loudness.correcting()) is not None:
            steps.append(correcting)
            ctx.log(f"The source has {loudness.integrated} LUFS.")
        else:
            warnings.append("The sound is silent; its loudness was not changed.")
    rate = _rate(params, plan.audio)
    return ",".join([*steps, f"aresample={rate}"])


def _rate(params: ExtractAudioParams, audio: AudioFacts) -> int:
    wanted = params.sample_rate or audio.sample_rate or 48_000
    rates = SOUND_KINDS[params.format].rates
    if params.format == "m4a":
        wanted = min(wanted, 96_000)
    return wanted if not rates or wanted in rates else min(rates, key=lambda one: (one < wanted, abs(one - wanted)))


def _write(params: ExtractAudioParams, plan: _Plan, steps: str, output: Path, ctx: Context) -> ffmpeg.Tally:
    kind = SOUND_KINDS[params.format]
    tally = ffmpeg.Tally(stream=f"0:{plan.audio.index}")
    begin = 0.45 if params.loudness is not None else 0.02
    with check_source(plan.path).opened() as file, created(output) as sink:
        arguments = [
            *QUIET, *input_arguments(file, ctx.limits, *plan.audio.joining),
            *(
                ("-map", f"0:{plan.audio.index}", "-c", "copy")
                if plan.copies
                else (*decoded_evenly(plan.audio), *_encoder(params, plan.audio, steps))
            ),
            "-map_metadata", "-1", "-map_chapters", "-1",
            *(_kept(params, plan) if params.metadata == "safe" else ()),
            "-t", f"{ctx.limits.max_duration_s:.3f}",
            *(("-movflags", "+faststart", "-brand", "M4A ") if kind.muxer == "mp4" else ()),
            *REPRODUCIBLE, "-f", kind.muxer, "-fd", str(sink.writing), "fd:",
            *(() if plan.copies else counting_from_all(plan.facts.container)),
        ]  # fmt: skip
        report = stage_reporter(ctx.progress, "copy" if plan.copies else "encode", plan.audio.duration_s, begin=begin)
        with remarks_logged(ctx.log, tally):
            ffmpeg.run(
                arguments, plan.bounds, keep_open=[file, sink.writing], stdin=sink.reading, tally=tally,
                on_progress=report,
            )  # fmt: skip
    return tally


def _encoder(params: ExtractAudioParams, audio: AudioFacts, steps: str) -> list[str]:
    kind = SOUND_KINDS[params.format]
    encoder = kind.encoder
    if params.format == "wav" and audio.codec.startswith(("pcm_s24", "pcm_s32", "pcm_f32")):
        encoder = "pcm_s24le"
    layouts = _layouts(params, audio)
    kbit = params.bitrate_kbit or _KBIT.get(layouts, 384)
    steps = f"{steps},aformat=channel_layouts={layouts}" if layouts else steps
    arguments = ["-filter_complex", f"[dec:0]{steps}[sound]", "-map", "[sound]", "-c:a", encoder]
    if kind.lossy:
        arguments += ["-b:a", f"{min(kbit, 320 if params.format == 'mp3' else 640)}k"]
    if encoder == "flac" and audio.codec not in _DEEP:
        arguments += ["-sample_fmt", "s16"]
    if encoder == "libopus":
        arguments += ["-mapping_family", "0" if layouts in _KBIT else "1"]
    return arguments


def _layouts(params: ExtractAudioParams, audio: AudioFacts) -> str:
    """The layouts of channels to choose from, in ffmpeg's words; empty where every one is taken."""
    wanted = audio.channel_layout if params.channels == "keep" else params.channels
    if wanted in _KBIT or params.format == "mp3":
        return wanted if wanted in _KBIT else "stereo"
    if params.format == "flac":
        return "" if flac_holds(wanted or "") else "7.1"
    # Decoders of AC-3 and DTS say 5.1(side), which these encoders know as 5.1 only.
    return _SURROUND if params.format in ("m4a", "opus") else ""


def _kept(params: ExtractAudioParams, plan: _Plan) -> list[str]:
    own = plan.tags.of(plan.audio.index)
    language = plan.tags.language(plan.audio.index)
    # The title of a track of a film is "Commentary", which says more than that of the film where one track is taken.
    told = {**plan.tags.file, **own, "language": ""}
    where = ":s:a:0" if params.format == "m4a" else ""
    return [*kept_arguments(told), *(("-metadata" + where, f"language={language}") if language else ())]


def _losses(audio: AudioFacts, tally: ffmpeg.Tally) -> list[str]:
    refused = [f"{tally.errors} packets of the sound could not be decoded."] if tally.errors else []
    return [*refused, *lost_channels([audio], tally, ["0:0"])]


def _lost_layout(params: ExtractAudioParams, audio: AudioFacts, found: AudioFacts) -> list[str]:
    had, has = audio.channel_layout or "", found.channel_layout or ""
    if params.channels != "keep" or not had or not has or same_places(had, has) or has_room(has, had):
        return []
    return [f"The sound has the channels {had}, which became {has} in {params.format}."]


def _check(output: Path, plan: _Plan, ctx: Context) -> MediaFacts:
    """Read the result back: one track, as long as the source's.

    Raises:
        VidqueueError: `output_incomplete`, or the code of what kept the probe from reading.
    """
    try:
        facts = probe(output, ctx.limits, ctx.canceled, whole=True)
    except VidqueueError as error:
        if is_retryable(error.code):
            raise
        raise VidqueueError("output_incomplete", f"The result cannot be read back: {error.message}") from error
    if len(facts.audios) != 1 or facts.videos:
        raise VidqueueError("output_incomplete", f"The result has {len(facts.audios)} sound tracks instead of one.")
    # ffmpeg does not know when the later ones of several Ogg files in a row begin.
    whole_s = plan.audio.heard_s if plan.facts.container == "ogg" else 0.0
    expected = (whole_s or plan.audio.duration_s) + (0.0 if plan.copies else plan.late_s)
    found = facts.audios[0].duration_s
    slack_s = _SLACK_S + _SLACK_SAMPLES / (facts.audios[0].sample_rate or 48_000)
    # What cannot be decoded at the end of a damaged file may be missing.
    if abs(found - expected) > max(slack_s, expected * 0.02):
        raise VidqueueError("output_incomplete", f"The result lasts {found:.3f} s instead of {expected:.3f} s.")
    return facts
