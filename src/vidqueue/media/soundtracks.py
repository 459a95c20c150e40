"""Choosing the sound tracks of a result, and planning which are copied and which are encoded anew. No IO."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from vidqueue.errors import VidqueueError
from vidqueue.media.containers import Container
from vidqueue.media.facts import AudioFacts, MediaFacts

AudioMode = Literal["keep", "web", "reencode", "drop"]
Channels = Literal["keep", "stereo", "mono"]

# Kbit/s for each channel layout; anything larger gets the highest.
_KBIT = {"mono": 96, "stereo": 160}
_KBIT_SURROUND = 384
# What Opus has names for; AC-3 and DTS have their surround channels at the side, which it has not.
_OPUS_LAYOUTS = "mono|stereo|3.0|quad|5.0|5.1|6.1|7.1"
# What browsers play in the containers that they open.
_WEB = frozenset({"aac", "mp3", "opus", "vorbis"})
_WEB_MP4 = frozenset({"aac", "mp3"})


@dataclass(frozen=True, slots=True)
class AudioPlan:
    """The ffmpeg arguments for all audio streams, and a sentence for the log for each one that is not copied."""

    arguments: tuple[str, ...]
    notes: tuple[str, ...]
    streams: int


@dataclass(frozen=True, slots=True)
class SoundWishes:
    """How the sound shall be: whether it is copied, its channels, and filters for tracks by their index."""

    mode: AudioMode = "keep"
    channels: Channels = "keep"
    filters: Mapping[int, str] = field(default_factory=dict)

    def copies(self, audio: AudioFacts, container: Container) -> bool:
        """True if the track can be taken over as it is."""
        fits = audio.codec in container.audio
        if self.mode == "web":
            fits = fits and audio.codec in (_WEB_MP4 if container.has_faststart else _WEB)
        changes = audio.index in self.filters or self.channels not in ("keep", audio.channel_layout)
        return fits and not changes and self.mode != "reencode"


def with_tracks(facts: MediaFacts, wanted: str) -> MediaFacts:
    """The facts with only those sound tracks that are wanted.

    Args:
        facts: of the source.
        wanted: `all`, `none`, `first` (the one that a player chooses), or languages such as `eng,ger`.

    Raises:
        VidqueueError: `no_audio_stream`, no track is in one of the languages.
    """
    if wanted == "all":
        return facts
    if wanted == "none":
        chosen: tuple[AudioFacts, ...] = ()
    elif wanted == "first":
        chosen = tuple(filter(None, [facts.audio]))
    else:
        languages = wanted.split(",")
        chosen = tuple(one for one in facts.audios if one.language in languages)
        if facts.audios and not chosen:
            known = ", ".join(one.language or "not said" for one in facts.audios)
            raise VidqueueError("no_audio_stream", f"No sound track is in {wanted}; the languages are: {known}.")
    return facts.model_copy(update={"audios": chosen, "audio": chosen[0] if chosen else None})


def plan_audio(
    facts: MediaFacts, container: Container, wishes: SoundWishes = SoundWishes(), *, input_number: int = 0
) -> AudioPlan:
    """Map every audio stream into the container; streams are copied where the wishes and the container allow it.

    Raises:
        VidqueueError: `unsupported_codec`, the file has sound, and none of it can be read.
    """
    if wishes.mode == "drop":
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
        if wishes.copies(audio, container):
            arguments += [f"-c:a:{place}", "copy"]
            continue
        arguments += _encode(place, audio, container, wishes)
        if wishes.mode == "keep" and audio.codec not in container.audio:
            notes.append(
                f"{container.name} does not carry {audio.codec} audio; "
                f"it was encoded anew with {container.audio_encoder}."
            )
    return AudioPlan(tuple(arguments), tuple(notes), len(facts.audios))


def _marks(place: int, audio: AudioFacts, tracks: tuple[AudioFacts, ...]) -> list[str]:
    """What tells tracks apart for a player: language, and which one is played unless another is chosen."""
    language = [f"-metadata:s:a:{place}", f"language={audio.language}"] if audio.language else []
    # With a sign, so that other marks of the track (commentary, for the hard of hearing) stay.
    default = (
        [f"-disposition:a:{place}", "+default" if audio.default else "-default"]
        if len(tracks) > 1 and any(one.default for one in tracks)
        else []
    )
    return language + default


def _encode(place: int, audio: AudioFacts, container: Container, wishes: SoundWishes) -> list[str]:
    layout = audio.channel_layout or "" if wishes.channels == "keep" else wishes.channels
    kbit = _KBIT.get(layout, _KBIT_SURROUND)
    # Browsers and phones know Opus in MP4 or Matroska less well than AAC.
    encoder = "aac" if wishes.mode == "web" and container.name != "webm" else container.audio_encoder
    arguments = [f"-c:a:{place}", encoder, f"-b:a:{place}", f"{kbit}k"]
    steps = [wishes.filters[audio.index]] if audio.index in wishes.filters else []
    if wishes.channels != "keep":
        steps.append(f"aformat=channel_layouts={wishes.channels}")
    elif encoder == "libopus":
        steps.append(f"aformat=channel_layouts={_OPUS_LAYOUTS}")
    if encoder == "libopus":
        # Opus knows five rates only, and surround sound only in one of its mappings.
        mapping = "0" if kbit < _KBIT_SURROUND else "1"
        arguments += [f"-ar:a:{place}", "48000", f"-mapping_family:a:{place}", mapping]
    return [*arguments, *([f"-filter:a:{place}", ",".join(steps)] if steps else [])]
