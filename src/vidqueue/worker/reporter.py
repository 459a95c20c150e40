"""Writes an attempt's progress and log lines to the database: throttled, in order, buffered while it is away."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace

import structlog

from vidqueue.db.pool import Database
from vidqueue.db.tables import attempts
from vidqueue.errors import VidqueueError
from vidqueue.job import AttemptRef
from vidqueue.progress import LogLine, Progress, Throttle

# How long a log line may wait for others, to be written with them.
LINES_WAIT_S = 0.25
RETRY_S = 0.5
LEVELS = frozenset({"debug", "info", "warning", "error"})
# The share of a log that is kept for its last lines, which say why a talkative program has failed.
LAST_PART = 4

# How many stages are remembered; a processor may name one for each picture.
MOST_STAGES = 1000

log = structlog.get_logger(__name__)


class Reporter:
    """Writes progress and log lines of one attempt to the database. `hear` never blocks.

    The newest progress is always written in the end: a report that comes too soon after another one is delayed.
    Of a log that is too long, the first lines are written as they come, and the last ones when the attempt has ended.
    `heard_at` is the time of the last step forward, by `clock`.
    """

    def __init__(
        self,
        database: Database,
        ref: AttemptRef,
        *,
        max_log_lines: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._ref = ref
        self._loop = asyncio.get_running_loop()
        self._throttle = Throttle()
        self._progress: Progress | None = None
        self._furthest = -1.0
        self._stages: set[str] = set()
        self._lines: deque[LogLine] = deque()
        last = max_log_lines // LAST_PART
        # Two lines tell what was left out.
        self._lines_left = max_log_lines - last - 2
        self._last: deque[LogLine] = deque(maxlen=last)
        self._left_out = 0
        self._written = 0
        # A write that failed or was cancelled may have been committed.
        self._in_doubt = False
        self._timer: asyncio.Handle | None = None
        self._due = 0.0
        self._writer: asyncio.Task[None] | None = None
        self._clock = clock
        self.heard_at = clock()

    def touch(self) -> None:
        """Count this moment as a step forward."""
        self.heard_at = self._clock()

    def hear(self, message: Progress | LogLine) -> None:
        """Queue a message of the executor."""
        match message:
            case LogLine(text, level):
                self._hear_line(LogLine(text, level if level in LEVELS else "info"))
            case Progress():
                # A fraction that was not a number in the child arrives as None.
                self._hear_progress(replace(message, fraction=message.fraction or 0.0))

    async def close(self, *, succeeded: bool) -> None:
        """Write what is buffered. The progress of a success is not written, because finishing sets it to 1."""
        if succeeded:
            self._progress = None
        self._buffer_last()
        if self._timer is not None:
            self._timer.cancel()
        if self._writer is not None:
            await asyncio.gather(self._writer, return_exceptions=True)
        await self._try_to_write()

    def _hear_line(self, line: LogLine) -> None:
        """Buffer a log line to be written soon, or keep it among the last ones."""
        if self._lines_left > 0:
            self._lines_left -= 1
            self._buffer(line)
            return
        if not self._last:
            said = f"The log is long: the last {self._last.maxlen} lines follow when the attempt has ended."
            self._buffer(LogLine(said, "warning"))
        self._left_out += len(self._last) == self._last.maxlen
        self._last.append(line)

    def _buffer_last(self) -> None:
        if self._left_out:
            self._buffer(LogLine(f"{self._left_out} lines are left out here.", "warning"))
        for line in self._last:
            self._buffer(line)
        self._last.clear()
        self._left_out = 0

    def _buffer(self, line: LogLine) -> None:
        self._lines.append(line)
        self._write_by(self._loop.time() + LINES_WAIT_S)

    def _hear_progress(self, progress: Progress) -> None:
        # Only a step forward counts: a processor that repeats itself is as stuck as a silent one.
        if progress.fraction > self._furthest or progress.stage not in self._stages:
            self.touch()
            self._furthest = max(self._furthest, progress.fraction)
            if len(self._stages) >= MOST_STAGES:
                self._stages.clear()
            self._stages.add(progress.stage)
        self._progress = progress
        self._write_by(self._throttle.due_at(progress))

    def _write_by(self, moment: float) -> None:
        """Schedule a write for this moment, unless an earlier one is scheduled."""
        if self._timer is None or moment < self._due:
            if self._timer is not None:
                self._timer.cancel()
            # uvloop returns a handle without a time for a moment that has passed.
            self._timer, self._due = self._loop.call_at(moment, self._begin_to_write), moment

    def _begin_to_write(self) -> None:
        self._timer = None
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._try_to_write(), name="reporter")
        else:
            self._write_by(self._loop.time() + RETRY_S)

    async def _try_to_write(self) -> None:
        """Write what is buffered; an error here never decides the outcome of the attempt."""
        try:
            await self._write()
        except VidqueueError:
            self._write_by(self._loop.time() + RETRY_S)  # the database is away: kept for the next round
        except Exception:
            log.exception("report_refused_by_database")
            self._lines.clear()
            self._progress = None

    async def _write(self) -> None:
        lines, progress = list(self._lines), self._progress
        if not lines and progress is None:
            return
        if progress is not None:
            self._throttle.wrote(progress, self._loop.time())
        in_doubt, self._in_doubt = self._in_doubt, True
        async with self._database.statement() as connection:
            await attempts.report(
                connection, self._ref, lines=lines, progress=progress, written=self._written, in_doubt=in_doubt
            )
        self._in_doubt = False
        self._written += len(lines)
        for _ in lines:
            self._lines.popleft()
        if self._progress is progress:
            self._progress = None
        elif self._progress is not None:
            self._write_by(self._throttle.due_at(self._progress))
