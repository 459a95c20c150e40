"""The out-of-memory ladder: runs the same work once more, as its processor makes it smaller, on a clean device."""

from __future__ import annotations

import gc
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from vidqueue.errors import VidqueueError
from vidqueue.job import Failure, OutputDraft
from vidqueue.processors.base import Context, Parameters, Processor
from vidqueue.progress import Progress

OUT_OF_MEMORY = frozenset({"gpu_out_of_memory", "out_of_memory"})
# A processor whose ladder has no end is a fault of the processor.
MOST_RUNGS = 16

Explain = Callable[[BaseException], Failure]


def run(
    processor: Processor,
    params: Parameters,
    context: Context,
    degraded: list[dict[str, Any]],
    *,
    explain: Explain,
    has_published: Callable[[], bool],
) -> list[OutputDraft]:
    """Run a processor, and again with `processor.degrade(params, error)` as long as memory runs out.

    Args:
        processor: does the work.
        params: the parameters of the job.
        context: the context from which that of each run is made.
        degraded: gets the rungs that did not fit, also where none does: the parameters that were changed then, and the
            code of the error. Each output has them as `facts.degraded`.
        explain: turns an error into the one that is reported.
        has_published: whether outputs are public already; then the work is not begun again.

    Returns:
        The outputs.
    """
    found = _Entries(context.workspace)
    while True:
        fresh = replace(context, outputs=[], degraded=tuple(degraded))
        try:
            drafts = fresh.published(processor.run(params, fresh))
        except Exception as error:
            smaller = _smaller(processor, params, explain(error), len(degraded))
            if smaller is None or has_published():
                raise
            _tell(fresh, params, smaller, explain(error), degraded)
            params = smaller
        else:
            return drafts
        # After the handler: the error's frames hold what fills the memory.
        _clean(context)
        found.remove_newer()


def _smaller(processor: Processor, params: Parameters, failure: Failure, rungs: int) -> Parameters | None:
    """Return the parameters of the next rung; None where there is none.

    Raises:
        VidqueueError: there is one, and the job does not allow it; the hint says what would have been tried.
    """
    if failure.code not in OUT_OF_MEMORY or rungs >= MOST_RUNGS:
        return None
    smaller: Parameters | None = processor.degrade(
        params, VidqueueError(failure.code, failure.message, hint=failure.hint)
    )
    if smaller is not None and not getattr(params, "allow_degrade", True):
        hint = f"Allow it to be made smaller (allow_degrade), or ask for {_words(_changes(params, smaller)[1])}."
        raise VidqueueError(failure.code, failure.message, hint=hint)
    return smaller


def _tell(
    context: Context, params: Parameters, smaller: Parameters, failure: Failure, degraded: list[dict[str, Any]]
) -> None:
    before, after = _changes(params, smaller)
    degraded.append({**before, "code": failure.code})
    message = f"The memory is too small for {_words(before)}; {_words(after)} is tried."
    context.log(message, "warning")
    context.progress(Progress(0.0, stage="degrade", message=message))


def _changes(params: Parameters, smaller: Parameters) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the parameters that differ, as they were and as they will be."""
    old, new = params.model_dump(mode="json"), smaller.model_dump(mode="json")
    names = [name for name in new if old.get(name) != new[name]]
    return {name: old.get(name) for name in names}, {name: new[name] for name in names}


def _words(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items()) or "the same parameters"


def _clean(context: Context) -> None:
    """Free the memory of the device: no model stays loaded, and torch gives back what it keeps for later."""
    context.models.clear()
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


class _Entries:
    """What a workspace had before the work began: its inputs."""

    def __init__(self, workspace: Path) -> None:
        self._workspace = workspace
        self._first = set(workspace.iterdir())

    def remove_newer(self) -> None:
        """Remove what a run has left."""
        for path in set(self._workspace.iterdir()) - self._first:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
