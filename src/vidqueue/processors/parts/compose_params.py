"""The parameters of `compose`: what is said and shown, and how the films look."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, ValidationInfo, model_validator

from vidqueue.media.encoders import Effort, Quality
from vidqueue.processors.base import AudioInput, MediaInput, Parameters, settings_of
from vidqueue.processors.parts.export_params import SubtitleStyle, Volume
from vidqueue.processors.parts.film_settings import ComposeSettings

Aspect = Literal["9:16", "16:9", "1:1"]
SIZES: dict[Aspect, tuple[int, int]] = {"9:16": (1080, 1920), "16:9": (1920, 1080), "1:1": (1080, 1080)}


class ComposeParams(Parameters):
    """Parameters of `compose`."""

    script: str = Field("", max_length=20_000, description="What is said; the subtitles are made of it.")
    audio: AudioInput | None = Field(None, description="The recorded narration; spoken from the script if not given.")
    materials: list[MediaInput] = Field([], max_length=200, description="Videos and pictures to show.")
    aspect: Aspect = Field("9:16", description="1080x1920, 1920x1080 or 1080x1080.")
    clip_s: float = Field(5.0, ge=0.5, le=60, description="How long one part of a material is shown at most.")
    order: Literal["random", "sequential"] = Field("random", description="Order of the parts.")
    transition: Literal["cut", "fade", "crossfade"] = Field("cut", description="How each part begins.")
    fit: Literal["contain", "cover"] = Field("contain", description="`contain` adds bars, `cover` crops.")
    count: int = Field(1, ge=1, le=10, description="How many films, each in an order of its own.")
    music: AudioInput | None = Field(None, description="Music under the narration.")
    music_volume: Volume = Field(0.2, description="Factor of its loudness.")
    voice_volume: Volume = Field(1.0, description="Factor of the narration's loudness.")
    subtitles: bool = Field(True, description="Draw the script into the pictures, in time with the narration.")
    subtitle_style: SubtitleStyle = SubtitleStyle()
    seed: int | None = Field(
        None, ge=0, lt=2**31, description="Of the order; drawn if not given, and told in the facts."
    )
    subject: str = Field("", max_length=500, description="What the script is about, where the daemon has it written.")
    voice: str = Field(
        "", max_length=200, pattern=r"^[^\x00-\x1f]*$", description="Name of a voice for the program that speaks."
    )
    voice_rate: Annotated[float, Field(ge=0.25, le=4, description="How fast it speaks.")] = 1.0
    quality: Quality = Field("medium", description="low, medium or high: crf 28, 23 or 18 with x264.")
    effort: Effort = Field("medium", description="Time spent on making the files small.")
    stop_at: Literal["film", "audio", "subtitle"] = Field(
        "film", description="What to make: the film, only the narration, or the narration and its subtitles."
    )

    @model_validator(mode="after")
    def _has_something_to_show(self) -> Self:
        if self.stop_at == "film" and not self.materials:
            raise ValueError("at least one video or picture is required (materials)")
        return self

    @model_validator(mode="after")
    def _has_something_to_say(self, info: ValidationInfo) -> Self:
        if not (self.audio or self.script.strip() or self.subject.strip()):
            raise ValueError("give a narration (audio), a script, or a subject to have one written")
        config = settings_of(info, ComposeSettings)
        if config is None:
            return self
        if not self.audio and not config.speech_command:
            raise ValueError(
                "give a narration (audio): this daemon has no program that speaks (compose.speech_command)"
            )
        if not self.audio and not self.script.strip() and not config.script_url:
            raise ValueError("give a script: this daemon has no service that writes one (compose.script_url)")
        return self
