"""The parameters of `transcode`: their validation, and the resulting size, rate and range of the pictures."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from vidqueue.errors import VidqueueError
from vidqueue.media.containers import AnimationFormat, ContainerName, VideoCodec
from vidqueue.media.encoders import Effort, Encoder, Quality
from vidqueue.media.facts import MediaFacts, VideoFacts, end_of, late_of
from vidqueue.media.filters import even
from vidqueue.media.soundtracks import AudioMode, Channels
from vidqueue.processors.base import Parameters, VideoInput
from vidqueue.processors.parts import handbrake
from vidqueue.processors.parts.choices import (
    BLACK,
    RESOLUTIONS,
    AudioTracks,
    Background,
    EncoderWish,
    Fields,
    Metadata,
    Subtitles,
    ToneMap,
    fitting_encoder,
)

Resolution = Literal["source", "2160p", "1440p", "1080p", "720p", "540p", "480p", "360p", "240p"]
Side = Annotated[int, Field(ge=16, le=16384)]

ANIMATIONS: frozenset[str] = frozenset({"gif", "webp"})
# Parameters that exclude `codec: copy`, because they change the pictures.
_CHANGES = (
    "resolution", "width", "height", "max_width", "max_height", "fps", "max_fps", "crf", "bitrate_kbit", "max_size_mb"
)  # fmt: skip


class TranscodeParams(Parameters):
    """Parameters of `transcode`."""

    video: VideoInput
    container: Literal[ContainerName, AnimationFormat] = Field(
        "mp4", description="Kind of file to write; gif and webp are animated pictures without sound."
    )
    codec: Literal[VideoCodec, "copy"] | None = Field(
        None,
        description="Video codec; h264, or vp9 in webm, when not given. `copy` copies the pictures, if the container "
        "supports their codec.",
    )
    encoder: EncoderWish = "auto"
    quality: Quality = Field("medium", description="low, medium or high: crf 28, 23 or 18 with x264.")
    crf: int | None = Field(None, ge=0, le=63, description="Constant quality in the encoder's own scale.")
    bitrate_kbit: int | None = Field(None, ge=16, le=500_000, description="Mean kbit a second, instead of a quality.")
    max_size_mb: float | None = Field(
        None, gt=0, allow_inf_nan=False,
        description="Largest result in MB (1,000,000 bytes). What is larger at first is encoded again, at the quality "
        "that fits.",
    )  # fmt: skip
    effort: Effort = Field("medium", description="Time spent on making the file small.")
    resolution: Resolution = Field(
        "source", description="Lines of the shorter side at most, aspect kept; `upscale` enlarges smaller sources."
    )
    width: Side | None = Field(None, description="Width in pixels; height follows when not given.")
    height: Side | None = Field(None, description="Height in pixels; width follows when not given.")
    max_width: Side | None = Field(None, description="Largest width in pixels, aspect kept.")
    max_height: Side | None = Field(None, description="Largest height in pixels, aspect kept.")
    upscale: bool = Field(False, description="Allow a larger picture than the source's.")
    fps: float | None = Field(
        None, ge=0.001, le=240, description="Constant rate; the source's own times when not given."
    )
    max_fps: float | None = Field(None, ge=0.001, le=240, description="Constant rate, if the source has more pictures.")
    start_s: float = Field(0.0, ge=0, allow_inf_nan=False, description="Where to begin, in seconds.")
    end_s: float | None = Field(None, gt=0, allow_inf_nan=False, description="Where to end, in seconds.")
    audio: AudioMode = Field(
        "keep", description="`keep` copies the sound where the container can carry it, `web` where browsers play it."
    )
    audio_tracks: AudioTracks = "all"
    channels: Channels = Field("keep", description="Channels of the sound.")
    loudness: float | None = Field(
        None, ge=-40, le=-5, description="Loudness to aim at in LUFS (EBU R128), such as -16 or -23; measured first."
    )
    subtitles: Subtitles = "keep"
    metadata: Metadata = "safe"
    deinterlace: Fields = "auto"
    tone_map: ToneMap = "auto"
    alpha: Literal["keep", "blend"] = Field(
        "keep", description="`keep` keeps transparency in webm with vp9, and in webp."
    )
    background: Background = BLACK
    faststart: bool = Field(True, description="Put the index first, so that players start before they have it all.")
    handbrake: dict[str, Any] | None = Field(
        None, description="A preset as HandBrake exports it (JSON); parameters that are given beside it win."
    )

    @model_validator(mode="before")
    @classmethod
    def _with_preset(cls, given: Any) -> Any:
        if not isinstance(given, dict) or not isinstance(given.get("handbrake"), dict):
            return given
        preset = handbrake.parameters(given["handbrake"])
        if given.get("crf") is not None or given.get("bitrate_kbit") is not None:
            preset = {name: value for name, value in preset.items() if name not in ("crf", "bitrate_kbit")}
        return preset | given

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.end_s is not None and self.end_s <= self.start_s:
            raise ValueError("end_s must be larger than start_s")
        if self.resolution != "source" and (self.width or self.height):
            raise ValueError("give either resolution or width/height, not both")
        if sum(one is not None for one in (self.crf, self.bitrate_kbit)) > 1:
            raise ValueError("give either crf or bitrate_kbit, not both")
        if self.container in ANIMATIONS and (self.codec is not None or self.bitrate_kbit is not None):
            raise ValueError(f"{self.container} has neither codecs nor a bitrate to choose")
        if self.copies and (changes := [name for name in _CHANGES if getattr(self, name) not in (None, "source")]):
            raise ValueError(f"codec copy changes no pictures; leave {', '.join(changes)} out, or name a codec")
        if self.copies and self.subtitles == "burn":
            raise ValueError("codec copy changes no pictures, so nothing can be drawn into them")
        if self.container not in ANIMATIONS:
            self.fitting_encoder()
        return self

    @property
    def film(self) -> ContainerName:
        """Return the container; None for animated pictures."""
        assert self.container != "gif"
        assert self.container != "webp"
        return self.container

    @property
    def copies(self) -> bool:
        """True if the pictures should be copied."""
        return self.codec == "copy"

    @property
    def trims(self) -> bool:
        """True if only a part of the source is requested."""
        return self.start_s > 0 or self.end_s is not None

    @property
    def length_s(self) -> float | None:
        """Return how long the requested part is; None if it is all from its beginning on."""
        return None if self.end_s is None else self.end_s - self.start_s

    def fitting_encoder(self) -> Encoder:
        """Return the encoder; for `codec: copy`, the one that is used if copying is impossible."""
        return fitting_encoder(self.film, None if self.codec == "copy" else self.codec, self.encoder)

    def rate(self, video: VideoFacts) -> float | None:
        """Return the constant frame rate of the result; None to keep the source's timestamps."""
        if self.fps is None and self.max_fps is not None and video.fps > self.max_fps * 1.001:
            return self.max_fps
        return self.fps


