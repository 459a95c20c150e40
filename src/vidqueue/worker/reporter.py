"""Carries an attempt's progress and log lines to the database: thinned, in order, and buffered while it is away."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import replace
from types import TracebackType
from typing import Self

import structlog

from vidqueue.db.pool import Database
from vidqueue.db.tables import attempts
from vidqueue.errors import VidqueueError
from vidqueue.job import AttemptRef
from vidqueue.progress import LogLine, Progress, Throttle

FLUSH_S = 0.25
LEVELS = frozenset({"debug", "info", "warning", "error"})

log = structlog.get_logger(__name__)


class Reporter:
    """Open for the time of one attempt. `hear` never waits; a task of its own writes."""

    def __init__(self, database: Database, ref: AttemptRef, *, max_log_lines: int) -> None:
        self._database = database
        self._ticket = ref
        self._throttle = Throttle()
        self._progress: Progress | None = None
        self._furthest = -1.0
        self._stages: set[str] = set()
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
        await self._try_to_write()

    def hear(self, message: Progress | LogLine) -> None:
        """Take a message of the executor."""
        match message:
            case LogLine(text, level):
                self._hear_line(LogLine(text, level if level in LEVELS else "info"))
            case Progress():
                # What was no number in the child is none here.
                self._hear_progress(replace(message, fraction=message.fraction or 0.0))

    def _hear_line(self, line: LogLine) -> None:
        """Keep a line, up to the bound of one attempt."""
        self._lines_left -= 1
        if self._lines_left > 0:
            self._lines.append(line)
        elif self._lines_left == 0:
            self._lines.append(LogLine("The log is full; later lines are dropped.", "warning"))

    def _hear_progress(self, progress: Progress) -> None:
        # Only a step forward counts: a processor that goes round in circles is as stuck as a silent one.
        if progress.fraction > self._furthest or progress.stage not in self._stages:
            self.heard_at = time.monotonic()
            self._furthest = max(self._furthest, progress.fraction)
            self._stages.add(progress.stage)
        if self._throttle.admits(progress, time.monotonic()):
            self._progress = progress

    async def _write_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_S)
            await self._try_to_write()

    async def _try_to_write(self) -> None:
        """Words about an attempt never decide how it ends."""
        try:
            await self._write()
        except VidqueueError:
            pass  # the database is away: kept for the next round
        except Exception:
            log.exception("report_refused_by_database")
            self._lines.clear()
            self._progress = None

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
