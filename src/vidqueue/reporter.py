"""Carries an attempt's progress and log lines to the database: thinned, in order, and buffered while it is away."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from types import TracebackType
from typing import Self

from vidqueue.database import Database
from vidqueue.errors import VidqueueError
from vidqueue.executor.messages import Logged, Progressed
from vidqueue.job import Ticket
from vidqueue.progress import LogLine, Progress, Throttle
from vidqueue.store import attempts

FLUSH_S = 0.25
LONGEST_LOG_LINE = 4000


class Reporter:
    """Open for the time of one attempt. `hear` never waits; a task of its own writes."""

    def __init__(self, database: Database, ticket: Ticket, *, max_log_lines: int) -> None:
        self._database = database
        self._ticket = ticket
        self._throttle = Throttle()
        self._progress: Progress | None = None
        self._latest: Progress | None = None
        self._lines: deque[LogLine] = deque()
        self._lines_left = max_log_lines
        self.heard_at = time.monotonic()

    async def __aenter__(self) -> Self:
        self._writer = asyncio.create_task(self._write_now_and_then(), name="reporter")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.cancel()
        await asyncio.gather(self._writer, return_exceptions=True)
        with contextlib.suppress(VidqueueError):
            await self._write()

    def hear(self, message: Progressed | Logged) -> None:
        """Take a message of the executor."""
        match message:
            case Logged(text, level):
                self.log(LogLine(text[:LONGEST_LOG_LINE], level))
            case Progressed(fraction, stage, text, fps, speed, eta):
                self._hear_progress(Progress(fraction, stage, text, fps, speed, eta))

    def log(self, line: LogLine) -> None:
        """Keep a line, up to the bound of one attempt."""
        self._lines_left -= 1
        if self._lines_left > 0:
            self._lines.append(line)
        elif self._lines_left == 0:
            self._lines.append(LogLine("The log is full; later lines are dropped.", "warning"))

    def _hear_progress(self, progress: Progress) -> None:
        # Only a step forward counts: a processor that repeats itself is as stuck as a silent one.
        if self._latest is None or progress.fraction > self._latest.fraction or progress.stage != self._latest.stage:
            self.heard_at = time.monotonic()
        self._latest = progress
        if self._throttle.admits(progress, time.monotonic()):
            self._progress = progress

    async def _write_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_S)
            with contextlib.suppress(VidqueueError):  # kept for the next round
                await self._write()

    async def _write(self) -> None:
        if lines := list(self._lines):
            async with self._database.transaction() as connection:
                await attempts.append_log(connection, self._ticket, lines)
            for _ in lines:
                self._lines.popleft()
        if (progress := self._progress) is not None:
            async with self._database.transaction() as connection:
                await attempts.note_progress(connection, self._ticket, progress)
            if self._progress is progress:
                self._progress = None
