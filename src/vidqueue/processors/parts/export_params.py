"""The parameters of `export`: the list of clips, with the sound and the subtitles over them."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from vidqueue.media.containers import ContainerName
from vidqueue.media.encoders import Effort, Quality
from vidqueue.processors.base import AudioInput, MediaInput, Parameters
from vidqueue.processors.media import Kind

Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Pixels = Annotated[int, Field(ge=16, le=16384, multiple_of=2)]
Volume = Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)]
COLOUR = r"^#[0-9a-fA-F]{6}$"
LONGEST_TRANSITION_S = 30


class Clip(Parameters):
    """A part of a video, a still, or a title card."""

    media: MediaInput | None = None
    text: str | None = Field(
        None,
        min_length=1,
        max_length=500,
        description="A title card with this text on the background, instead of media.",
    )
    start_s: Seconds = Field(0.0, description="Where to begin in a video, in seconds.")
    end_s: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="Where to end in a video; its end if not given."
    )
    duration_s: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="How long a still is shown, 3 s if not given; not for a video."
    )
    fit: Literal["contain", "cover"] = Field(
        "contain", description="`contain` adds bars, `cover` crops; nothing is stretched."
    )
    volume: Volume = Field(1.0, description="Factor of its sound; 0 is silent.")
    transition: Literal["cut", "fade", "crossfade"] = Field(
        "cut", description="How it begins: at once, through black, or over the end of the clip before it."
    )
    transition_s: float = Field(0.5, gt=0, le=LONGEST_TRANSITION_S, description="How long a fade or crossfade takes.")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.media is None) == (self.text is None):
            raise ValueError("give either media or text, the words of a title card")
        if self.text is not None and (self.start_s or self.end_s is not None):
            raise ValueError("a title card has duration_s, not start_s and end_s")
        if self.end_s is not None and self.end_s <= self.start_s:
            raise ValueError("end_s must be larger than start_s")
        if self.duration_s is not None and (self.start_s or self.end_s is not None):
            raise ValueError("start_s and end_s are for videos, duration_s is for stills: give one kind only")
        return self

    @property
    def kind(self) -> Kind:
        """What its media must be, as its times say it."""
        if self.duration_s is not None:
            return "image"
        return "video" if self.start_s or self.end_s is not None else "visual"


class Music(Parameters):
    """Music under the whole film."""

    media: AudioInput
    volume: Volume = Field(0.2, description="Factor of its loudness.")
    loop: bool = Field(True, description="Begin again where it is shorter than the film.")
    duck: bool = Field(
        True, description="Go down by 12 dB under the voices; without any, under the sound of the clips."
    )
    fade_out_s: float = Field(1.0, ge=0, le=60, description="Over how many seconds it fades out at the end.")


class Voice(Parameters):
    """A recorded voice over the film."""

    media: AudioInput
    start_s: Seconds = Field(0.0, description="When it begins in the film, in seconds.")
    volume: Volume = Field(1.0, description="Factor of its loudness.")


class SubtitleStyle(Parameters):
    """How subtitles look that are drawn into the pictures."""

    size: float | None = Field(
        None, gt=0, le=0.5, description="Height of a line as a share of the film's shorter side."
    )
    colour: str = Field("#ffffff", pattern=COLOUR)
    outline_colour: str = Field("#000000", pattern=COLOUR)
    outline: float | None = Field(None, ge=0, le=1, description="Width of the outline as a share of the size.")
    position: Literal["bottom", "middle", "top"] = "bottom"
    margin: float = Field(0.05, ge=0, le=0.9, description="Distance to the edge as a share of the film's height.")
    box: bool = Field(False, description="A box in the colour of the outline behind the text.")


class ExportParams(Parameters):
    """Parameters of `export`."""

    clips: list[Clip] = Field(min_length=1, max_length=500, description="The clips and stills in their order.")
    width: Pixels | None = Field(None, description="Width in pixels, even; the first clip's if neither is given.")
    height: Pixels | None = Field(None, description="Height in pixels, even; follows the width if not given.")
    fps: float | None = Field(
        None, ge=1, le=240, description="Pictures a second; the first video's mean rate if not given."
    )
    container: ContainerName = Field("mp4", description="Kind of file to write.")
    quality: Quality = Field("medium", description="low, medium or high: crf 28, 23 or 18 with x264.")
    effort: Effort = Field("medium", description="Time spent on making the file small.")
    background: str = Field("#000000", pattern=COLOUR, description="Colour of bars and behind transparent parts.")
    music: Music | None = Field(None, description="Music under the film: looped, lower under voices, faded out.")
    voice: list[Voice] = Field([], max_length=100, description="Voices over the film, each from a moment on.")
    subtitles: MediaInput | None = Field(None, description="Subtitles as SRT or WebVTT.")
    subtitle_mode: Literal["burn", "mux"] = Field(
        "burn", description="`burn` draws them into the pictures, `mux` adds a track that a player can show."
    )
    subtitle_style: SubtitleStyle = SubtitleStyle()

    @model_validator(mode="after")
    def _begins_with_itself(self) -> Self:
        if self.clips[0].transition == "crossfade":
            raise ValueError("clips/0 has no clip before it to crossfade from; use `cut`, or `fade` for black")
        return self
