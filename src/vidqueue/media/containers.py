"""Output containers: the codecs that each may hold, and what else a result takes over. No IO."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vidqueue.media.facts import MediaFacts

ContainerName = Literal["mp4", "mov", "mkv", "webm"]
AnimationFormat = Literal["webp", "gif"]
VideoCodec = Literal["h264", "h265", "av1", "vp9"]


@dataclass(frozen=True, slots=True)
class Container:
    """A container format that vidqueue writes.

    Attributes:
        muxer: ffmpeg's name.
        video: codecs it may hold, the usual one first.
        audio: audio codecs that players expect in it; others are encoded anew.
        copies: video codecs that it takes over as they are, by ffmpeg's names.
        audio_encoder: the encoder for those.
    """

    name: ContainerName
    muxer: str
    media_type: str
    video: tuple[VideoCodec, ...]
    audio: frozenset[str]
    audio_encoder: str
    copies: frozenset[str]
    has_faststart: bool = False

    @property
    def filename(self) -> str:
        """The name of an output in this container."""
        return f"output.{self.name}"


@dataclass(frozen=True, slots=True)
class Extras:
    """The ffmpeg arguments for everything beside pictures and sound, and a sentence for each loss.

    Attributes:
        flags: further flags of the muxers of MP4 and MOV.
        subtitles: how many tracks are kept.
    """

    arguments: tuple[str, ...] = ("-map_metadata", "-1", "-map_chapters", "-1", "-dn", "-sn")
    flags: str = ""
    warnings: tuple[str, ...] = ()
    subtitles: int = 0


NO_EXTRAS = Extras()


_PCM = frozenset({"pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be", "pcm_s32le", "pcm_s32be"})
_COMMON = frozenset({"aac", "mp3", "ac3", "eac3", "alac"})
_BROADCAST = frozenset({"h264", "hevc", "mpeg4", "mpeg2video", "mpeg1video"})

CONTAINERS: dict[ContainerName, Container] = {
    "mp4": Container(
        "mp4",
        "mp4",
        "video/mp4",
        ("h264", "h265", "av1", "vp9"),
        _COMMON | {"opus", "flac"},
        "aac",
        copies=_BROADCAST | {"av1", "vp9"},
        has_faststart=True,
    ),
    "mov": Container(
        "mov",
        "mov",
        "video/quicktime",
        ("h264", "h265"),
        _COMMON | _PCM,
        "aac",
        copies=_BROADCAST | {"prores", "dnxhd", "mjpeg", "png", "dvvideo"},
        has_faststart=True,
    ),
    "mkv": Container(
        "mkv",
        "matroska",
        "video/x-matroska",
        ("h264", "h265", "av1", "vp9"),
        _COMMON | _PCM | {"opus", "flac", "vorbis", "mp2", "dts", "pcm_f32le", "pcm_u8"},
        "libopus",
        copies=_BROADCAST | {"av1", "vp8", "vp9", "theora", "prores", "ffv1", "mjpeg", "png", "huffyuv", "dvvideo"},
    ),
    "webm": Container(
        "webm",
        "webm",
        "video/webm",
        ("vp9", "av1"),
        frozenset({"opus", "vorbis"}),
        "libopus",
        copies=frozenset({"vp8", "vp9", "av1"}),
    ),
}


def carrying_untouched(facts: MediaFacts) -> Container:
    """The first container, in the order mp4, mov, mkv, that carries all of the source's audio as it is."""
    needed = {audio.codec for audio in facts.audios}
    return next((CONTAINERS[name] for name in ("mp4", "mov") if needed <= CONTAINERS[name].audio), CONTAINERS["mkv"])
