"""Parameters that every processor with a video output shares, and the rule that they fit together."""

from __future__ import annotations

from vidqueue.media.containers import CONTAINERS, ContainerName, VideoCodec
from vidqueue.media.encoders import ENCODERS, Encoder, EncoderChoice, encoder_named


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
