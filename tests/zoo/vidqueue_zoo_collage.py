"""A processor from outside whose inputs stand in lists, in nested models and in an object with a schema of its own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from pydantic import Field

from vidqueue.job import OutputDraft
from vidqueue.processors.base import (
    AudioInput,
    Context,
    ImageInput,
    MediaField,
    MediaInput,
    Parameters,
    Processor,
    VideoInput,
)
from vidqueue.processors.media import FOREIGN_FORMATS, media_in, media_of

FOREIGN = {
    "$defs": {"Input": {"type": "object", "properties": {
        "image": {"type": "string", "format": "uri"},
        "frames": {"type": "array", "items": {"anyOf": [{"type": "string", "format": "uri"}, {"type": "null"}]}},
        "prompt": {"type": "string"},
    }}},
    "$ref": "#/$defs/Input",
}  # fmt: skip


class Clip(Parameters):
    """One clip."""

    kind: Literal["clip"] = "clip"
    media: MediaInput
    text: str = ""


class Card(Parameters):
    """A title card: its `media` is no media."""

    kind: Literal["card"]
    media: str


class Music(Parameters):
    """Music below everything."""

    media: AudioInput
    volume: float = 0.2


class Collage(Processor):
    """Writes which inputs came where."""

    name = "collage"

    class Params(Parameters):
        """What to put together."""

        clips: list[Clip | Card] = Field(default_factory=list)
        music: Music | None = None
        poster: ImageInput | Literal["none"] | None = None
        layers: dict[str, VideoInput] = Field(default_factory=dict)
        pair: tuple[VideoInput, ImageInput] | None = None
        foreign: dict[str, Any] = Field(default_factory=dict)

    def media(self, params: Any) -> Iterable[MediaField]:
        """Those of the parameters, and those in the foreign object."""
        yield from media_of(params)
        yield from media_in(FOREIGN, params.foreign, at=("foreign",), formats=FOREIGN_FORMATS)

    def run(self, params: Any, ctx: Context) -> list[OutputDraft]:
        """Write each place with the name and the size of its file."""
        path = ctx.output_path("result.txt")
        lines = [f"{place} {file.suffix} {file.stat().st_size}\n" for place, file in sorted(ctx.inputs.items())]
        path.write_text("".join(lines))
        return [OutputDraft("text", path, "text/plain")]
