"""The formats in which sound alone is published: their muxers, encoders, and the codecs that they carry. No IO."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

AudioFormat = Literal["m4a", "mp3", "wav", "opus", "flac"]


@dataclass(frozen=True, slots=True)
class SoundKind:
    """A format of sound: its muxer, the encoder, the codecs that it carries as they are, and the rates it knows."""

    muxer: str
    media_type: str
    encoder: str
    carries: frozenset[str]
    rates: tuple[int, ...] = ()
    lossy: bool = True


SOUND_KINDS: dict[AudioFormat, SoundKind] = {
    "m4a": SoundKind("mp4", "audio/mp4", "aac", frozenset({"aac", "alac"})),
    "mp3": SoundKind(
        "mp3", "audio/mpeg", "libmp3lame", frozenset({"mp3"}),
        rates=(8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000),
    ),
    "wav": SoundKind(
        "wav", "audio/wav", "pcm_s16le", frozenset({"pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_f32le", "pcm_u8"}),
        lossy=False,
    ),
    "opus": SoundKind("opus", "audio/ogg", "libopus", frozenset({"opus"}), rates=(48000,)),
    "flac": SoundKind("flac", "audio/flac", "flac", frozenset({"flac"}), lossy=False),
}  # fmt: skip
