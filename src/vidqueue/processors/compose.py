"""Compose: short films from a script or a narration and local materials, in the shapes that people publish."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from pydantic import BaseModel

from vidqueue.job import OutputDraft
from vidqueue.processors.base import Context, Parameters, Processor
from vidqueue.processors.media import MediaField, visual_at
from vidqueue.processors.parts.compose_params import ComposeParams
from vidqueue.processors.parts.film_settings import ComposeSettings


class Compose(Processor):
    """Make short films from a script or a narration, local materials and music, with subtitles in time."""

    name = "compose"
    settings: ClassVar[str] = "compose"
    Settings: ClassVar[type[BaseModel]] = ComposeSettings
    Params: ClassVar[type[Parameters]] = ComposeParams

    def media(self, params: ComposeParams) -> Iterable[MediaField]:
        """Each file; materials are videos and pictures."""
        return visual_at(super().media(params), "materials")

    def run(self, params: ComposeParams, ctx: Context) -> list[OutputDraft]:
        """Get script and narration, time the subtitles, cut the materials, and export each film."""
        from vidqueue.processors.parts.composing import tell

        return tell(params, ctx)
