"""Processor `package`: makes HLS with several renditions, as fragmented MP4 files and byte-range playlists."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from vidqueue.errors import VidqueueError
from vidqueue.formats import SUBTITLE_CODECS
from vidqueue.job import OutputDraft
from vidqueue.media import encoders, ffmpeg, verify
from vidqueue.media.encoders import Effort
from vidqueue.media.facts import AudioFacts, MediaFacts, SubtitleFacts, VideoFacts
from vidqueue.media.filters import conversions
from vidqueue.media.fragments import Fragmented, read_fragments
from vidqueue.media.jail.sandbox import SandboxLimits
from vidqueue.media.ladder import Ladder, Rung, write_ladder
from vidqueue.media.probe import probe
from vidqueue.media.sound_changes import lost_channels
from vidqueue.media.soundtracks import with_tracks
from vidqueue.media.source import check_source, unchanged
from vidqueue.media.tags import Tags, read_tags
from vidqueue.processors.base import Context, Parameters, Processor, VideoInput
from vidqueue.processors.parts import playlists
from vidqueue.processors.parts.choices import RESOLUTIONS, AudioTracks
from vidqueue.processors.parts.reporting import remarks_logged, stage_reporter
from vidqueue.progress import Progress

RungName = Literal["2160p", "1440p", "1080p", "720p", "540p", "480p", "360p", "240p"]
_DEFAULT: list[RungName] = ["1080p", "720p", "480p", "360p"]
_MOST_KBIT: dict[str, int] = {
    "2160p": 16_000, "1440p": 9_000, "1080p": 5_000, "720p": 2_800, "540p": 1_800, "480p": 1_400, "360p": 800,
    "240p": 400,
}  # fmt: skip
_KBIT_A_PIXEL = 0.005
# The most tracks of sound, and of text.
_MOST_TRACKS = 8


class PackageParams(Parameters):
    """Parameters of `package`."""

    video: VideoInput
    rungs: list[RungName] = Field(
        _DEFAULT, min_length=1, max_length=8,
        description="Renditions by the lines of their shorter side; those larger than the video are left out.",
    )  # fmt: skip
    segment_s: float = Field(6.0, ge=1, le=30, description="Length of a segment in seconds.")
    effort: Effort = Field("medium", description="Time spent on making the files small.")
    audio: Literal["keep", "drop"] = Field("keep", description="`keep` publishes the sound tracks as AAC in stereo.")
    audio_tracks: AudioTracks = "all"
    subtitles: Literal["keep", "drop"] = Field("keep", description="`keep` publishes subtitles of text as WebVTT.")


@dataclass(frozen=True, slots=True)
class _Work:
    """The source of one job, its renditions, and its warnings."""

    facts: MediaFacts
    video: VideoFacts
    tags: Tags
    ladder: Ladder
    warnings: list[str]


class Package(Processor):
    """Prepare a video for streaming: HLS with several sizes, H.264 and AAC in fragmented MP4, and a master playlist."""

    name = "package"
    Params: ClassVar[type[Parameters]] = PackageParams

    def run(self, params: PackageParams, ctx: Context) -> list[OutputDraft]:
        """Probe, encode all renditions at once, check each, and write the playlists."""
        with unchanged(ctx.inputs["video"]):
            return self._run(params, ctx)

    def _run(self, params: PackageParams, ctx: Context) -> list[OutputDraft]:
        ctx.progress(Progress(0.0, "probe"))
        bounds = SandboxLimits(ctx.limits, ctx.limits.ffmpeg_timeout_s, ctx.canceled)
        work = _planned(params, ctx, bounds)
        tally = ffmpeg.Tally(stream=f"0:{work.video.index}")
        report = stage_reporter(ctx.progress, "encode", work.video.duration_s, begin=0.02, end=0.92)
        with remarks_logged(ctx.log, tally):
            write_ladder(check_source(ctx.inputs["video"]), work.video, work.ladder, bounds, tally, report)
        work.warnings.extend([*conversions(work.video, 8), *verify.check_decoding(work.video, tally)])
        work.warnings.extend(lost_channels([audio for audio, _ in work.ladder.sounds], tally, work.ladder.decoded))
        for warning in work.warnings:
            ctx.log(warning, "warning")
        return _published(work, tally, ctx)


def _planned(params: PackageParams, ctx: Context, bounds: SandboxLimits) -> _Work:
    encoders.require(encoders.ENCODERS["libx264"])
    path = ctx.inputs["video"]
    wanted = "none" if params.audio == "drop" else params.audio_tracks
    facts = with_tracks(probe(path, ctx.limits, ctx.canceled, whole=True), wanted)
    video = verify.playable_video(facts)
    if not facts.audios and facts.unread_audio and params.audio != "drop":
        raise VidqueueError(
            "unsupported_codec", f"The audio codec {facts.unread_audio[0]} is not accepted.",
            hint="Drop the sound (`audio: drop`), or convert it first.",
        )  # fmt: skip
    warnings = list(facts.left_out) if params.audio != "drop" else []
    texts = _texts(params, facts, warnings)
    ladder = Ladder(
        _rungs(params, video, ctx),
        [(one, ctx.output_path(f"audio-{n}.mp4")) for n, one in enumerate(_first(facts.audios, "sound", warnings), 1)],
        [(one, ctx.output_path(f"subtitles-{n}.vtt")) for n, one in enumerate(texts, 1)],
        params.segment_s,
        params.effort,
        max(0.0, video.start_s - facts.start_s),
    )
    if facts.chapters:
        warnings.append(f"{facts.chapters} chapter{'s are' if facts.chapters > 1 else ' is'} left out.")
    return _Work(facts, video, read_tags(check_source(path), facts.described_streams, bounds), ladder, warnings)


def _first(tracks: tuple[AudioFacts, ...], kind: str, warnings: list[str]) -> tuple[AudioFacts, ...]:
    if len(tracks) > _MOST_TRACKS:
        warnings.append(f"Only the first {_MOST_TRACKS} of {len(tracks)} {kind} tracks are published.")
    return tracks[:_MOST_TRACKS]


def _texts(params: PackageParams, facts: MediaFacts, warnings: list[str]) -> list[SubtitleFacts]:
    if params.subtitles == "drop":
        return []
    kept = [one for one in facts.subtitle_tracks if one.codec in SUBTITLE_CODECS]
    for place, one in enumerate(facts.subtitle_tracks, start=1):
        if one not in kept:
            warnings.append(f"Subtitle track {place} ({one.codec or 'unknown'}) is left out: it is no text.")
    if len(kept) > _MOST_TRACKS:
        warnings.append(f"Only the first {_MOST_TRACKS} of {len(kept)} subtitle tracks are published.")
    return kept[:_MOST_TRACKS]


def _rungs(params: PackageParams, video: VideoFacts, ctx: Context) -> list[Rung]:
    """Return the renditions, largest first: the requested ones up to the source's size, else that size."""
    from vidqueue.media.sampling import shown_size

    size = shown_size(video)
    lines = min(size)
    wanted = sorted(set(params.rungs), key=lambda name: -RESOLUTIONS[name])
    fitting = {str(name): RESOLUTIONS[name] for name in wanted if RESOLUTIONS[name] <= lines}
    if left_out := [name for name in wanted if name not in fitting]:
        ctx.log(f"The video has {lines} lines; {', '.join(left_out)} would only enlarge it.")
    if not fitting:
        fitting = {f"{lines}p": lines}
    made = []
    for name, height in fitting.items():
        across, down = (max(2, round(side * height / lines / 2) * 2) for side in size)
        kbit = _MOST_KBIT.get(name) or max(200, round(across * down * _KBIT_A_PIXEL))
        made.append(Rung(name, (across, down), kbit, ctx.output_path(f"video-{name}.mp4")))
    return made


