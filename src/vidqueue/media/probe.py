"""Probing a media file in one jailed run: ffmpeg lists its packets; nothing is decoded and no header is believed.

No ffprobe is shipped. Copying all streams into the `framecrc` muxer yields exact packet times, and the banner on
standard error has the rest; durations and rates come from packets, because headers lie.
"""

from __future__ import annotations

import itertools
import subprocess
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

from vidqueue.errors import VidqueueError
from vidqueue.formats import MAY_BE_STILL, STILL_FORMATS, allowed
from vidqueue.limits import Limits
from vidqueue.media import durations
from vidqueue.media.arguments import INFORMATIVE, QUIET, input_arguments
from vidqueue.media.banner import Banner
from vidqueue.media.clocks import OWN_CLOCK, Clock, clock_of
from vidqueue.media.facts import (
    AudioFacts,
    MediaFacts,
    VideoFacts,
    choose_audio,
    choose_video,
    projected,
)
from vidqueue.media.faults import raise_if_failed
from vidqueue.media.jail import sandbox
from vidqueue.media.listing import Listing, read_listing
from vidqueue.media.packets import Track
from vidqueue.media.source import Source, check_source, is_scrambled
from vidqueue.media.stream_line import StreamLine
from vidqueue.media.tracks import heard, subtitle_facts, video_facts
from vidqueue.ops import active_time

# How a sentence of `damage` ends that says what the container marked, whether or not it can be decoded.
CUT_SHORT = "cut short."
# Enough for twenty minutes of video with sound; what a longer one holds is projected.
MOST_PACKETS = 100_000
_MOST_SECONDS = 10.0
# How much of the listing ffmpeg writes at once; in a large block are the lines of some hundred packets, which may be
# huge, and all of them are read before the first is heard of.
_BLOCK, _SMALL_BLOCK = 32_768, 2048
_SYMPTOMS = frozenset({"unsupported_codec", "unsupported_format", "media_damaged", "no_video_stream", "ffmpeg_failed"})


def probe(path: Path, limits: Limits, canceled: threading.Event | None = None, *, whole: bool = False) -> MediaFacts:
    """Read a media file's facts. Call it from a thread that lives longer than the run.

    Args:
        path: the file; never followed if it is a link.
        limits: what it may cost, and how large the media may be.
        canceled: ends the run when set.
        whole: read every packet of the file, however long that takes. Otherwise the facts of a file with very many
            packets are `estimated` from the first ones, so that a probe takes seconds whatever it is given.

    Raises:
        VidqueueError: the file cannot be opened or is not acceptable media, with the code of the reason.
        CanceledError: `canceled` was set.
    """
    source = check_source(path)
    timeout_s = limits.ffmpeg_timeout_s if whole else limits.probe_timeout_s
    bounds = sandbox.SandboxLimits(limits, timeout_s, canceled or threading.Event())
    try:
        facts = _probed(source, bounds, limits, whole=whole)
    except VidqueueError as error:
        if error.code in _SYMPTOMS and is_scrambled(source):
            raise VidqueueError("encrypted", "The broadcast is encrypted.") from error
        raise
    durations.note(path, facts.duration_s)
    return facts


def _probed(source: Source, bounds: sandbox.SandboxLimits, limits: Limits, *, whole: bool) -> MediaFacts:
    listing, banner = _list_packets(source, bounds, _never if whole else _enough_from_now())
    clock = clock_of(listing, banner)
    if clock.restarts:
        # The times of the listing are wrong where the clock goes back; ffmpeg joins the parts where it makes the times.
        # What the header promises is the time from the first part's clock to the last one's.
        listing, banner = _list_packets(source, bounds, _never if whole else _enough_from_now(), clock)
        for track in listing.tracks.values():
            track.settle()
        banner.duration_s = None
    if banner.container in ("matroska", "mov", "asf") and banner.duration_s is not None:
        # These declare the time of the end; where the clock starts late, that is more than the length.
        banner.duration_s -= max(0.0, banner.start_s)
    facts = _facts(source, listing, banner, clock, limits)
    _check_bounds(facts, limits)
    return facts


def _never(packets: int) -> bool:
    del packets
    return False


def _enough_from_now() -> Callable[[int], bool]:
    until = active_time.now() + _MOST_SECONDS
    return lambda packets: packets >= MOST_PACKETS or active_time.now() > until


