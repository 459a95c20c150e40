"""Putting together what ffmpeg says of a stream and what its packets say: the facts of one stream. No IO."""

from __future__ import annotations

import re
from dataclasses import dataclass

from vidqueue.formats import Allowed
from vidqueue.media.clocks import OWN_CLOCK, Clock
from vidqueue.media.facts import AudioFacts, Colour, SubtitleFacts, VideoFacts
from vidqueue.media.packets import Track
from vidqueue.media.stream_line import StreamLine

# ffmpeg's own decoders of these codecs leave out the transparency that WebM stores beside the pictures.
_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
_DEEP = re.compile(
    r"p0?(?P<bits>9|10|12|14|16)(?:le|be)$|^gray(?P<grey>10|12|14|16)(?:le|be)$|^(?:rgb|bgr)a?(?P<rgb>48|64)"
)


def bit_depth(pixel_format: str) -> int:
    """Bits of one component, from ffmpeg's name of the pixel format."""
    found = _DEEP.search(pixel_format)
    if not found:
        return 8
    return int(found["bits"] or found["grey"] or 16)


def video_facts(line: StreamLine, track: Track, clock: Clock = OWN_CLOCK) -> VideoFacts:
    """The facts of a video stream, listed with this clock."""
    decoder = _ALPHA_DECODERS.get(track.codec) if line.alpha and line.pixel_format == "yuv420p" else None
    return VideoFacts(
        index=line.index,
        codec=track.codec,
        profile=line.profile,
        width=track.width,
        height=track.height,
        sar=track.sar,
        pixel_format="yuva420p" if decoder else line.pixel_format,
        decoder=decoder,
        bit_depth=bit_depth(line.pixel_format),
        colour=_colour(line, track),
        interlaced=line.interlaced,
        fps=track.fps,
        frames=track.shown,
        leading=track.leading,
        early=track.early,
        early_s=track.early_s,
        hidden=track.hidden,
        untimed=track.untimed,
        encrypted=track.encrypted > 0 or line.encrypted,
        clock_restarts=clock.restarts,
        clock_step_s=clock.step_s,
        clock_by_packets=clock.by_packets,
        clock_late_s=clock.late_s,
        time_base=track.time_base,
        is_vfr=track.is_vfr,
        cropping=line.cropping,
        dolby_vision=line.dolby_vision,
        dolby_vision_base=line.dolby_vision_base,
        projection=line.projection,
        stereo=line.stereo,
        rotation=line.rotation,
        start_s=track.start_s,
        duration_s=track.duration_s,
        last_duration=track.tail,
        longest_gap_s=float((track.largest_gap or 0) * track.time_base),
        key_gap_s=track.key_gap_s,
        default=line.default,
        attached_picture=line.attached_picture,
    )


def _colour(line: StreamLine, track: Track) -> Colour:
    # The format of VP8 has one matrix only, whatever the size; containers say nothing of it, and players would guess.
    if track.codec == "vp8" and line.colour.space is None:
        return line.colour.model_copy(update={"space": "bt470bg"})
    return line.colour


def _audio(line: StreamLine, track: Track, clock: Clock) -> AudioFacts:
    return AudioFacts(
        index=line.index,
        codec=track.codec,
        sample_rate=track.sample_rate,
        channel_layout=track.channel_layout,
        start_s=track.start_s,
        duration_s=track.duration_s,
        heard_s=track.length_s,
        clock_step_s=clock.step_s,
        clock_by_packets=clock.by_packets,
        cut=track.cut,
        default=line.default,
        language=line.language,
        marks=line.marks,
    )


def subtitle_facts(line: StreamLine) -> SubtitleFacts:
    """The facts of a track of subtitles, whose packets are not listed."""
    return SubtitleFacts(
        index=line.index, codec=line.codec, default=line.default, forced=line.forced, language=line.language,
        marks=line.marks,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Heard:
    """The sound tracks that a result can have, and what is said of the others."""

    audios: tuple[AudioFacts, ...]
    left_out: tuple[str, ...]
    unread: tuple[str, ...]


def heard(
    tracks: list[tuple[StreamLine, Track]], programs: set[int], accepted: Allowed, clock: Clock = OWN_CLOCK
) -> Heard:
    """Choose the sound tracks: those of the picture's program that have packets and a codec that is accepted."""
    audios, left_out, unread = [], [], []
    for place, (line, track) in enumerate(tracks, start=1):
        if programs and line.programs.isdisjoint(programs):
            left_out.append(f"Sound track {place} belongs to another program of the file.")
        elif track.encrypted or line.encrypted:
            left_out.append(f"Sound track {place} is encrypted.")
        elif track.codec not in accepted.audio:
            unread.append(track.codec or "unknown")
            left_out.append(f"Sound track {place} has the codec {track.codec or 'unknown'}, which is not accepted.")
        elif track.shown == 0:
            left_out.append(f"Sound track {place} is empty.")
        else:
            audios.append(_audio(line, track, clock))
    return Heard(tuple(audios), tuple(left_out), tuple(unread))
