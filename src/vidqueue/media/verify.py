"""Verifies that a result is complete, by frames and duration: ffmpeg can exit with 0 though its output is truncated.

Decoding is tolerant, so that a phone clip with a small fault is still processed. What is lost is counted: up to
2 % of the pictures missing, or 20 % visibly damaged, is a success that carries warnings; more is `media_damaged`.
What the *encoder* loses is never tolerated: that is `output_incomplete`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vidqueue.errors import VidqueueError, is_retryable
from vidqueue.formats import SAFE, WIDE
from vidqueue.limits import Limits
from vidqueue.media.facts import AudioFacts, MediaFacts, VideoFacts
from vidqueue.media.ffmpeg import Tally
from vidqueue.media.probe import probe

# Profiles whose pictures may be in a colour space of their own (IPTPQc2); shown as any other they are green and violet.
# The first always has it, the others where they say that no other screen can show them.
_OWN_COLOURS, _OWN_COLOURS_AT_ZERO = 5, frozenset({10, 20})
_LOST_AT_MOST = 0.02
_DAMAGED_AT_MOST = 0.20
# Of encoders that begin and end with whole frames.
_SOUND_SLACK_S, _SOUND_SLACK_SAMPLES = 0.1, 4410
# A gap this long in both video and sound is probably a discontinuity of the timestamps.
_JUMP_S = 10.0

# Codecs where each packet is one picture. Others have packets that show nothing (VP8's hidden references, MPEG-4's
# empty ones), so a packet without a picture is no loss there, only one that the decoder refused.
ONE_PICTURE_A_PACKET = frozenset({"h264", "hevc", "av1", "vp9", "mjpeg", "prores", "gif", "png", "mpeg2video", "dnxhd"})


@dataclass(frozen=True, slots=True)
class Expected:
    """What an output must be.

    Attributes:
        frames: pictures that were handed to the encoder.
        duration_s: how long the video should last, in seconds.
        slack_s: by how much it may differ: one picture of the source, or of the result if that is longer.
        audio_streams: how many there should be.
        subtitles: how many tracks there should be at most; MP4 has none of those in which nothing is said.
        sounds: how long each audio stream should be by its packets' own lengths, in seconds; 0 where that is unknown.
        merges: whether pictures that are alike may have become one that stays longer.
    """

    frames: int
    duration_s: float
    slack_s: float
    audio_streams: int
    subtitles: int = 0
    merges: bool = False
    sounds: tuple[float, ...] = ()

    def losses(self, facts: MediaFacts) -> list[str]:
        """A sentence about what a result lacks without being wrong."""
        empty = self.subtitles - facts.subtitles
        said = [
            f"{lost_s:.2f} s of {whole_s:.2f} s of sound track {place} are missing."
            for place, whole_s, lost_s in self.lost_sound(facts)
        ]
        if empty:
            said.append(f"{empty} subtitle track{'s are' if empty > 1 else ' is'} left out: there is no text in it.")
        return said

    def lost_sound(self, facts: MediaFacts) -> Iterator[tuple[int, float, float]]:
        """Which audio streams of a result are shorter, with their right lengths and what they lack, in seconds.

        The lengths of packets are used and not timestamps, because timestamps may be discontinuous.
        """
        for place, (whole_s, audio) in enumerate(zip(self.sounds, facts.audios, strict=False), start=1):
            lost_s = whole_s - audio.heard_s
            slack_s = max(_SOUND_SLACK_S, _SOUND_SLACK_SAMPLES / max(audio.sample_rate, 1))
            if whole_s and audio.heard_s and lost_s > slack_s + whole_s * _LOST_AT_MOST:
                yield place, whole_s, lost_s


def playable_video(facts: MediaFacts) -> VideoFacts:
    """The video track to work on, if the file is a video that is complete enough.

    Raises:
        VidqueueError: `no_video_stream`, `still_image`, `unsupported_codec` or `media_damaged`.
    """
    if facts.video is None or facts.video.frames == 0:
        raise VidqueueError("no_video_stream", "The file has no moving pictures.")
    if facts.is_still:
        raise VidqueueError("still_image", "The file is a single picture.")
    if facts.video.encrypted:
        raise VidqueueError("encrypted", "The video is encrypted.")
    if _has_own_colours(facts.video):
        profile = facts.video.dolby_vision
        raise VidqueueError(
            "unsupported_codec",
            f"The video is Dolby Vision profile {profile}, whose colours only a Dolby decoder can show.",
            hint="Export it as HDR10, or as Dolby Vision profile 8.",
        )
    declared = facts.declared_duration_s
    if facts.damage and declared and facts.duration_s < declared * (1 - _LOST_AT_MOST) - 1 / max(facts.video.fps, 1):
        raise VidqueueError("media_damaged", facts.damage[0])
    return facts.video


def _has_own_colours(video: VideoFacts) -> bool:
    nothing_else = video.dolby_vision_base == 0 and video.dolby_vision in _OWN_COLOURS_AT_ZERO
    return video.dolby_vision == _OWN_COLOURS or nothing_else


def check_sound(audios: Sequence[AudioFacts], tally: Tally, input_number: int = 0) -> list[str]:
    """A sentence for each sound track of which a part could not be decoded.

    Raises:
        VidqueueError: `media_damaged`, too much of a track is missing.
    """
    warnings = []
    for place, audio in enumerate(audios, start=1):
        packets, refused = tally.others.get(f"{input_number}:{audio.index}", (0, 0))
        said = f"{refused} of {packets} packets of sound track {place} could not be decoded."
        if refused > packets * _DAMAGED_AT_MOST:
            raise VidqueueError("media_damaged", said)
        warnings += [said] if refused else []
    return warnings


def heard_s(audios: Sequence[AudioFacts], tally: Tally, input_number: int = 0) -> tuple[float, ...]:
    """How long each track is by its packets' own lengths, without those that could not be decoded, in seconds."""
    counts = [tally.others.get(f"{input_number}:{audio.index}", (0, 0)) for audio in audios]
    return tuple(
        audio.heard_s * (1 - refused / max(packets, 1))
        for audio, (packets, refused) in zip(audios, counts, strict=True)
    )


