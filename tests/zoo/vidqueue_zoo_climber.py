"""A processor from outside whose work needs memory, and less of it where it is made smaller."""

from __future__ import annotations

import os
from typing import Any

from vidqueue.errors import VidqueueError
from vidqueue.job import OutputDraft
from vidqueue.processors.base import Context, Parameters, Processor


class OutOfMemoryError(RuntimeError):
    """torch's, by name."""


class ClimberParams(Parameters):
    """How large the work is, and what fits."""

    size: int = 1024
    fits: int = 0
    endless: bool = False
    of_the_machine: bool = False
    publish: bool = False
    allow_degrade: bool = True


class Climber(Processor):
    """Halve the size until it fits."""

    name = "climber"
    Params = ClimberParams

    def degrade(self, params: Any, error: VidqueueError) -> Any:
        """Half the size, down to 64."""
        assert error.code in ("gpu_out_of_memory", "out_of_memory")
        if params.endless:
            return params
        return params.model_copy(update={"size": params.size // 2}) if params.size > 64 else None

    def run(self, params: Any, ctx: Context) -> list[OutputDraft] | None:
        """Work, if there is room, and return or promise the output."""
        left = sorted(path.name for path in ctx.workspace.iterdir())
        loaded = ctx.models.get("model", lambda: params.size)
        (ctx.workspace / "half").mkdir()
        (ctx.workspace / "half" / "done").write_text("x")
        promised = ctx.output("text", "size.txt")
        promised.path.write_text(f"{params.size} {loaded} {os.getpid()} {left}")
        if params.publish:
            ctx.publish(promised)
        if params.size > params.fits:
            raise MemoryError if params.of_the_machine else OutOfMemoryError("CUDA out of memory. Tried to allocate")
        if params.of_the_machine:
            return None
        return [] if params.publish else [promised]
