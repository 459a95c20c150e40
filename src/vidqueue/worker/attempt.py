"""Runs an attempt on a lane: stages the inputs, runs the executor, judges and publishes the outcome, and settles it.

The transaction that ends it also gives the lane its next attempt, until no job fits (`series`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from vidqueue.db.tables import lanes
from vidqueue.db.tables.attempts import Begun
from vidqueue.errors import VidqueueError, is_no_space
from vidqueue.job import FINAL, Canceled, Failed, Failure, Interrupted, Outcome, Succeeded, Waiting
from vidqueue.jobs.finish import Continuation, Finished, finish
from vidqueue.ops import failpoints
from vidqueue.processors import registry
from vidqueue.progress import LogLine
from vidqueue.services import Services
from vidqueue.storage.workspaces import Workspaces
from vidqueue.worker import gpu_too_small, gpus, results
from vidqueue.worker.early_outputs import EarlyOutputs
from vidqueue.worker.executor.parent import Executor
from vidqueue.worker.guards import Guard, Lost
from vidqueue.worker.lane import Lane
from vidqueue.worker.peers.lane_peers import Demand
from vidqueue.worker.previews import Previews
from vidqueue.worker.reporter import Reporter
from vidqueue.worker.reports import Reports
from vidqueue.worker.staging import Staged, stage
from vidqueue.worker.suspending import suspends

# After these the executor leaks memory or has a broken CUDA context; only a new process helps.
RESTARTS_EXECUTOR = frozenset({"gpu_out_of_memory", "gpu_error"})
# Staging and the start of an executor may take this long before the job counts as stalled.
PREPARATION_S = 300.0

log = structlog.get_logger(__name__)


async def run(begun: Begun, lane: Lane, services: Services, workspaces: Workspaces) -> Begun | None:
    """Run one attempt to its end, and return the lane's next attempt, if there is one."""
    ref = begun.ref
    with (
        structlog.contextvars.bound_contextvars(job_id=str(ref.job_id), attempt=ref.attempt, lane=lane.name),
        lane.guards.over(ref, cancel_requested=begun.cancel_requested) as guard,
    ):
        log.info("attempt_begins", processor=begun.processor)
        lane.executor.meter.reset()
        settled, following = False, None
        try:
            workspace = await workspaces.begin(f"{ref.job_id}-{ref.attempt}")
            await failpoints.reach("run.begun")
            early = EarlyOutputs(services, ref, workspace=workspace, processor=begun.processor)
            outcome = await _worked(begun, lane, services, workspace, guard, early)
            await failpoints.reach("run.worked")
            outcome = await _judged(outcome, lane, services)
            await _record_warm_processors(begun, lane, services, outcome)
            following = await _settled(begun, lane, services, outcome, workspaces, workspace, early.names)
            settled = True
        except Exception as error:
            if services.database.abandoned:
                raise
            # An error in vidqueue ends the attempt now, with a code, instead of when its lease expires.
            log.exception("attempt_fault")
            if not settled:
                await lane.executor.kill()
                following = await _settled(begun, lane, services, Failed(_failure_of(error)), workspaces)
    return following


async def _worked(
    begun: Begun, lane: Lane, services: Services, workspace: Path, guard: Guard, early: EarlyOutputs
) -> Outcome | Lost:
    """Return the outcome of the executor, or of the guard that ended the attempt first."""
    if lane.drain.begun.is_set():
        guard.end(Interrupted("the daemon is shutting down"))
    if guard.ended.done():
        return guard.ended.result()
    running = services.settings.running
    reports = Reports(
        Reporter(services.database, begun.ref, max_log_lines=running.max_log_lines, clock=guard.now),
        Previews(services.database, begun.ref),
        early,
    )
    guard.watch_wall(begun.timeout_s)
    guard.watch_stall(reports.reporter, max(begun.stall_timeout_s, PREPARATION_S))
    outcome: Outcome | Lost | None = None
    try:
        outcome = await _work_until_ended(begun, lane, services, workspace, guard, reports)
        return outcome
    finally:
        await reports.close(succeeded=isinstance(outcome, Succeeded))


async def _work_until_ended(
    begun: Begun, lane: Lane, services: Services, workspace: Path, guard: Guard, reports: Reports
) -> Outcome | Lost:
    """Wait until the work is done or its guard ends it; then make sure that the work has stopped."""
    work = lane.slots.run(begun, lambda: _work(begun, lane, services, workspace, guard, reports))
    working = asyncio.create_task(work, name=f"{lane.name}-work")
    reasons: list[asyncio.Future[Any]] = [working, guard.ended]
    try:
        async with suspends(guard, lane.executor.suspension):
            await asyncio.wait(reasons, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        reason = guard.ended.result()
        await _stop(
            working, lane.executor, _grace_s(begun.processor, services), goes_on=isinstance(reason, Interrupted | Lost)
        )
        return reason
    except asyncio.CancelledError:
        await lane.executor.kill()
        raise
    finally:
        if not working.done():
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)