def _published(work: _Work, tally: ffmpeg.Tally, ctx: Context) -> list[OutputDraft]:
    """Check every file, and write the playlists; the master comes first."""
    ctx.progress(Progress(0.93, "check"))
    ladder = work.ladder
    duration_s = verify.shown_s(work.video, tally) + ladder.late_s
    expected = verify.Expected(tally.decoded, duration_s, work.video.longest_frame_s + ladder.late_s, 0)
    outputs: list[OutputDraft] = []
    pictures: list[Fragmented] = []
    for rung in ladder.rungs:
        facts = verify.check_output(rung.path, expected, ctx.limits, ctx.canceled)
        pictures.append(_fragments(rung.path))
        outputs += _rendition(rung.path, pictures[-1], facts)
    if len({tuple(round(one.duration_s, 2) for one in found.fragments) for found in pictures}) > 1:
        raise VidqueueError("output_incomplete", "The segments of the renditions begin at different times.")
    sounds: list[Fragmented] = []
    for audio, path in ladder.sounds:
        facts = _checked_sound(work, audio, path, ctx)
        sounds.append(_fragments(path))
        outputs += _rendition(path, sounds[-1], facts)
    for _, path in ladder.texts:
        outputs += _text(path, duration_s)
    master = ctx.output_path("master.m3u8")
    renditions = playlists.Renditions(
        list(zip(ladder.rungs, pictures, strict=True)),
        [(_track(work, *sound), found) for sound, found in zip(ladder.sounds, sounds, strict=True)],
        [_track(work, *text) for text in ladder.texts],
        work.video.fps,
    )
    master.write_text(playlists.master(renditions), encoding="utf-8")
    told = {"rungs": [rung.name for rung in ladder.rungs], "duration_s": duration_s, "warnings": work.warnings}
    return [OutputDraft(master.name, master, playlists.MEDIA_TYPE, told), *outputs]


