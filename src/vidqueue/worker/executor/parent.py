"""The lane's side of its executor: starts it, sends it one job at a time, stops it, replaces it after a crash."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from typing import IO, Any

import structlog

from vidqueue.job import Canceled, Failed, Failure, Interrupted, Outcome, OutputDraft
from vidqueue.ops import processes
from vidqueue.processors import registry
from vidqueue.progress import LogLine, Progress
from vidqueue.sanitize import Redactor, sanitize_text
from vidqueue.settings.secrets import secret_values
from vidqueue.worker.executor.environment import environment
from vidqueue.worker.executor.messages import (
    CancelJob,
    Exit,
    Order,
    OutputReady,
    Preview,
    Ready,
    RunJob,
    Used,
    decode,
    encode,
)
from vidqueue.worker.executor.meter import Meter
from vidqueue.worker.executor.outcomes import draft_of, outcome_of
from vidqueue.worker.executor.output import ProcessOutput
from vidqueue.worker.executor.suspension import Suspension

START_PATIENCE_S = 60
# The lane rests after an executor that could not be started: this long, twice as long each time, up to the longest.
FIRST_REST_S = 1.0
LONGEST_REST_S = 60.0
# How long an executor may take to end, before SIGKILL and once more after it.
END_PATIENCE_S = 15.0
LONGEST_REASON = 1000
LONGEST_LINE = 8 << 20

log = structlog.get_logger(__name__)

Heard = Progress | LogLine | OutputDraft | Preview
Listener = Callable[[Heard], None]


class Executor:
    """One child process of a lane.

    `device` is what torch shall use, `gpu_uuid` the only GPU it can see, `threads` how many cores it may count on;
    `mark` is borne by everything it starts, and by nothing else. `starts` counts how often it was started.
    `outdated` says that processors were loaded anew since, so that the next job needs another child.
    """

    def __init__(self, lane: str, *, threads: int, mark: str, device: str = "cpu", gpu_uuid: str | None = None) -> None:
        self._lane = lane
        self._mark = mark
        self._threads = threads
        self._device = device
        self._gpu_uuid = gpu_uuid
        self._process: asyncio.subprocess.Process | None = None
        self._output = ProcessOutput()
        self._killed_by_us = False
        self._told_to_stop = False
        self._code: int | None = None
        self._failed_starts = 0
        self._rests_until = float("-inf")
        self.starts = 0
        self.outdated = False
        self.meter = Meter()
        self.suspension = Suspension(mark)

    @property
    def alive(self) -> bool:
        """True if the child process runs."""
        return self._process is not None and self._process.returncode is None

    @property
    def rested(self) -> bool:
        """False for a while after the executor could not be started; the lane gets no work then."""
        return time.monotonic() >= self._rests_until

    async def start(self) -> None:
        """Start the child unless it runs, and wait until it takes work.

        Raises:
            OSError: it could not be started, or ended before it was ready.
            TimeoutError: it was not ready in time.
        """
        if self.alive:
            return
        self._killed_by_us = False
        ours, theirs = socket.socketpair()
        # A pipe of our own: asyncio's would let a grandchild that holds it open keep us from learning of the end.
        words, words_end = os.pipe()
        with theirs, os.fdopen(words_end, "wb") as output:
            self._output.last.clear()
            # Before the child, so that whoever finds it running can send to it and reap it.
            self._reader, self._writer = await asyncio.open_connection(sock=ours, limit=LONGEST_LINE)
            self._listener = asyncio.create_task(self._output.read(words), name=f"{self._lane}-words")
            # Spawned from the event loop's thread: the parent-death signal follows the thread that spawned the child.
            self._process = await self._spawn(theirs, output)
        async with asyncio.timeout(START_PATIENCE_S):
            if not isinstance(await self._next(), Ready):
                raise OSError(f"it ended before it was ready: {' | '.join(self._output.last)}")
        self._failed_starts = 0
        self.starts += 1
        self.meter.begin(self._process.pid)

    async def _spawn(self, theirs: socket.socket, output: IO[bytes]) -> asyncio.subprocess.Process:
        try:
            with self.suspension.stopwatch.handed_over() as stopwatch:
                return await asyncio.create_subprocess_exec(
                    # -P and a fixed folder: `python -m` imports from the working folder first, whoever may write there.
                    sys.executable, "-P", "-m", "vidqueue.worker.executor.child", "--fd", str(theirs.fileno()),
                    "--parent", str(os.getpid()), "--device", self._device, "--stopwatch", str(stopwatch),
                    stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                    pass_fds=[theirs.fileno(), stopwatch], env=environment(self._mark, self._gpu_uuid, self._threads),
                    cwd="/", start_new_session=True,
                )  # fmt: skip
        except (OSError, RuntimeError) as error:
            self._writer.close()
            # asyncio waits for a child in a thread; where there is no room for one, it says so in its own way.
            raise OSError(str(error)) from error

    async def run(self, order: RunJob, listener: Listener, *, on_start: Callable[[], None] = lambda: None) -> Outcome:
        """Run one job and return its outcome. A child that dies is an outcome too; the next job gets a new one.

        `listener` gets each report, `on_start` is called once the child runs and takes the order.
        """
        self._told_to_stop = False
        if processor := registry.catalogue().get(order.processor):
            self._output.redactor = Redactor(secret_values(processor.config))
        if self.outdated:
            self.outdated = False
            await self.stop()
        try:
            await self.start()
        except (OSError, TimeoutError) as error:
            return await self._not_started(str(error) or f"it was not ready after {START_PATIENCE_S} s")
        # An idle executor costs nothing, so one that was started meanwhile waits here.
        await self.suspension.may_work.wait()
        if self._process is None:  # it was killed in the meantime
            return Canceled()
        self.meter.start(self._process.pid)
        on_start()
        self._output.on_line = listener
        self.suspension.take(self._process.pid)
        try:
            return await self._heard(order, listener)
        finally:
            self.suspension.drop()
            self._output.on_line = None

    async def _heard(self, order: RunJob, listener: Listener) -> Outcome:
        """Send the order, hear the child's reports, and return the outcome."""
        # If the child is gone already, reading from it says so.
        with contextlib.suppress(OSError):
            await self._send(order)
        while (message := await self._next()) is not None:
            if isinstance(message, LogLine):
                self._output.append(message.text)
            if isinstance(message, Progress | LogLine | Preview):
                listener(message)
            elif isinstance(message, Used):
                self.meter.hear(message)
            elif isinstance(message, OutputReady):
                listener(draft_of(message.output))
            elif (outcome := outcome_of(message, told_to_stop=self._told_to_stop)) is not None:
                await self._output.drained()
                return outcome
        return await self._died()

    async def _not_started(self, why: str) -> Outcome:
        """Interrupt the job, which is not at fault, and let this lane rest so that another one can take the job."""
        if self._killed_by_us:
            return Canceled()
        rest_s = min(LONGEST_REST_S, FIRST_REST_S * 2 ** min(self._failed_starts, 16))
        self._failed_starts += 1
        self._rests_until = time.monotonic() + rest_s
        log.error("executor_not_started", lane=self._lane, error=why, times=self._failed_starts, rest_s=rest_s)
        await self.kill()
        return Interrupted(f"the executor could not be started: {sanitize_text(why)[:LONGEST_REASON]}")

    async def cancel(self, *, goes_on: bool = False) -> None:
        """Ask the running job to stop; nothing happens while there is none. `goes_on`: another attempt follows."""
        self._told_to_stop = True
        if self.alive:
            with contextlib.suppress(OSError):
                await self._send(CancelJob(goes_on))

    async def kill(self) -> None:
        """Kill the child with its whole process group, and reap it; its own children die with it (parent_death)."""
        if self._process is None:
            return
        self._killed_by_us = True
        self.meter.read()
        self._signal_group()
        await self._reap()

    async def stop(self) -> None:
        """Let an idle child exit; kill it if it does not within a second."""
        if self.alive:
            with contextlib.suppress(OSError, TimeoutError):
                await self._send(Exit())
                assert self._process is not None
                async with asyncio.timeout(1):
                    await self._process.wait()
        await self.kill()

    def _signal_group(self) -> None:
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    async def _send(self, order: Order) -> None:
        self._writer.write(encode(order))
        await self._writer.drain()

    async def _next(self) -> Any:
        """Return the next message; None if the child is gone or has sent what is not a message."""
        try:
            line = await self._reader.readline()
            return decode(line) if line.endswith(b"\n") else None
        except ConnectionError:
            return None
        except ValueError as error:
            self._output.append(f"The executor sent an invalid message: {error}")
            self._signal_group()
            return None

    async def _died(self) -> Outcome:
        code = await self._reap()
        words = "\n".join(self._output.last)
        if self._killed_by_us:
            return Canceled()
        if code is None:
            # It was at work on this job when it closed its line, and a job that hangs the kernel may do so each time.
            failure = Failure.of("executor_crashed", "The executor hangs, and could not be killed.", detail=words)
        elif code == 0:
            failure = Failure.of("no_result", "The executor exited without a result.", detail=words)
        elif code == -signal.SIGKILL:
            message = "The executor was killed (SIGKILL); the kernel does that when memory runs out."
            failure = Failure.of("executor_crashed", message, detail=words)
        else:
            how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
            failure = Failure.of("executor_crashed", f"The executor died with {how}.", detail=words)
        return Failed(failure, crashed=True)

    async def _reap(self) -> int | None:
        """Wait for the end of the child and of all it left; its exit code. A kill, and the end it causes, come here.

        None for a child that hangs in the kernel. The next job gets a new one; asyncio reaps the old one if it ends.
        """
        process = self._process
        if process is None:
            return self._code
        self._code = code = await self._end_of(process)
        if code is None:
            log.error("executor_hangs", lane=self._lane, pid=process.pid)
        self._writer.close()
        await asyncio.wait([self._listener], timeout=0.5)
        self._listener.cancel()
        await asyncio.gather(self._listener, return_exceptions=True)
        if self._process is process:
            self._process = None
        if left := await asyncio.to_thread(processes.kill_marked, self._mark, whole=True):
            log.warning("stray_processes_killed", lane=self._lane, processes=left)
        return code

    async def _end_of(self, process: asyncio.subprocess.Process) -> int | None:
        """The exit code, or None when not even SIGKILL ends it."""
        for _ in range(2):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(END_PATIENCE_S):
                    return await process.wait()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        return None
