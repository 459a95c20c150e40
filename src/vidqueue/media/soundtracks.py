"""Choosing the sound tracks of a result, and planning which are copied and which are encoded anew. No IO."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from vidqueue.errors import VidqueueError
from vidqueue.media.channels import OPUS, fitting_layout, flac_holds, same_places, survives_copy
from vidqueue.media.containers import Container
from vidqueue.media.facts import AudioFacts, MediaFacts

AudioMode = Literal["keep", "web", "reencode", "drop"]
Channels = Literal["keep", "stereo", "mono"]

# Kbit/s for each channel layout; anything larger gets the highest.
_KBIT = {"mono": 96, "stereo": 160}
_KBIT_SURROUND = 384
# What browsers play in the containers that they open.
_WEB = frozenset({"aac", "mp3", "opus", "vorbis"})
_WEB_MP4 = frozenset({"aac", "mp3"})
_SLOWEST_MP3 = 16_000


@dataclass(frozen=True, slots=True)
class AudioPlan:
    """The ffmpeg arguments for all audio streams, a sentence for each one that is not copied, and losses."""

    arguments: tuple[str, ...]
    notes: tuple[str, ...]
    streams: int
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SoundWishes:
    """How the sound shall be: whether it is copied, its channels, and filters for tracks by their index.

    `changing` has the indices of tracks that a copy would not keep, because their channels or rate change midway.
    `first` is the filter before all others.
    """

    mode: AudioMode = "keep"
    channels: Channels = "keep"
    filters: Mapping[int, str] = field(default_factory=dict)
    changing: frozenset[int] = frozenset()
    first: str = ""

    def copies(self, audio: AudioFacts, container: Container) -> bool:
        """True if the track can be taken over as it is."""
        fits = audio.codec in container.audio
        if self.mode == "web":
            fits = fits and audio.codec in (_WEB_MP4 if container.has_faststart else _WEB)
        # The slowest rates of MP3 are in no standard of MP4, and ffmpeg refuses them.
        fits = fits and not (audio.codec == "mp3" and container.name == "mp4" and audio.sample_rate < _SLOWEST_MP3)
        fits = fits and survives_copy(audio.codec, container.name, audio.channel_layout or "")
        changes = (
            audio.index in self.filters
            or audio.index in self.changing
            or self.channels not in ("keep", audio.channel_layout)
        )
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
    warnings: list[str] = []
    for place, audio in enumerate(facts.audios):
        arguments += ["-map", f"{input_number}:{audio.index}", *_marks(place, audio, facts.audios)]
        if wishes.copies(audio, container):
            arguments += [f"-c:a:{place}", "copy"]
            continue
        encoder = _encoder(audio, container, wishes)
        layout = _layout(audio, encoder, wishes)
        arguments += _encode(place, audio, encoder, layout, wishes)
        had = audio.channel_layout or ""
        if wishes.channels == "keep" and layout and not same_places(had, layout):
            warnings.append(f"Sound track {place + 1} has the channels {had}, which became {layout} in {encoder}.")
        if audio.index in wishes.changing:
            notes.append(
                f"Sound track {place + 1} was encoded anew with {encoder}: its channels, rate or clock change midway, "
                "or an edit list cuts it."
            )
        if wishes.mode == "keep" and audio.codec not in container.audio:
            notes.append(f"{container.name} does not carry {audio.codec} audio; it was encoded anew with {encoder}.")
    return AudioPlan(tuple(arguments), tuple(notes), len(facts.audios), tuple(warnings))


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


def _encoder(audio: AudioFacts, container: Container, wishes: SoundWishes) -> str:
    # Browsers and phones know Opus in MP4 or Matroska less well than AAC.
    if wishes.mode == "web" and container.name != "webm":
        return "aac"
    if wishes.mode == "keep" and wishes.channels == "keep" and audio.index not in wishes.filters:
        # What is not copied for the places of its channels only needs to lose nothing else.
        lossless = audio.codec.startswith("pcm_") and audio.codec in container.audio and "flac" in container.audio
        if lossless and flac_holds(audio.channel_layout or ""):
            return "flac"
    return container.audio_encoder


def _layout(audio: AudioFacts, encoder: str, wishes: SoundWishes) -> str:
    """The channel layout that the encoder gets; empty where the source does not say its own."""
    if wishes.channels != "keep":
        return wishes.channels
    had = audio.channel_layout or ""
    return fitting_layout(encoder, had) if had else ""


def _encode(place: int, audio: AudioFacts, encoder: str, layout: str, wishes: SoundWishes) -> list[str]:
    kbit = _KBIT.get(layout, _KBIT_SURROUND)
    arguments = [f"-c:a:{place}", encoder, f"-b:a:{place}", f"{kbit}k"]
    steps = [step for step in (wishes.first, wishes.filters.get(audio.index)) if step]
    if encoder == "libopus":
        steps.append(f"aformat=channel_layouts={layout or '|'.join(OPUS)}")
        # Opus knows five rates only, and surround sound only in one of its mappings.
        mapping = "0" if kbit < _KBIT_SURROUND else "1"
        arguments += [f"-ar:a:{place}", "48000", f"-mapping_family:a:{place}", mapping]
    elif layout:
        # Also where it is that of the source: broadcasts may begin with fewer channels than ffmpeg says of the track.
        steps.append(f"aformat=channel_layouts={layout}")
    return [*arguments, *([f"-filter:a:{place}", ",".join(steps)] if steps else [])]