def jumps(facts: MediaFacts) -> list[str]:
    """A sentence if the packets of a file are much shorter than its clock says, and no stream fills the time between.

    Such a file is taken as it is: a camera that records only what moves makes it on purpose.
    """
    video = facts.video
    if video is None or video.longest_gap_s < _JUMP_S:
        return []
    silent_s = [one.duration_s - one.heard_s for one in facts.audios if one.heard_s]
    if not silent_s or min(silent_s) < _JUMP_S:
        return []
    return [
        f"For {min(video.longest_gap_s, *silent_s):.0f} s nothing is shown or heard; the clock of the file may jump."
    ]


def check_decoding(video: VideoFacts, tally: Tally, *, complete: bool = True, begins: bool = True) -> list[str]:
    """Compare the decoder's counts with the probe; a sentence for each kind of loss.

    Args:
        video: the track, as probed.
        tally: what ffmpeg counted.
        complete: whether the whole track was decoded; a trim decodes only part of it.
        begins: whether its beginning was decoded.

    Raises:
        VidqueueError: `media_damaged`, too much is missing.
    """
    if video.codec == "theora" and video.clock_restarts and tally.errors:
        # The decoder refuses the heads of the later files, and the times that ffmpeg makes of their pages are wrong.
        raise VidqueueError(
            "unsupported_format",
            "The file is several Ogg files in a row, and ffmpeg does not know when the later ones are shown.",
            hint="Split it into its files, and join those with the processor export.",
        )
    total = video.frames if complete else max(tally.packets, tally.decoded)
    skipped = skipped_at_start(video, tally) if complete else 0
    total -= skipped
    missing = tally.errors
    if complete and video.codec in ONE_PICTURE_A_PACKET:
        missing = max(missing, total - tally.decoded)
    if tally.decoded == 0 or missing > total * _LOST_AT_MOST:
        raise VidqueueError("media_damaged", f"{missing} of {total} pictures cannot be decoded.")
    if tally.corrupt > total * _DAMAGED_AT_MOST:
        raise VidqueueError("media_damaged", f"{tally.corrupt} of {total} pictures are visibly damaged.")
    warnings = []
    # Those before the first key picture, and those right behind it that need what was before.
    if skipped := skipped + (video.leading if begins else 0):
        warnings.append(f"The first {skipped} pictures are left out: they need others from before the file begins.")
    warnings += [f"{missing} of {total} pictures could not be decoded and are missing."] if missing else []
    if tally.corrupt:
        warnings.append(f"{tally.corrupt} of {total} pictures are visibly damaged.")
    if sizes := sorted(tally.sizes - {f"{video.width}x{video.height}"}):
        warnings.append(f"The size of the pictures changes midway to {', '.join(sizes)}; they have that of the first.")
    return warnings


