"""The lifecycle of one managed peer on one lane: start, health checks, restart, stop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import NoReturn

import structlog

from vidqueue.errors import VidqueueError
from vidqueue.job import Failed, Outcome, Succeeded
from vidqueue.processors.peers import Launch, PeerServer
from vidqueue.progress import LogLine
from vidqueue.sanitize import Redactor
from vidqueue.worker.executor.output import ProcessOutput
from vidqueue.worker.executor.suspension import Suspension
from vidqueue.worker.peers.health import BUSY_S, Health
from vidqueue.worker.peers.process import PeerProcess, free_port, release_port

TICK_S = 0.2
# Backoff after a failed start: first this long, then twice as long each time, up to the longest.
FIRST_REST_S, LONGEST_REST_S = 1.0, 60.0
# After this many consecutive failed jobs the server is restarted, because it may be the cause.
MOST_FAILURES = 3
FAILURES_OF_PEERS = frozenset({"model_failed", "peer_lost", "stalled"})
SPOILS_PEER = frozenset({"gpu_out_of_memory", "gpu_error"})
LAST_WORDS = 5

log = structlog.get_logger(__name__)


class Instance:
    """One server of one lane. It is used only in the event loop's thread.

    Attributes:
        server: its configuration; replaced when the configuration changes.
        at_work: True while a job uses it, including its start for that job.
        last_job: the job that used it last.
        problem: why it could not be started or had to be stopped; empty once it is ready.
        starts: the number of times that it became ready.
    """

    def __init__(self, server: PeerServer, lane: str, mark: str, gpu_uuid: str | None, suspension: Suspension) -> None:
        self.server = server
        self.at_work, self.last_job = False, ""
        self.problem, self.starts = "", 0
        self.since = datetime.now(UTC)
        self._lane = lane
        self._mark = f"{mark}/{server.name}"
        self._gpu_uuid = gpu_uuid
        self._suspension = suspension
        self._process: PeerProcess | None = None
        # A server that is restarted during a job listens on the same port again.
        self._port = 0
        self._starting: asyncio.Task[None] | None = None
        # Whoever starts or stops its process; the next one has to find the port free and nothing of the last one alive.
        self._changing = asyncio.Lock()
        self._output = ProcessOutput()
        self._failed_starts = self._failures = 0
        self._rests_until = float("-inf")
        self._idle_since = time.monotonic()
        self._health = Health()

    @property
    def state(self) -> str:
        """starting, ready, working, resting or stopped."""
        if self._starting is not None and not self._starting.done():
            return "starting"
        if self.alive:
            return "working" if self.at_work else "ready"
        return "resting" if self.rests_s > 0 else "stopped"

    @property
    def alive(self) -> bool:
        """True if its process runs."""
        return self._process is not None and self._process.alive

    @property
    def subreaper(self) -> int | None:
        """The process id of its subreaper; None if it does not run."""
        return self._process.subreaper if self._process is not None else None

    @property
    def rests_s(self) -> float:
        """The remaining backoff before it is started again, in seconds."""
        return max(0.0, self._rests_until - time.monotonic())

    @property
    def url(self) -> str:
        """The URL at which it listens."""
        return self._process.url if self._process is not None else ""

    @property
    def launch(self) -> Launch:
        """The command, environment and timeouts of its start."""
        assert self.server.launch is not None
        return self.server.launch

    def listen(self, on_line: Callable[[LogLine], None] | None, redactor: Redactor | None = None) -> None:
        """Send the lines of its log to a job, with the redactor's secrets removed."""
        readable = self.server.readable
        self._output.redactor = redactor or self._output.redactor

        def pass_on(line: LogLine) -> None:
            if on_line is not None and (text := readable(line.text)) is not None:
                on_line(LogLine(text, line.level))

        self._output.on_line = pass_on if on_line is not None else None

    @contextmanager
    def serving(self, job: str) -> Iterator[None]:
        """Reserve it for a job during the block."""
        self.at_work = True
        self._changed()
        try:
            yield
        finally:
            self.at_work, self.last_job = False, job
            self._idle_since = time.monotonic()
            self._health.reset()
            self._changed()

    async def up(self) -> None:
        """Start it unless it runs, and wait until it is ready. Cancelling the caller does not stop the start.

        Raises:
            VidqueueError: `peer_setup_failed`.
        """
        if self._starting is None or (self._starting.done() and not self.alive):
            self._starting = asyncio.create_task(self._start(), name=f"start-{self.server.name}")
            # The job that needed it may have ended; the next one starts it again.
            self._starting.add_done_callback(lambda task: task.cancelled() or task.exception())
        await asyncio.shield(self._starting)

    async def keep_up(self) -> None:
        """Restart it each time it dies, with backoff, until cancelled or until a start fails."""
        pause_s = FIRST_REST_S
        while self._process is not None:
            how = await self._process.ended()
            log.warning("peer_died", peer=self.server.name, lane=self._lane, how=how)
            self._output.append(f"It ended with {how}.")
            await asyncio.sleep(pause_s)
            pause_s = min(LONGEST_REST_S, pause_s * 2)
            try:
                await self.up()
            except VidqueueError:
                return

    async def is_sound(self, job: str) -> bool:
        """True if it can take a job now. If it is still busy with an earlier job, it gets a few seconds to end that."""
        until = self._suspension.now() + BUSY_S
        while self.alive:
            # One that is suspended with its job does not answer.
            await self._suspension.may_work.wait()
            condition = await self._health.ask(self.server, self.url)
            if condition.state == "ready" or (condition.state == "busy" and job == self.last_job):
                return True
            if condition.state == "broken" or self._suspension.now() > until:
                self.problem = condition.words or f"it was {condition.state}"
                return False
            await asyncio.sleep(TICK_S)
        return False

    async def judge(self, outcome: Outcome) -> None:
        """Stop it after a job whose error makes it unusable, or after several consecutive failures."""
        if isinstance(outcome, Succeeded):
            self._failures = 0
        if not isinstance(outcome, Failed):
            return
        self._failures += outcome.failure.code in FAILURES_OF_PEERS
        if outcome.failure.code in SPOILS_PEER:
            await self.stop(f"the job failed with {outcome.failure.code}")
        elif self._failures >= MOST_FAILURES:
            await self.stop(f"{self._failures} consecutive jobs failed")

    async def check(self) -> None:
        """Stop it if it was idle for too long, or is unhealthy."""
        if self.at_work or self.state == "starting" or self._process is None:
            return
        if not self.alive:
            how = await self._process.ended()
            if not self.at_work:
                await self.stop(f"it ended with {how}")
        elif 0 < self.launch.idle_stop_s <= time.monotonic() - self._idle_since:
            await self.stop("")
        elif (why := await self._health.complaint(self.server, self.url)) and not self.at_work:
            await self.stop(why)

    async def stop(self, why: str) -> None:
        """Stop it. `why` is shown as its problem; empty if there is none.

        Cancelling the caller does not interrupt the stop.
        """
        starting, self._starting = self._starting, None
        if starting is not None:
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
        await asyncio.shield(asyncio.create_task(self._stop(why), name=f"stop-{self.server.name}"))

    async def _stop(self, why: str) -> None:
        async with self._changing:
            process = self._process
            if process is None:
                return
            log.info("peer_stops", peer=self.server.name, lane=self._lane, why=why or "idle")
            self.problem, self._failures = why, 0
            await self._end(process)
            self._changed()

    async def _end(self, process: PeerProcess) -> None:
        self._process = None
        await process.stop()
        release_port(self._port)
        self._port = 0

    async def _start(self) -> None:
        async with self._changing:
            await self._start_alone()

    async def _start_alone(self) -> None:
        if self._process is not None:
            await self._process.stop()
        # A server that died while its job was suspended is restarted when the job is resumed.
        await self._suspension.may_work.wait()
        self._output.last.clear()
        self._port = self._port or free_port()
        self._process = process = PeerProcess(self.launch, self._port, self._mark, self._gpu_uuid, self._output)
        self._changed()
        log.info("peer_starts", peer=self.server.name, lane=self._lane, url=process.url)
        try:
            if fault := self.launch.fault():
                raise OSError(fault)
            await process.start()
            await self._suspension.heed()
            await self._until_ready(process)
        except TimeoutError:
            await self._failed(process, f"it was not ready after {self.launch.setup_timeout_s:g} s")
        except OSError as error:
            await self._failed(process, str(error))
        log.info("peer_ready", peer=self.server.name, lane=self._lane, url=process.url)
        self.problem, self._failed_starts, self._failures = "", 0, 0
        self.starts += 1
        self._idle_since = time.monotonic()
        self._health.reset()
        self._changed()

    async def _until_ready(self, process: PeerProcess) -> None:
        """Wait until it is ready.

        Raises:
            OSError: it has ended, or says that it never will be.
            TimeoutError: it was not ready in time; time in which its job is suspended does not count.
        """
        until = self._suspension.now() + self.launch.setup_timeout_s
        ended = asyncio.create_task(process.ended())
        try:
            while True:
                condition = await self._health.ask(self.server, self.url)
                if ended.done():
                    raise OSError(f"it ended with {ended.result()}")
                if condition.state in ("ready", "busy"):
                    return
                if condition.state == "broken":
                    for line in condition.words.splitlines()[-LAST_WORDS:]:
                        self._output.append(line)
                    raise OSError("it reports that its setup failed")
                if self._suspension.now() >= until:
                    raise TimeoutError
                await asyncio.wait([ended], timeout=TICK_S)
        finally:
            ended.cancel()

    async def _failed(self, process: PeerProcess, why: str) -> NoReturn:
        """Clean up a failed start, and begin the backoff.

        Raises:
            VidqueueError: `peer_setup_failed`.
        """
        await self._end(process)
        rest_s = min(LONGEST_REST_S, FIRST_REST_S * 2 ** min(self._failed_starts, 16))
        self._failed_starts += 1
        self._rests_until = time.monotonic() + rest_s
        self.problem = why
        self._changed()
        log.error("peer_not_started", peer=self.server.name, lane=self._lane, error=why, rest_s=rest_s)
        raise VidqueueError("peer_setup_failed", self._told(why)) from None

    def _told(self, why: str) -> str:
        last = " | ".join(list(self._output.last)[-LAST_WORDS:])
        told = f" Its last output: {last}" if last else ""
        return f"The server {self.server.name} did not become ready: {why}.{told}"

    def _changed(self) -> None:
        self.since = datetime.now(UTC)
