"""Output containers: the codecs that each may hold, and how audio that it cannot hold is encoded. No IO."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vidqueue.errors import VidqueueError
from vidqueue.media.facts import AudioFacts, MediaFacts

ContainerName = Literal["mp4", "mov", "mkv", "webm"]
VideoCodec = Literal["h264", "h265", "av1", "vp9"]
AudioMode = Literal["keep", "drop", "reencode"]


@dataclass(frozen=True, slots=True)
class Container:
    """A container format that vidqueue writes.

    Attributes:
        muxer: ffmpeg's name.
        video: codecs it may hold, the usual one first.
        audio: audio codecs that players expect in it; others are encoded anew.
        audio_encoder: the encoder for those.
    """

    name: ContainerName
    muxer: str
    media_type: str
    video: tuple[VideoCodec, ...]
    audio: frozenset[str]
    audio_encoder: str
    has_faststart: bool = False

    @property
    def filename(self) -> str:
        """The name of an output in this container."""
        return f"output.{self.name}"


_PCM = frozenset({"pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be", "pcm_s32le", "pcm_s32be"})
_COMMON = frozenset({"aac", "mp3", "ac3", "eac3", "alac"})

CONTAINERS: dict[ContainerName, Container] = {
    "mp4": Container(
        "mp4", "mp4", "video/mp4", ("h264", "h265", "av1", "vp9"), _COMMON | {"opus", "flac"}, "aac", has_faststart=True
    ),
    "mov": Container("mov", "mov", "video/quicktime", ("h264", "h265"), _COMMON | _PCM, "aac", has_faststart=True),
    "mkv": Container(
        "mkv",
        "matroska",
        "video/x-matroska",
        ("h264", "h265", "av1", "vp9"),
        _COMMON | _PCM | {"opus", "flac", "vorbis", "mp2", "dts", "pcm_f32le", "pcm_u8"},
        "libopus",
    ),
    "webm": Container("webm", "webm", "video/webm", ("vp9", "av1"), frozenset({"opus", "vorbis"}), "libopus"),
}

# Kbit/s for each channel layout; anything larger gets the highest.
_AUDIO_KBIT = {"mono": 96, "stereo": 160}
_AUDIO_KBIT_SURROUND = 384
# What Opus has names for; AC-3 and DTS have their surround channels at the side, which it has not.
_OPUS_LAYOUTS = "mono|stereo|3.0|quad|5.0|5.1|6.1|7.1"


@dataclass(frozen=True, slots=True)
class AudioPlan:
    """The ffmpeg arguments for all audio streams, and a sentence for the log for each one that is not copied."""

    arguments: tuple[str, ...]
    notes: tuple[str, ...]
    streams: int


def plan_audio(facts: MediaFacts, container: Container, mode: AudioMode, *, input_number: int = 0) -> AudioPlan:
    """Map every audio stream into the container; streams are copied where `mode` and the container allow it.

    Raises:
        VidqueueError: `unsupported_codec`, the file has sound, and none of it can be read.
    """
    if mode == "drop":
        return AudioPlan(("-an",), (), 0)
    if not facts.audios and facts.unread_audio:
        raise VidqueueError(
            "unsupported_codec",
            f"The audio codec {facts.unread_audio[0]} is not accepted.",
            hint="Drop the sound (`audio: drop`), or convert it first.",
        )
    arguments: list[str] = []
    notes: list[str] = []
    for place, audio in enumerate(facts.audios):
        arguments += ["-map", f"{input_number}:{audio.index}", *_marks(place, audio, facts.audios)]
        if mode == "keep" and audio.codec in container.audio:
            arguments += [f"-c:a:{place}", "copy"]
        else:
            arguments += _encode(place, audio, container)
            if mode == "keep":
                notes.append(
                    f"{container.name} does not carry {audio.codec} audio; "
                    f"it was encoded anew with {container.audio_encoder}."
                )
    return AudioPlan(tuple(arguments), tuple(notes), len(facts.audios))


def _marks(place: int, audio: AudioFacts, tracks: tuple[AudioFacts, ...]) -> list[str]:
    """What tells tracks apart for a player: language, and which one is played unless another is chosen."""
    language = [f"-metadata:s:a:{place}", f"language={audio.language}"] if audio.language else []
    default = (
        [f"-disposition:a:{place}", "default" if audio.default else "0"]
        if len(tracks) > 1 and any(one.default for one in tracks)
        else []
    )
    return language + default


def _encode(place: int, audio: AudioFacts, container: Container) -> list[str]:
    kbit = _AUDIO_KBIT.get(audio.channel_layout or "", _AUDIO_KBIT_SURROUND)
    arguments = [f"-c:a:{place}", container.audio_encoder, f"-b:a:{place}", f"{kbit}k"]
    if container.audio_encoder == "libopus":
        # Opus knows five rates only, and surround sound only in one of its mappings.
        arguments += [
            f"-ar:a:{place}",
            "48000",
            f"-mapping_family:a:{place}",
            "0" if kbit < _AUDIO_KBIT_SURROUND else "1",
            f"-filter:a:{place}",
            f"aformat=channel_layouts={_OPUS_LAYOUTS}",
        ]
    return arguments


def carrying_untouched(facts: MediaFacts) -> Container:
    """The first container, in the order mp4, mov, mkv, that carries all of the source's audio as it is."""
    needed = {audio.codec for audio in facts.audios}
    return next((CONTAINERS[name] for name in ("mp4", "mov") if needed <= CONTAINERS[name].audio), CONTAINERS["mkv"])
