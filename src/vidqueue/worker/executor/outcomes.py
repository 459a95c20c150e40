"""The outcome of an attempt that the last report of an executor means."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vidqueue.job import Canceled, Failed, Failure, Outcome, OutputDraft, Succeeded, Waiting
from vidqueue.worker.executor.messages import Broke, Done, PutBack, Stopped


def outcome_of(report: Any, *, told_to_stop: bool) -> Outcome | None:
    """Return the outcome that a report means; None if the work goes on."""
    match report:
        case Done(outputs, metrics):
            return Succeeded(tuple(map(draft_of, outputs)), metrics)
        case Broke(code, text, hint, detail):
            return Failed(Failure(code, text, hint, detail))
        case PutBack(reason, text, retry_after_s):
            return Waiting(reason, text, retry_after_s)
        case Stopped() if told_to_stop:
            return Canceled()
        case Stopped():
            return Failed(Failure.of("processor_error", "The processor stopped without being told to."))
    return None


def draft_of(output: dict[str, Any]) -> OutputDraft:
    """Return the output that a report tells."""
    return OutputDraft(output["name"], Path(output["path"]), output["media_type"], output["facts"])