def _track(work: _Work, track: AudioFacts | SubtitleFacts, path: Path) -> playlists.Track:
    default = isinstance(track, AudioFacts) and track == work.facts.audio
    return playlists.Track(path.stem, work.tags.language(track.index), work.tags.title(track.index), default)


def _checked_sound(work: _Work, audio: AudioFacts, path: Path, ctx: Context) -> MediaFacts:
    facts = probe(path, ctx.limits, ctx.canceled, whole=True)
    expected_s = audio.duration_s + max(0.0, audio.start_s - work.facts.start_s)
    if abs(facts.duration_s - expected_s) > max(0.15, expected_s * 0.02):
        raise VidqueueError(
            "output_incomplete", f"{path.name} lasts {facts.duration_s:.3f} s instead of {expected_s:.3f} s."
        )
    return facts


def _fragments(path: Path) -> Fragmented:
    try:
        return read_fragments(path)
    except ValueError as error:
        raise VidqueueError("output_incomplete", f"{path.name} has no segments: {error}.") from error


def _rendition(media: Path, found: Fragmented, facts: MediaFacts) -> list[OutputDraft]:
    playlist = media.with_suffix(".m3u8")
    playlist.write_text(playlists.of_fragments(media.name, found), encoding="utf-8")
    kind = "audio/mp4" if facts.video is None else "video/mp4"
    return [
        OutputDraft(playlist.name, playlist, playlists.MEDIA_TYPE, {"segments": len(found.fragments)}),
        OutputDraft(media.name, media, kind, facts.as_json()),
    ]


def _text(path: Path, duration_s: float) -> list[OutputDraft]:
    playlist = path.with_suffix(".m3u8")
    playlist.write_text(playlists.of_whole(path.name, duration_s), encoding="utf-8")
    return [
        OutputDraft(playlist.name, playlist, playlists.MEDIA_TYPE, {"segments": 1}),
        OutputDraft(path.name, path, "text/vtt"),
    ]
