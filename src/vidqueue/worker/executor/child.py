"""The executor: a process that runs one job after another and keeps torch and models warm in between.

It is started with a socket and nothing else: no database, no secrets, an environment of a few names. The main thread
takes jobs and works; another one listens meanwhile for the word to stop.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import ctypes
import faulthandler
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from vidqueue.errors import LostWorkError, VidqueueError, WaitingError, is_no_space
from vidqueue.job import Failure, OutputDraft
from vidqueue.limits import Limits
from vidqueue.media import durations
from vidqueue.ops import active_time
from vidqueue.processors import library_errors, registry
from vidqueue.processors.base import CanceledError, Context, ModelCache
from vidqueue.progress import PREVIEW_EVERY_S, LogLine, Progress
from vidqueue.settings.secrets import secret_values
from vidqueue.worker.executor import ladder, restored
from vidqueue.worker.executor.capture import Capture
from vidqueue.worker.executor.messages import (
    LONGEST_DETAIL,
    MOST_OUTPUTS,
    Broke,
    Done,
    OutputReady,
    Preview,
    PutBack,
    Ready,
    RunJob,
    Stopped,
)
from vidqueue.worker.executor.orders import Orders
from vidqueue.worker.executor.used import UsageOfJob
from vidqueue.worker.executor.wire import Wire

PR_SET_PDEATHSIG = 1
# Of 1000 (proc(5), oom_score_adj); 0 is the rule.
OOM_SCORE = 800


def main() -> None:
    """Run jobs until the lane sends Exit; the process dies with the lane."""
    arguments = _arguments()
    _die_with(arguments.parent)
    _die_first_of_memory()
    # A crash in a library of C then ends the log with the line of the processor that called it.
    faulthandler.enable(all_threads=False)
    active_time.follow(arguments.stopwatch)
    # The lane decides when this process exits; a Ctrl-C in the daemon's terminal is not meant for it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection = socket.socket(fileno=arguments.fd)
    wire, orders = Wire(connection), Orders(connection)
    worker = _Worker(wire, arguments.device, orders.canceled, orders.interrupted)
    threading.Thread(target=orders.listen, name="orders", daemon=True).start()
    worker.capture.install()
    wire.send(Ready(os.getpid()))
    while (order := orders.next()) is not None:
        usage = UsageOfJob()
        with durations.collected() as seen_s:
            report = _run(order, worker)
        wire.write(wire.line(usage.total(order, seen_s)), report)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="An executor; started by a lane, not by people.")
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--device", required=True)
    parser.add_argument("--stopwatch", type=int, required=True)
    return parser.parse_args()


def _die_with(parent: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the tether held
        sys.exit(1)


def _die_first_of_memory() -> None:
    """Let the kernel's out-of-memory killer choose an executor, and its ffmpeg, before the daemon and PostgreSQL."""
    score = Path("/proc/self/oom_score_adj")
    with contextlib.suppress(OSError):
        score.write_text(str(max(OOM_SCORE, int(score.read_text(encoding="ascii")))), encoding="ascii")


@dataclass(frozen=True, slots=True)
class _Worker:
    """What lasts from one job to the next."""

    wire: Wire
    device: str
    canceled: threading.Event
    interrupted: threading.Event
    capture: Capture = field(default_factory=Capture)
    models: ModelCache = field(default_factory=ModelCache)


def _run(order: RunJob, worker: _Worker) -> bytes:
    """Do a job, and return the line that reports how it ended."""
    started, line = active_time.now(), worker.wire.line
    degraded: list[dict[str, Any]] = []
    try:
        with worker.capture.job(worker.wire.send) as report, restored.place():
            outputs = _as_reported(_work(order, worker, report, degraded))
        metrics: dict[str, Any] = {"run_s": round(active_time.now() - started, 3)}
        if degraded:
            metrics["degraded"] = degraded
        return line(Done(outputs, metrics))
    except CanceledError:
        return line(Stopped())
    except WaitingError as later:
        return line(PutBack(str(later.reason), str(later.message), later.retry_after_s, for_jobs=later.for_jobs))
    except LostWorkError as lost:
        return line(PutBack("peer_lost", str(lost.message), lost.retry_after_s, lost=True))
    except BaseException as error:  # whatever a processor raises is an outcome, not the end of the executor
        if isinstance(error, KeyboardInterrupt):
            raise
        broke = replace(_broke(error), metrics={"degraded": degraded} if degraded else {})
        if not isinstance(error, VidqueueError):  # what has a code and a hint explains itself
            for text in broke.detail.splitlines():
                worker.wire.send(LogLine(text, "error"))
        return line(broke)