async def _work(
    begun: Begun, lane: Lane, services: Services, workspace: Path, guard: Guard, reports: Reports
) -> Outcome:
    """Stage the inputs, run the executor, and wait for the outputs that it has published early."""
    reporter = reports.reporter

    def on_start() -> None:
        # However long staging and the start took, the processor has not stalled yet.
        reporter.touch()
        guard.watch_stall(reporter, begun.stall_timeout_s)

    staged = await _staged(begun, services, workspace, guard, reporter)
    if not isinstance(staged, Staged):
        return staged
    await failpoints.reach("run.staged")
    if known := await results.reuse(staged.key, begun, services, workspace):
        reporter.hear(LogLine(f"The outputs of job {known.source}, which did the same work, are reused.", "info"))
        return known
    loop = asyncio.get_running_loop()
    begun_at = loop.time()
    processor, job = registry.catalogue().get(begun.processor), str(begun.ref.job_id)
    demand = Demand(processor, begun.input, job, reports.hear, reporter.touch, guard.ended, lane.unload)

    async def execute(peers: dict[str, str]) -> Outcome:
        given = replace(staged.order, lane=lane.name, peers=peers)
        return await lane.executor.run(given, reports.hear, on_start=on_start)

    outcome = await lane.peers.run(demand, execute)
    if isinstance(outcome, Waiting):
        limit_s = None if outcome.limit_s is None else services.settings.running.wait_limit_s
        return replace(outcome, waited_s=loop.time() - begun_at, limit_s=limit_s)
    return await results.remembered(await reports.early.settled(outcome), staged.key, services)


async def _staged(
    begun: Begun, services: Services, workspace: Path, guard: Guard, reporter: Reporter
) -> Staged | Outcome:
    """Stage the inputs. A download ends as soon as the guard ends the attempt; the executor keeps its models."""
    staging = asyncio.create_task(stage(begun, services, workspace, reporter), name="staging")
    try:
        reasons: list[asyncio.Future[Any]] = [staging, guard.ended]
        await asyncio.wait(reasons, return_when=asyncio.FIRST_COMPLETED)
        # A placeholder: the caller returns the outcome of the guard.
        return staging.result() if staging.done() else Canceled()
    finally:
        if not staging.done():
            staging.cancel()
            await asyncio.gather(staging, return_exceptions=True)


def _grace_s(processor: str, services: Services) -> float:
    """How long the work may take to stop: some processors must tell another server first."""
    known = registry.catalogue().get(processor)
    return max(services.settings.running.cancel_grace_s, known.cancel_grace_s if known else 0.0)


async def _stop(working: asyncio.Task[Outcome], executor: Executor, grace_s: float, *, goes_on: bool) -> None:
    """Ask the executor to stop, kill it after the grace period; cancel work that has not reached the executor."""
    await executor.cancel(goes_on=goes_on)
    await asyncio.wait([working], timeout=grace_s)
    if not working.done():
        await executor.kill()
        working.cancel()
        await asyncio.wait([working], timeout=5)


async def _judged(outcome: Outcome | Lost, lane: Lane, services: Services) -> Outcome | Lost:
    """After a GPU error stop the executor. If the GPU no longer responds, block the lane and return Interrupted."""
    if not isinstance(outcome, Failed) or outcome.failure.code not in RESTARTS_EXECUTOR:
        return outcome
    await lane.executor.kill()
    outcome = await gpu_too_small.checked(outcome, services)
    if lane.gpu_uuid is not None:
        # So that the next attempt can use all of the GPU's memory.
        await lane.peers.stop_idle("a job ran out of GPU memory")
    if lane.gpu_uuid is None or await gpus.answers_in_time(lane.gpu_uuid):
        return outcome
    # The lane is blocked before the job is queued again, or the job would be dispatched to it again.
    with contextlib.suppress(VidqueueError):
        async with services.database.statement() as connection:
            await lanes.block(connection, {lane.id: "gpu_lost"})
    log.error("gpu_lost", gpu=lane.gpu_uuid, error=outcome.failure.message)
    return Interrupted("the GPU was lost")


async def _record_warm_processors(begun: Begun, lane: Lane, services: Services, outcome: Outcome | Lost) -> None:
    """Record which processors are warm in this executor; only a hint to dispatch, so database errors are ignored."""
    known = isinstance(outcome, Succeeded) and outcome.source is not None
    ran = {begun.processor} if isinstance(outcome, Succeeded | Failed) and not known else set()
    warm = sorted({*lane.warm} | ran) if lane.executor.alive else []
    if warm != lane.warm:
        lane.warm = warm
        with contextlib.suppress(VidqueueError):
            async with services.database.statement() as connection:
                await lanes.warmed(connection, lane.id, warm)


async def _settled(
    begun: Begun,
    lane: Lane,
    services: Services,
    outcome: Outcome | Lost,
    workspaces: Workspaces,
    workspace: Path | None = None,
    early: Collection[str] = (),
) -> Begun | None:
    """Publish and finish, and return the next attempt from the same transaction, if the lane goes on.

    It does not if it drains, waits to restart its executor, or was asked to free its memory. What nobody needs any
    more goes with the workspace.
    """
    if isinstance(outcome, Lost):
        log.warning("lease_lost")
        return None
    goes_on = not lane.drain.begun.is_set() and lane.executor.rested and not lane.free_wanted
    continuation = Continuation(lane.id, services.settings.running.lease_s) if goes_on else None
    usage = lane.executor.meter.total(begun.processor)
    if isinstance(outcome, Succeeded) and outcome.source is not None:
        usage.expected_s = None  # of the work, which was not done
    downloads = services.storage.fetch_folder(begun.ref.job_id)
    finished = await finish(
        services.database, services.storage, begun.ref, outcome,
        workspace=workspace, processor=begun.processor, early=early, continuation=continuation,
        usage=usage, together=lane.finishes, moved=partial(workspaces.renew, downloads),
    )  # fmt: skip
    if not isinstance(finished, Finished) or finished.state in FINAL:
        workspaces.leftovers.append(downloads)
    return finished.next


def _failure_of(error: Exception) -> Failure:
    if isinstance(error, VidqueueError):
        return Failure.from_error(error)
    if is_no_space(error):
        return Failure.of("no_space", f"The disk of the data folder is full: {error}.")
    return Failure.of("internal_error", f"{type(error).__name__}: {error}")
