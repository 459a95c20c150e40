"""The transport (procrastinate, used nowhere else): one worker for each lane, one delivery for each series of attempts.

Its row carries ids and the fence only and is deleted when the lane's series ends, so its table stays tiny and its
status cannot contradict ours. Retries, timeouts and fencing are vidqueue's own.

The daemon that dispatches to a lane also runs the lane's worker, so it wakes the worker itself. procrastinate would
keep a session for each worker that listens, and PostgreSQL wakes every listening session at every notification.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self
from uuid import UUID

import psycopg
import structlog
from procrastinate import App, JobContext, PsycopgConnector, exceptions, utils
from procrastinate.worker import Worker

from vidqueue.db.pool import Database
from vidqueue.job import AttemptRef

# The same name as in vidqueue.deliver().
TASK = "vidqueue.run_attempt"
# The polling interval, for a delivery that the daemon does not know of because the answer to the COMMIT was lost.
POLL_S = 5.0

Handler = Callable[[AttemptRef], Awaitable[None]]

log = structlog.get_logger(__name__)


class Transport:
    """procrastinate's application on the pool of the lanes, open for the time of an `async with`."""

    def __init__(self, database: Database) -> None:
        # Its own logger writes each job's arguments and outcome at INFO; ours does that already.
        logging.getLogger("procrastinate").setLevel(logging.WARNING)
        self._database = database
        self._app = App(connector=PsycopgConnector())
        self._app.task(name=TASK, pass_context=True, retry=False)(_run_attempt)
        self._workers: dict[str, LaneWorker] = {}

    async def __aenter__(self) -> Self:
        await self._app.open_async(self._database.pool)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._app.close_async()

    async def forget(self, queues: str) -> None:
        """Delete what is left in every queue whose name begins so; its attempts have been given back.

        Raises:
            VidqueueError: `database_unavailable`.
        """
        async with self._database.statement() as connection:
            await connection.execute("DELETE FROM procrastinate_jobs WHERE starts_with(queue_name, %s)", (queues,))

    def wake(self, queue: str) -> None:
        """Wake the lane's worker, so that it fetches its delivery now. A worker always fetches when it starts."""
        if worker := self._workers.get(queue):
            worker.wake()

    async def serve(self, queue: str, handler: Handler, stopping: asyncio.Event) -> None:
        """Run the lane's worker until `stopping`; restart it whenever it returns or raises before that.

        A worker may end by itself: its row was pruned, or two fetches raced for one lock. A lane must not.
        """
        while not stopping.is_set():
            worker = self._workers[queue] = LaneWorker(
                app=self._app,
                queues=[queue],
                name=queue,
                concurrency=1,
                listen_notify=False,
                fetch_job_polling_interval=POLL_S,
                # vidqueue never aborts an attempt through procrastinate.
                abort_job_polling_interval=3600,
                delete_jobs="always",
                install_signal_handlers=False,
                additional_context={"handler": handler},
            )
            stopper = asyncio.create_task(_stop_when(stopping, worker))
            try:
                await worker.run()
            except Exception as error:
                # A cancelled worker whose shutdown failed raises that failure instead of CancelledError.
                if (task := asyncio.current_task()) and task.cancelling():
                    raise asyncio.CancelledError from error
                log.warning("lane_worker_restarts", queue=queue, error=repr(error))
                await asyncio.sleep(0.5)
            finally:
                stopper.cancel()


async def _stop_when(stopping: asyncio.Event, worker: Worker) -> None:
    await stopping.wait()
    worker.stop()


async def _run_attempt(context: JobContext, job_id: str, attempt: int, fence: int) -> None:
    await context.additional_context["handler"](AttemptRef(UUID(job_id), attempt, fence))


class LaneWorker(Worker):
    """A procrastinate worker that survives the loss of its database and keeps its heartbeat during a drain.

    Stock 3.10 stops its heartbeat before it waits for running jobs (PR #1585), forgets that it was woken during an
    empty fetch, and ends when a fetch fails. Each override below fixes one of these; a contract test names the
    private methods, and they go when upstream has the fixes.
    """

    _answer_lost = False
    _woken = False

    def wake(self) -> None:
        """Fetch now, and once more if a fetch is under way."""
        self._woken = True
        self._new_job_event.set()

    async def _update_heartbeat(self) -> None:
        while True:
            await asyncio.sleep(self.update_heartbeat_interval)
            try:
                assert self.worker_id is not None
                await self.app.job_manager.update_heartbeat(self.worker_id)
            except exceptions.ConnectorException as error:
                log.warning("lane_worker_heartbeat", error=repr(error.__cause__ or error))

    async def _fetch_and_process_jobs(self) -> None:
        self._woken = False
        try:
            await self._take_back()
            await super()._fetch_and_process_jobs()
            if self._woken:
                # Upstream clears its flag after an empty fetch, and with it what was delivered meanwhile.
                self._new_job_event.set()
        except exceptions.ConnectorException as error:
            self._answer_lost = True
            if isinstance(error.__cause__, psycopg.errors.ForeignKeyViolation):
                # Another daemon has pruned this worker's row for lack of a heartbeat; `serve` registers a new one.
                raise
            log.warning("lane_worker_fetch", error=repr(error.__cause__ or error))
            await asyncio.sleep(0.5)
            self._new_job_event.set()

    async def _take_back(self) -> None:
        """Requeue a delivery that a fetch without an answer may have claimed."""
        if not self._answer_lost or self._running_jobs:
            return
        await self.app.connector.execute_query_async(
            "UPDATE procrastinate_jobs SET status = 'todo', worker_id = NULL "
            "WHERE status = 'doing' AND worker_id = %(worker_id)s",
            worker_id=self.worker_id,
        )
        self._answer_lost = False

    async def _persist_job_status(self, **values: Any) -> None:  # type: ignore[override]  # keywords only, as called
        while True:
            try:
                await super()._persist_job_status(**values)
                return
            except exceptions.ConnectorException as error:
                if "Job was not found" in str(error.__cause__):
                    # A later daemon on this data folder has cleared the queue; the fence has settled the rest.
                    return
                log.warning("lane_worker_finish", error=repr(error.__cause__ or error))
                if self._stop_event.is_set():
                    return  # the next daemon on this folder clears the queue
                await asyncio.sleep(0.5)

    async def _shutdown(self, side_tasks: list[asyncio.Task[Any]]) -> None:
        kept = [task for task in side_tasks if task.get_name() in ("update_heartbeats", "poll_jobs_to_abort")]
        await utils.cancel_and_capture_errors([task for task in side_tasks if task not in kept])
        try:
            await super()._shutdown(side_tasks=[])
        finally:
            await utils.cancel_and_capture_errors(kept)
