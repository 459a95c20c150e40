"""The outcome of an attempt that the last report of an executor means."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from vidqueue.job import Canceled, Failed, Failure, Interrupted, Outcome, OutputDraft, Succeeded, Waiting
from vidqueue.worker.executor.messages import Broke, Done, PutBack, Stopped


def outcome_of(report: Any, *, told_to_stop: bool) -> Outcome | None:
    """Return the outcome that a report means; None if the work goes on."""
    match report:
        case Done(outputs, metrics):
            return Succeeded(tuple(map(draft_of, outputs)), metrics)
        case Broke(code, text, hint, detail, metrics):
            return Failed(Failure(code, text, hint, detail), metrics=metrics)
        case PutBack():
            return _put_back(report)
        case Stopped() if told_to_stop:
            return Canceled()
        case Stopped():
            return Failed(Failure.of("processor_error", "The processor stopped without being told to."))
    return None


def _put_back(report: PutBack) -> Interrupted | Waiting:
    if not report.lost:
        waiting = Waiting(report.reason, report.message, report.retry_after_s)
        return replace(waiting, limit_s=None) if report.for_jobs else waiting
    reason = f"{report.reason}: {report.message[:500].rstrip('.')}"
    return Interrupted(reason, lost=True, delay_s=report.retry_after_s, by_peer=True)


def draft_of(output: dict[str, Any]) -> OutputDraft:
    """Return the output that a report tells."""
    return OutputDraft(output["name"], Path(output["path"]), output["media_type"], output["facts"])
