"""One attempt without daemon and database: the executor, its limits of time, and checked outputs, as on a lane."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
from dataclasses import dataclass, field, replace
from pathlib import Path

from vidqueue.errors import VidqueueError
from vidqueue.job import Failed, Failure, Outcome, OutputDraft, Succeeded
from vidqueue.processors.base import Processor
from vidqueue.processors.outputs import check_files, check_names
from vidqueue.progress import Progress
from vidqueue.settings.schema import Settings
from vidqueue.settings.secrets import revealed
from vidqueue.worker import gpus
from vidqueue.worker.executor.messages import RunJob
from vidqueue.worker.executor.parent import Executor, Heard, Listener
from vidqueue.worker.peers.lane_peers import Demand, LanePeers

LOOK_EVERY_S = 0.5


@dataclass(frozen=True, slots=True)
class Trial:
    """What is tried: a processor, its parameters, and the local file of each media reference by its place."""

    processor: Processor
    params: dict[str, object]
    inputs: dict[str, Path]
    workspace: Path
    gpu: gpus.Gpu | None = None

    def order(self, settings: Settings) -> RunJob:
        """Return the order for the executor."""
        return RunJob(
            self.processor.name,
            self.params,
            {name: str(path) for name, path in self.inputs.items()},
            str(self.workspace),
            settings.job_limits.model_dump(mode="json"),
            str(settings.models_folder),
            revealed(self.processor.config),
        )


@dataclass(slots=True)
class _Watch:
    """When the work last made a step forward: a higher share, or a new stage, as on a lane."""

    moved_at: float
    _furthest: float = -1.0
    _stages: set[str] = field(default_factory=set)

    def touch(self, now: float) -> None:
        self.moved_at = now

    def hear(self, heard: Heard, now: float) -> None:
        if isinstance(heard, Progress) and (heard.fraction > self._furthest or heard.stage not in self._stages):
            self.moved_at = now
            self._furthest = max(self._furthest, heard.fraction)
            self._stages.add(heard.stage)


async def run(trial: Trial, settings: Settings, listener: Listener) -> tuple[Outcome, list[OutputDraft]]:
    """Run it, and return the outcome with all outputs, also those that were published early. Ctrl-C cancels it."""
    mark, cores = f"try:{os.getpid()}:{secrets.token_hex(4)}", os.cpu_count() or 1
    executor = Executor(
        "try", threads=cores, mark=mark, device="cuda:0" if trial.gpu else "cpu",
        gpu_uuid=trial.gpu.uuid if trial.gpu else None,
    )  # fmt: skip
    peers = LanePeers("", mark, executor.suspension, gpu_uuid=trial.gpu.uuid if trial.gpu else None)
    order = trial.order(settings)
    loop = asyncio.get_running_loop()
    watch, early, interrupted = _Watch(loop.time()), list[OutputDraft](), asyncio.Event()
    ended: asyncio.Future[None] = loop.create_future()

    def hear(heard: Heard) -> None:
        watch.hear(heard, loop.time())
        if isinstance(heard, OutputDraft):
            early.append(heard)
        listener(heard)

    loop.add_signal_handler(signal.SIGINT, interrupted.set)
    try:
        demand = Demand(
            trial.processor, trial.params, mark, hear, lambda: watch.touch(loop.time()), ended, executor.stop
        )
        work = peers.run(demand, lambda urls: executor.run(replace(order, peers=urls), hear))
        working = asyncio.create_task(work)
        late = await _watched(working, trial.processor, watch, interrupted)
        if late is not None or interrupted.is_set():
            ended.set_result(None)
            await _stop(working, executor, max(settings.running.cancel_grace_s, trial.processor.cancel_grace_s))
        outcome = Failed(late) if late is not None else await working
    finally:
        loop.remove_signal_handler(signal.SIGINT)
        await executor.kill()
        await peers.close()
    return _checked(outcome, early, trial.workspace)


async def _watched(
    working: asyncio.Task[Outcome], processor: Processor, watch: _Watch, interrupted: asyncio.Event
) -> Failure | None:
    """Wait for the end of the work; a failure if it takes too long, None if it ended or was interrupted."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    interrupt = asyncio.create_task(interrupted.wait())
    try:
        while not working.done() and not interrupted.is_set():
            await asyncio.wait([working, interrupt], timeout=LOOK_EVERY_S, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                break
            if loop.time() - began > processor.timeout_s:
                return Failure.of("timed_out", f"It ran longer than its timeout_s of {processor.timeout_s:g} s.")
            if loop.time() - watch.moved_at > processor.stall_timeout_s:
                said = f"It made no progress for its stall_timeout_s of {processor.stall_timeout_s:g} s."
                return Failure.of("stalled", said)
    finally:
        interrupt.cancel()
    return None


async def _stop(working: asyncio.Task[Outcome], executor: Executor, grace_s: float) -> None:
    """Ask the work to stop, and kill it after the grace period."""
    await executor.cancel()
    await asyncio.wait([working], timeout=grace_s)
    if not working.done():
        await executor.kill()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(asyncio.shield(working), timeout=5)


def _checked(outcome: Outcome, early: list[OutputDraft], workspace: Path) -> tuple[Outcome, list[OutputDraft]]:
    if not isinstance(outcome, Succeeded):
        return outcome, []
    outputs = [*early, *outcome.outputs]
    try:
        check_names(outputs)
        check_files(outputs, workspace)
    except VidqueueError as error:
        return Failed(Failure.from_error(error)), []
    return outcome, outputs
