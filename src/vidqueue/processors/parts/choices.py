"""Parameters that every processor with a video output shares, and the rule that they fit together."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from vidqueue.media.carry import MetadataMode, SubtitleMode
from vidqueue.media.containers import CONTAINERS, ContainerName, VideoCodec
from vidqueue.media.encoders import ENCODERS, Encoder, EncoderChoice, encoder_named
from vidqueue.media.filters import Deinterlace, Treatment

AudioTracks = Annotated[
    str,
    Field(
        pattern="^(all|first|[a-z]{3}(,[a-z]{3}){0,15})$",
        description="`all`, `first` (the one that players choose), or languages in the file, such as `eng,ger`.",
    ),
]
Subtitles = Annotated[
    SubtitleMode,
    Field(
        description="`keep` converts text to what the container holds, pictures of text stay in mkv only; `burn` draws "
        "the default track into the pictures and keeps the others."
    ),
]
Metadata = Annotated[
    MetadataMode,
    Field(description="`safe` keeps titles, names, dates and the time of recording, and never a place or a device."),
]
Fields = Annotated[Deinterlace, Field(description="`auto` deinterlaces where the file says that it is interlaced.")]
ToneMap = Annotated[
    Literal["auto", "off"], Field(description="`auto` makes BT.709 of HDR where the result has 8 bits.")
]
Background = Annotated[
    str, Field(pattern="^#?[0-9a-fA-F]{6}$", description="Colour behind transparent parts, such as `#ffffff`.")
]
EncoderWish = Annotated[
    EncoderChoice,
    Field(
        description="`auto` uses the encoder of the lane's GPU where a trial proves it about as good as the one on the "
        "CPU, and else the CPU; `software` uses the CPU, `nvenc` a GPU lane."
    ),
]
BLACK = "#000000"


def treatment(deinterlace: Deinterlace, tone_map: str, background: str, *, keeps_alpha: bool = False) -> Treatment:
    """What is done to pictures, from the values of these parameters."""
    return Treatment(deinterlace, tone_map == "auto", background.lstrip("#").lower(), keeps_alpha)


def fitting_encoder(container: ContainerName, codec: VideoCodec | None, choice: EncoderChoice) -> Encoder:
    """The encoder for a container, a codec (None for the usual one) and a wish; checked without touching a file.

    Raises:
        ValueError: the three do not go together; pydantic turns it into `invalid_params`.
    """
    allowed = CONTAINERS[container].video
    named = ENCODERS.get(choice)
    wanted = codec or (named.codec if named else allowed[0])
    if wanted not in allowed:
        raise ValueError(f"{container} does not hold {wanted}; choose {' or '.join(allowed)}, or another container")
    encoder = encoder_named(choice, wanted)
    if encoder is None:
        raise ValueError(f"encoder {choice!r} does not make {wanted}")
    return encoder


RESOLUTIONS: dict[str, int] = {
    "2160p": 2160, "1440p": 1440, "1080p": 1080, "720p": 720, "540p": 540, "480p": 480, "360p": 360, "240p": 240,
}  # fmt: skip
