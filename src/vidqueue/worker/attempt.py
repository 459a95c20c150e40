"""Run: one attempt on a lane, from the ticket to its end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import structlog

from vidqueue.db.tables import attempts, lanes
from vidqueue.db.tables.attempts import Begun
from vidqueue.errors import DATABASE_BUSY, VidqueueError, is_no_space
from vidqueue.job import AttemptRef, Canceled, Failed, Failure, Interrupted, Outcome, Succeeded
from vidqueue.jobs.finish import finish
from vidqueue.ops import failpoints
from vidqueue.processors import registry
from vidqueue.services import Services
from vidqueue.worker import gpus
from vidqueue.worker.executor.messages import RunJob
from vidqueue.worker.executor.parent import Executor
from vidqueue.worker.guards import (
    Drain,
    Lost,
    guard_cancel,
    guard_drain,
    guard_lease,
    guard_stall,
    guard_wall,
    lease_kept,
)
from vidqueue.worker.reporter import Reporter

# Memory that was not given back, or a context that is broken: only a new process is rid of them.
SPOILS_EXECUTOR = frozenset({"gpu_out_of_memory", "gpu_error"})

log = structlog.get_logger(__name__)


@dataclass
class Lane:
    """A place where one job runs at a time.

    Attributes:
        drain: begun when the daemon shuts down.
        gpu_uuid: the lane's GPU, where it has one.
        warm: processors the present executor has run.
    """

    id: UUID
    name: str
    queue: str
    executor: Executor
    drain: Drain
    warm: list[str] = field(default_factory=list)
    gpu_uuid: str | None = None


async def run(ref: AttemptRef, lane: Lane, services: Services) -> None:
    """Take the attempt in hand, do the work, and finish it; a ticket that was given away is dropped."""
    with structlog.contextvars.bound_contextvars(job_id=str(ref.job_id), attempt=ref.attempt, lane=lane.name):
        begun = await _begin(ref, services)
        if begun is None:
            log.info("attempt_was_given_away")
            return
        log.info("attempt_begins", processor=begun.processor)
        outcome = await _attempt_and_finish(ref, begun, lane, services)
        await _remember_warmth(lane, services, begun, outcome)


async def _begin(ref: AttemptRef, services: Services) -> Begun | None:
    """Retried while the database is away: the lease of the dispatch decides how long that may take."""
    while True:
        try:
            async with services.database.transaction() as connection:
                return await attempts.begin(connection, ref, lease_s=services.settings.running.lease_s)
        except VidqueueError as error:
            if error.code not in DATABASE_BUSY or services.database.abandoned:
                raise
            await asyncio.sleep(0.5)


async def _attempt_and_finish(ref: AttemptRef, begun: Begun, lane: Lane, services: Services) -> Outcome | Lost:
    """A fault of our own ends the attempt now, with a code, instead of when its lease runs out."""
    try:
        with services.storage.workspace(f"{ref.job_id}-{ref.attempt}") as workspace:
            await failpoints.reach("run.begun")
            outcome = await _attempt(ref, begun, lane, services, workspace)
            await failpoints.reach("run.worked")
            async with lease_kept(ref, services):
                outcome = await _with_care_for_the_gpu(outcome, lane, services)
            await _finish(ref, services, outcome, workspace)
            return outcome
    except Exception as error:
        if services.database.abandoned:
            raise
        log.exception("attempt_fault")
        async with lease_kept(ref, services):
            await lane.executor.kill()
        fault = Failed(_failure_of(error))
        await _finish(ref, services, fault, None)
        return fault


def _failure_of(error: Exception) -> Failure:
    if isinstance(error, VidqueueError):
        return Failure.from_error(error)
    if is_no_space(error):
        return Failure.of("no_space", f"The disk of the data folder is full: {error}.")
    return Failure.of("internal_error", f"{type(error).__name__}: {error}")


async def _finish(ref: AttemptRef, services: Services, outcome: Outcome | Lost, workspace: Path | None) -> None:
    if isinstance(outcome, Lost):
        log.warning("lease_lost")
        return
    async with lease_kept(ref, services):
        await finish(services.database, services.storage, ref, outcome, workspace=workspace)


async def _attempt(ref: AttemptRef, begun: Begun, lane: Lane, services: Services, workspace: Path) -> Outcome | Lost:
    if begun.cancel_requested:
        return Canceled()
    if lane.drain.begun.is_set():
        return Interrupted("the daemon shuts down")
    running = services.settings.running
    async with Reporter(services.database, ref, max_log_lines=running.max_log_lines) as reporter:
        work = _work(begun, lane, services, workspace, reporter)
        guards = [
            guard_lease(ref, services),
            guard_cancel(ref, services),
            guard_wall(begun.timeout_s),
            guard_stall(reporter, begun.stall_timeout_s),
            guard_drain(lane.drain, running.drain_timeout_s),
        ]
        return await _work_under_guard(work, guards, lane.executor, grace_s=running.cancel_grace_s)


async def _work(begun: Begun, lane: Lane, services: Services, workspace: Path, reporter: Reporter) -> Outcome:
    """Stage the inputs, then let the executor do it. A database that is away is no fault of the job."""
    while True:
        try:
            order = await _order(begun, services, workspace)
        except VidqueueError as error:
            if error.code not in DATABASE_BUSY:
                return Failed(Failure.from_error(error))
            await asyncio.sleep(0.5)
        else:
            await failpoints.reach("run.staged")
            return await lane.executor.run(order, reporter.hear)


async def _order(begun: Begun, services: Services, workspace: Path) -> RunJob:
    """Everything the executor needs, with each media reference staged as a local file."""
    params = registry.parse(registry.find(begun.processor), begun.input)
    staged = {
        name: str(await services.inputs.stage(reference, owner=begun.owner, inline=workspace / f"{name}.inline"))
        for name, reference, _ in registry.media_inputs(params)
    }
    limits = services.settings.limits.model_dump(mode="json")
    return RunJob(begun.processor, begun.input, staged, str(workspace), limits)


async def _work_under_guard(
    work: Coroutine[Any, Any, Outcome],
    guards: list[Coroutine[Any, Any, Outcome | Lost]],
    executor: Executor,
    *,
    grace_s: float,
) -> Outcome | Lost:
    """Wait for the work or for the first guard that ends it; then make sure that the work has stopped."""
    working = asyncio.create_task(work)
    watching = [asyncio.create_task(guard) for guard in guards]
    try:
        await asyncio.wait([working, *watching], return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        verdicts = [guard.result() for guard in watching if guard.done()]
        await _stop(working, executor, grace_s)
        return verdicts[0]
    except asyncio.CancelledError:
        await executor.kill()
        raise
    finally:
        for task in (working, *watching):
            task.cancel()
        await asyncio.gather(working, *watching, return_exceptions=True)


async def _with_care_for_the_gpu(outcome: Outcome | Lost, lane: Lane, services: Services) -> Outcome | Lost:
    """After a fault of CUDA the executor is useless; whether the job is to blame, the driver knows."""
    if not isinstance(outcome, Failed) or outcome.failure.code not in SPOILS_EXECUTOR:
        return outcome
    await lane.executor.kill()
    if lane.gpu_uuid is None or await gpus.answers_in_time(lane.gpu_uuid):
        return outcome
    # Held before the job waits again: it would come straight back to this lane.
    with contextlib.suppress(VidqueueError):
        async with services.database.transaction() as connection:
            await lanes.hold(connection, {lane.id: "gpu_lost"})
    log.error("gpu_lost", gpu=lane.gpu_uuid, error=outcome.failure.message)
    return Interrupted("the GPU was lost")


async def _stop(working: asyncio.Task[Outcome], executor: Executor, grace_s: float) -> None:
    """Ask politely, wait, kill; work that has not come to the executor yet is dropped."""
    await executor.cancel()
    await asyncio.wait([working], timeout=grace_s)
    if not working.done():
        await executor.kill()
        working.cancel()
        await asyncio.wait([working], timeout=5)


async def _remember_warmth(lane: Lane, services: Services, begun: Begun, outcome: Outcome | Lost) -> None:
    """Tell dispatch what is warm here; a hint, so a failing database does not matter."""
    ran = {begun.processor} if isinstance(outcome, Succeeded | Failed) else set()
    warm = sorted({*lane.warm} | ran) if lane.executor.alive else []
    if warm != lane.warm:
        lane.warm = warm
        with contextlib.suppress(VidqueueError):
            async with services.database.transaction() as connection:
                await lanes.warmed(connection, lane.id, warm)