def _list_packets(
    source: Source, bounds: sandbox.SandboxLimits, enough: Callable[[int], bool], clock: Clock = OWN_CLOCK,
    without: frozenset[int] = frozenset(),
) -> tuple[Listing, Banner]:  # fmt: skip
    """List all packets until it is `enough` of them, with times on the file's own clock or from its beginning."""
    banner = Banner()
    with source.opened() as descriptor:
        arguments = [
            *QUIET, *INFORMATIVE,
            # The file's own clock, so that times here are those a decoder will speak of.
            *([] if clock.restarts else ["-copyts"]), *input_arguments(descriptor, bounds.limits, *clock.reading),
            # Flushing each packet by itself would take as long as everything else together.
            "-map", "0:v?", "-map", "0:a?", *(word for index in without for word in ("-map", f"-0:{index}")),
            "-c", "copy", "-copyinkf", "-flush_packets", "0",
            "-blocksize", str(_BLOCK if enough is _never else _SMALL_BLOCK), "-f", "framecrc", "pipe:1",
        ]  # fmt: skip
        running = sandbox.start(arguments, bounds, keep_open=[descriptor], stdout=subprocess.PIPE, on_line=banner.read)
        with running:
            listing = _read(running, enough)
            ended = running.wait()
    if ended.returncode != 0 and ended.by == "itself" and banner.streams and not _playable(banner):
        return Listing(), banner
    if ended.returncode != 0 and ended.by == "itself" and not without and banner.unrated:
        # ffmpeg lists no sound whose rate only a decoder knows that is not accepted, nor anything else with it.
        return _list_packets(source, bounds, enough, clock, banner.unrated)
    listing.without = without
    if listing.whole or ended.by != "caller":
        raise_if_failed(ended)
    if banner.refusal:
        raise banner.refusal
    return listing, banner


def _read(running: sandbox.Sandboxed, enough: Callable[[int], bool]) -> Listing:
    try:
        listing = read_listing(iter(partial(running.stdout.read1, _BLOCK), b""), enough)
    except ValueError as error:
        # A run that was killed in the middle of a line has a reason of its own.
        running.kill()
        raise_if_failed(running.wait())
        raise VidqueueError("media_damaged", f"The packets of the file cannot be listed: {error}.") from error
    if not listing.whole:
        running.kill()
    return listing


def _playable(banner: Banner) -> bool:
    return any(stream.kind in ("Video", "Audio") for stream in banner.streams)


def _facts(source: Source, listing: Listing, banner: Banner, clock: Clock, limits: Limits) -> MediaFacts:
    # The maps above put the video streams first, then the audio streams, each in the order of the file.
    pictures = [stream for stream in banner.streams if stream.kind == "Video"]
    sounds = [stream for stream in banner.streams if stream.kind == "Audio"]
    listed = _tracks_of([*pictures, *sounds], listing)
    for line in (*pictures, *sounds):
        line.encrypted = line.encrypted or banner.encrypted
    _check_agreement([line for line in (*pictures, *sounds) if line.index not in listing.without], listing)
    videos = tuple(video_facts(line, track, clock) for line, track in zip(pictures, listed, strict=False))
    video = choose_video(videos)
    sound = heard(
        list(zip(sounds, listed[len(pictures) :], strict=True)), _programs_of(video, pictures), allowed(limits.formats),
        clock,
    )  # fmt: skip
    audios = sound.audios
    chosen = listed[videos.index(video)] if video else None
    facts = MediaFacts(
        container=banner.container,
        size=source.size,
        start_s=0.0 if clock.restarts else banner.start_s,
        duration_s=video.duration_s if video else max((one.duration_s for one in audios), default=0.0),
        declared_duration_s=banner.duration_s,
        video=video,
        videos=videos,
        audio=choose_audio(audios),
        audios=audios,
        left_out=sound.left_out,
        other_videos=_other_videos(video, videos, pictures),
        covers=sum(one.attached_picture for one in videos if one is not video),
        unread_audio=sound.unread,
        other_streams=len(banner.streams) - len(pictures) - len(sounds),
        subtitles=banner.count("Subtitle"),
        attachments=banner.count("Attachment"),
        data_tracks=sum(stream.kind == "Data" and not stream.implied for stream in banner.streams),
        subtitle_tracks=tuple(subtitle_facts(stream) for stream in banner.streams if stream.kind == "Subtitle"),
        chapters=banner.chapters,
        is_still=_is_still(banner.container, video),
        damage=tuple(banner.faults) + (_damage(banner, videos, audios, chosen) if listing.whole else ()),
    )
    return facts if listing.whole else projected(facts, listing.bytes)


