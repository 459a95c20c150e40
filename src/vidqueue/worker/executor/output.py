"""Standard output and error of an executor: lines of the running job's log, and the last lines before a crash."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import struct
import termios
from collections import deque
from collections.abc import Callable

from vidqueue.processors.lines import LineSplitter, PrintedLine
from vidqueue.progress import LogLine
from vidqueue.sanitize import Redactor, sanitize_text

KEPT = 30
LONGEST = 500
# The maximum number of iterations of the event loop to wait for the pipe to become empty.
MOST_TURNS = 100


class _Lines(asyncio.Protocol):
    """Takes the lines of a pipe in the step of the event loop that reads it; `ended` is done once it is closed."""

    def __init__(self, take: Callable[[PrintedLine], None]) -> None:
        self._take = take
        self._splitter = LineSplitter()
        self.ended = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        for line in self._splitter.feed(data):
            self._take(line)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        if not self.ended.done():
            self.ended.set_result(None)

    def finish(self) -> None:
        """Take what is left without an end of line."""
        for line in self._splitter.rest():
            self._take(line)


class ProcessOutput:
    """Reads what a process and all its children write to standard output and error, which is one pipe.

    Attributes:
        last: the last lines, which explain a crash.
        redactor: hides the secrets of the running job's processor.
        on_line: gets each line of the running job; None between jobs.
    """

    def __init__(self) -> None:
        self.last: deque[str] = deque(maxlen=KEPT)
        self.redactor = Redactor()
        self.on_line: Callable[[LogLine], None] | None = None
        self._pipe = -1

    async def read(self, pipe: int) -> None:
        """Read a pipe until all writers are gone, and close it."""
        lines = _Lines(self._take)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: lines, os.fdopen(pipe, "rb"))
        self._pipe = pipe
        try:
            await lines.ended
        finally:
            self._pipe = -1
            lines.finish()
            transport.close()

    async def drained(self) -> None:
        """Wait until what the process has written so far is read."""
        for _ in range(MOST_TURNS):
            if self._waiting() == 0:
                break
            await asyncio.sleep(0)

    def append(self, text: str) -> None:
        """Add a line that did not come through the pipe to the last lines."""
        self.last.append(text[:LONGEST])

    def _take(self, line: PrintedLine) -> None:
        if not line.text.strip() or line.redrawn:
            return
        text = self.redactor.text(sanitize_text(line.text))
        self.append(text)
        if self.on_line is not None:
            self.on_line(LogLine(text))

    def _waiting(self) -> int:
        """Return the number of bytes in the pipe."""
        with contextlib.suppress(OSError, ValueError):  # it is not open yet, or not any more
            return int(struct.unpack("i", fcntl.ioctl(self._pipe, termios.FIONREAD, b"\0\0\0\0"))[0])
        return 0
