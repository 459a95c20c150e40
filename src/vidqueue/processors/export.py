"""Export: one film of an ordered list of clips and stills, each trimmed, fitted and joined as the list says."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import ClassVar

from pydantic import BaseModel

from vidqueue.job import OutputDraft
from vidqueue.processors.base import Context, MediaField, Parameters, Processor
from vidqueue.processors.media import Kind, Path
from vidqueue.processors.parts.export_params import ExportParams
from vidqueue.processors.parts.film_settings import ComposeSettings


class Export(Processor):
    """Join clips and stills into one film, with fitted sizes, transitions and sound."""

    name = "export"
    # For the font.
    settings: ClassVar[str] = "compose"
    Settings: ClassVar[type[BaseModel]] = ComposeSettings
    deterministic: ClassVar[bool] = True
    Params: ClassVar[type[Parameters]] = ExportParams

    def media(self, params: ExportParams) -> Iterable[MediaField]:
        """Each file; that of a clip must be of the kind that its times are for."""
        kinds: dict[Path, Kind] = {("clips", number, "media"): clip.kind for number, clip in enumerate(params.clips)}
        return [replace(one, kind=kinds.get(one.path, one.kind)) for one in super().media(params)]

    def run(self, params: ExportParams, ctx: Context) -> list[OutputDraft]:
        """Probe, render the pieces, join them with their sound, check, and return the one output."""
        from vidqueue.processors.parts.film import make
        from vidqueue.storage.reserved import ReservedSpace

        with ReservedSpace(ctx.workspace, ctx.limits.low_water_mib) as reserved:
            return [make(params, ctx, reserved)]