def skipped_at_start(video: VideoFacts, tally: Tally) -> int:
    """How many pictures the decoder left out, without an error, because they need others from before the file."""
    left_out = max(0, video.frames - tally.decoded - tally.errors)
    return left_out if _is_refreshed(video, tally, left_out) else min(video.early, left_out)


def _is_refreshed(video: VideoFacts, tally: Tally, left_out: int) -> bool:
    """True if a video without key pictures (intra refresh) begins midway: its parts become whole one after the other.

    ffmpeg shows no picture before all parts are whole, which takes no longer than the next refresh. Whether the
    pictures are missing there, and nowhere else, is seen in the length of the result.
    """
    return (
        video.codec == "h264"
        and not tally.errors
        and not tally.corrupt
        and video.frames * _LOST_AT_MOST < left_out <= video.key_gap_s * video.fps
    )


def shown_s(video: VideoFacts, tally: Tally) -> float:
    """How long the pictures last that can be decoded, in seconds."""
    skipped = skipped_at_start(video, tally)
    early_s = video.early_s * min(1.0, skipped / video.early) if video.early else 0.0
    further_s = max(0, skipped - video.early) / video.fps if video.fps else 0.0
    return video.duration_s - early_s - further_s


def check_output(path: Path, expected: Expected, limits: Limits, canceled: threading.Event) -> MediaFacts:
    """Probe a result and compare it with what it must be.

    Raises:
        VidqueueError: `output_incomplete`, or the code of what kept the probe from reading (a kill, a full disk).
        CanceledError: `canceled` was set.
    """
    # Results are probed with all formats allowed, even if the configuration restricts those of inputs.
    limits = limits.model_copy(update={"formats": (SAFE, WIDE)})
    try:
        facts = probe(path, limits, canceled, whole=True)
    except VidqueueError as error:
        # A retryable code means that the probe could not run, so it says nothing about the result.
        if is_retryable(error.code):
            raise
        raise VidqueueError("output_incomplete", f"The result cannot be read back: {error.message}") from error
    for fault in _faults(facts, expected):
        raise VidqueueError("output_incomplete", fault)
    return facts


def _faults(facts: MediaFacts, expected: Expected) -> list[str]:
    video = facts.video
    if video is None or video.frames == 0:
        return ["The result has no pictures."]
    faults = []
    merged = expected.merges and video.frames < expected.frames
    if video.frames != expected.frames and not merged:
        faults.append(f"The result has {video.frames} pictures instead of {expected.frames}.")
    if facts.subtitles > expected.subtitles:
        faults.append(f"The result has {facts.subtitles} subtitle tracks instead of {expected.subtitles}.")
    # Matroska rounds to milliseconds.
    slack_s = max(expected.slack_s, 1 / video.fps if video.fps else 1.0) + 0.002
    # A picture that does not move any more has no length.
    if abs(video.duration_s - expected.duration_s) > slack_s and not (merged and video.frames == 1):
        faults.append(f"The result lasts {video.duration_s:.3f} s instead of {expected.duration_s:.3f} s.")
    for place, whole_s, lost_s in expected.lost_sound(facts):
        if lost_s > whole_s * _DAMAGED_AT_MOST:
            faults.append(f"Sound track {place} of the result lacks {lost_s:.2f} s of {whole_s:.2f} s.")
    if len(facts.audios) != expected.audio_streams:
        faults.append(f"The result has {len(facts.audios)} audio streams instead of {expected.audio_streams}.")
    return faults