def _as_reported(drafts: list[OutputDraft]) -> list[dict[str, Any]]:
    """The outputs of a processor, as they travel.

    Raises:
        VidqueueError: `bad_output`, there are too many.
    """
    if len(drafts) > MOST_OUTPUTS:
        raise VidqueueError("bad_output", f"The processor returned {len(drafts)} outputs; {MOST_OUTPUTS} are allowed.")
    return [
        {"name": draft.name, "path": draft.path, "media_type": draft.media_type, "facts": draft.facts}
        for draft in drafts
    ]


def _work(
    order: RunJob, worker: _Worker, report: Callable[[Progress], None], degraded: list[dict[str, Any]]
) -> list[OutputDraft]:
    """Run the processor and return its outputs; `degraded` gets the rungs of the ladder that did not fit."""
    wire = worker.wire
    kind = type(registry.find(order.processor))
    processor = kind(kind.Settings.model_validate(order.settings))
    for secret in secret_values(processor.config):
        wire.redactor.add(secret)
    params = registry.parse(processor, order.params)
    worker.models.folder, handover = Path(order.models_dir), _Handover(wire)
    worker.models.limit_bytes = order.models_mib << 20 or None
    context = Context(
        inputs={name: Path(path) for name, path in order.inputs.items()},
        workspace=Path(order.workspace),
        cache_dir=Path(order.cache_dir) if order.cache_dir else None,
        device=worker.device,
        limits=Limits.model_validate(order.limits),
        report=report,
        write_log=wire.send,
        models=worker.models,
        canceled=worker.canceled,
        interrupted=worker.interrupted,
        settings=processor.config,
        lane=order.lane,
        attempt=order.attempt,
        peers=order.peers,
        redact=wire.redactor.add,
        publish_output=handover.publish,
        show_preview=handover.show,
    )
    with restored.environment():
        return ladder.run(
            processor, params, context, degraded,
            explain=lambda error: _failure(error, ""), has_published=handover.has_published,
        )  # fmt: skip


class _Handover:
    """Hands over outputs and previews of a job that goes on."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._outputs = 0
        self._shown_at = float("-inf")

    def has_published(self) -> bool:
        """True if an output is public already."""
        return self._outputs > 0

    def publish(self, draft: OutputDraft) -> None:
        (output,) = _as_reported([draft])
        self._outputs += 1
        if self._outputs > MOST_OUTPUTS:
            raise VidqueueError("bad_output", f"The processor published more than {MOST_OUTPUTS} outputs.")
        self._wire.send(OutputReady(output))

    def show(self, picture: bytes) -> None:
        """Send a preview, unless one was sent within the last second."""
        now = time.monotonic()
        if now - self._shown_at >= PREVIEW_EVERY_S:
            self._shown_at = now
            self._wire.send(Preview(base64.b64encode(picture).decode("ascii")))


def _broke(error: BaseException) -> Broke:
    detail = "".join(traceback.format_exception(type(error), error, _without_ours(error.__traceback__)))
    detail = detail[-LONGEST_DETAIL:]
    failure = _failure(error, detail)
    return Broke(failure.code, failure.message, failure.hint, failure.detail)


def _without_ours(trace: TracebackType | None) -> TracebackType | None:
    """The traceback without the frames of the executor, which its reader has not written."""
    ours = (__file__, ladder.__file__)
    while trace is not None and trace.tb_next is not None and trace.tb_frame.f_code.co_filename in ours:
        trace = trace.tb_next
    return trace


def _failure(error: BaseException, detail: str) -> Failure:
    if isinstance(error, VidqueueError):
        return Failure.from_error(error, detail=detail)
    if (code := library_errors.code_of(error)) is not None:
        # No setting limits the memory of a processor: limits.memory_mib is that of ffmpeg.
        hint = "Give smaller media, or let the processor hold less at a time." if code == "out_of_memory" else ""
        words = library_errors.words_of(error) or "The processor ran out of memory."
        return Failure.of(code, words, hint=hint, detail=detail)
    if is_no_space(error):
        return Failure.of("no_space", "The disk of the workspace is full.", detail=detail)
    exits = isinstance(error, SystemExit)
    said = f"The processor called sys.exit({error})." if exits else f"{type(error).__name__}: {error}"
    return Failure.of("processor_error", said, detail=detail)


if __name__ == "__main__":
    main()