def _tracks_of(lines: list[StreamLine], listing: Listing) -> list[Track]:
    """The tracks of these streams; of one that is not listed, only the codec is known."""
    numbers = itertools.count()
    return [
        Track(kind="audio", codec=line.codec)
        if line.index in listing.without
        else listing.tracks.get(next(numbers), Track())
        for line in lines
    ]


def _check_agreement(streams: list[StreamLine], listing: Listing) -> None:
    """Refuse a file whose description and packets contradict each other; nothing can be said of it then."""
    told = [stream.kind.lower() for stream in streams]
    found = [track.kind for _, track in sorted(listing.tracks.items())]
    if found and told != found:
        raise VidqueueError("media_damaged", "The streams that the file describes are not those that it holds.")


def _programs_of(video: VideoFacts | None, pictures: list[StreamLine]) -> set[int]:
    if video is None:
        return set()
    return next(line.programs for line in pictures if line.index == video.index)


def _other_videos(video: VideoFacts | None, videos: tuple[VideoFacts, ...], pictures: list[StreamLine]) -> int:
    programs = _programs_of(video, pictures)
    return sum(
        one is not video and one.frames > 0 and not one.attached_picture
        and not (programs and line.programs.isdisjoint(programs))
        for one, line in zip(videos, pictures, strict=False)
    )  # fmt: skip


def _is_still(container: str, video: VideoFacts | None) -> bool:
    if video is None:
        return False
    return container in STILL_FORMATS or (container in MAY_BE_STILL and video.frames == 1)


def _damage(
    banner: Banner, videos: tuple[VideoFacts, ...], audios: tuple[AudioFacts, ...], chosen: Track | None
) -> tuple[str, ...]:
    found = []
    streams: tuple[VideoFacts | AudioFacts, ...] = (*videos, *audios)
    longest = max((one.start_s + one.duration_s for one in streams), default=0.0) - banner.start_s
    declared = banner.duration_s
    # Where there are other streams (subtitles, a phone's sensor data), the promise may be theirs.
    if declared and longest < declared * 0.98 - 0.1 and len(streams) == len(banner.streams):
        found.append(f"The header promises {declared:.2f} s, the file holds {longest:.2f} s.")
    if chosen and chosen.corrupt:
        packets = "1 packet of the video is" if chosen.corrupt == 1 else f"{chosen.corrupt} packets of the video are"
        found.append(f"{packets} {CUT_SHORT}")
    if banner.broken_off:
        found.append("ffmpeg cannot read the file to its end.")
    if banner.partial:
        found.append("The file ends before its last packet does.")
    return tuple(found)


def _check_bounds(facts: MediaFacts, limits: Limits) -> None:
    if len(facts.videos) + len(facts.audios) + len(facts.left_out) > limits.max_streams:
        raise VidqueueError("too_many_streams", "The file has too many streams.")
    for video in filter(None, [facts.video]):
        if not video.width or not video.height:
            raise VidqueueError("media_damaged", "The size of the picture cannot be read.")
        if video.codec not in allowed(limits.formats).video:
            raise VidqueueError("unsupported_codec", f"The video codec {video.codec or 'of the file'} is not accepted.")
        if video.width * video.height > limits.max_pixels:
            raise VidqueueError(
                "media_too_large",
                f"The picture is {video.width}x{video.height}; at most {limits.max_pixels} pixels are allowed.",
            )
    if facts.video is None and not facts.audios and facts.unread_audio:
        raise VidqueueError("unsupported_codec", f"The audio codec {facts.unread_audio[0]} is not accepted.")
    if facts.duration_s > limits.max_duration_s:
        raise VidqueueError(
            "media_too_long", f"The media lasts {facts.duration_s:.0f} s; {limits.max_duration_s:.0f} s are allowed."
        )