def shown_part(params: TranscodeParams, facts: MediaFacts, video: VideoFacts) -> tuple[float, float]:
    """Return the range of the requested part, in seconds from the beginning of the file.

    Raises:
        VidqueueError: `trim_out_of_range`.
    """
    first_s, last_s = late_of(facts, video), end_of(facts, video)
    begin_s, end_s = max(params.start_s, first_s), last_s if params.end_s is None else min(params.end_s, last_s)
    # People read durations rounded, so an end a little late is the end.
    slack_s = max(video.longest_frame_s, 0.1)
    if begin_s >= end_s or (params.end_s or 0.0) > last_s + slack_s:
        wanted = f"{params.start_s:g} to {'the end' if params.end_s is None else f'{params.end_s:g}'}"
        raise VidqueueError(
            "trim_out_of_range",
            f"The trim is {wanted} s, but the video lasts from {first_s:.3f} to {last_s:.3f} s."
            if first_s
            else f"The trim is {wanted} s, but the video lasts {last_s:.3f} s.",
        )
    return begin_s, end_s


def target_size(params: TranscodeParams, size: tuple[int, int]) -> tuple[int, int]:
    """Return width and height of the result in pixels, even; never larger than the source without `upscale`.

    Args:
        params: the parameters of the job.
        size: the size of the source, upright.
    """
    width, height = size
    scale = _scale(params, width, height)
    if not params.upscale:
        scale = (min(scale[0], 1.0), min(scale[1], 1.0))
    bounds = (params.max_width or width * scale[0]) / width, (params.max_height or height * scale[1]) / height
    # Both sides shrink by the same factor.
    fit = min(1.0, bounds[0] / scale[0], bounds[1] / scale[1])
    scale = (scale[0] * fit, scale[1] * fit)
    if scale == (1.0, 1.0):
        return even((width, height))
    return _nearest_even(width * scale[0]), _nearest_even(height * scale[1])


def kept_size(params: TranscodeParams, size: tuple[int, int]) -> tuple[str, bool]:
    """Return what to say if a requested size is above the source's and not used, and whether that is a warning.

    A width or a height is a wish for just that size. A resolution is a limit, as for a folder of videos of every size.
    """
    if params.copies or params.upscale or max(_scale(params, *size)) <= 1.0:
        return "", False
    is_limit = params.resolution != "source"
    wished = params.resolution if is_limit else f"{params.width or '?'}x{params.height or '?'}"
    said = f"The source is {size[0]}x{size[1]} and is not enlarged to {wished}; `upscale` would enlarge it."
    return said, not is_limit


def _scale(params: TranscodeParams, width: int, height: int) -> tuple[float, float]:
    if params.resolution != "source":
        # 1080p of a phone's upright clip means 1080 wide.
        factor = RESOLUTIONS[params.resolution] / min(width, height)
        return factor, factor
    across = params.width / width if params.width else None
    down = params.height / height if params.height else None
    return across or down or 1.0, down or across or 1.0


def _nearest_even(pixels: float) -> int:
    return max(2, round(pixels / 2) * 2)
