"""Makes what a processor prints, logs and warns lines of its job's log, and its progress bars the job's progress.

It is installed once, before any processor is imported, because libraries keep the streams that they find.
"""

from __future__ import annotations

import io
import logging
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from vidqueue.processors.lines import LineSplitter, PrintedLine, bar_of
from vidqueue.progress import LogLine, Progress

Send = Callable[[LogLine | Progress], None]

_LEVELS = ((logging.ERROR, "error"), (logging.WARNING, "warning"), (logging.INFO, "info"))


class Capture:
    """Where prints, log records and bars of the running job go; nowhere but to the process's own output between jobs.

    Attributes:
        send: sends a line or a progress report of the running job; None between jobs.
    """

    def __init__(self) -> None:
        self.send: Send | None = None
        self._reports_itself = False
        self._streams: list[_Stream] = []

    def install(self) -> None:
        """Put streams and a handler of log records in the places of those of this process."""
        sys.stdout, sys.stderr = self._stream(sys.stdout), self._stream(sys.stderr)
        logging.captureWarnings(True)
        root = logging.getLogger()
        root.addHandler(_Handler(self))
        root.setLevel(logging.INFO)

    @contextmanager
    def job(self, send: Send) -> Iterator[Callable[[Progress], None]]:
        """Send what is printed in the block to the job's log; yields what the processor reports progress with.

        Bars that it prints count as progress until it reports some by itself.
        """

        def report(progress: Progress) -> None:
            self._reports_itself = True
            send(progress)

        # Python shows a warning once for each place; this lets each job have its own.
        warnings.simplefilter("default", append=True)
        self.send, self._reports_itself = send, False
        try:
            yield report
            for stream in self._streams:
                stream.finish()
        finally:
            self.send = None

    def hear(self, line: PrintedLine) -> None:
        """Take one printed line. Drawn again and again, it is a bar; of another kind, nothing to keep."""
        seen = bar_of(line.text) if line.redrawn or "%|" in line.text else None
        if seen is not None and not self._reports_itself:
            self._send(seen)
        if line.text.strip() and not line.redrawn:
            self._send(LogLine(line.text))

    def _send(self, message: LogLine | Progress) -> None:
        if self.send is not None:
            self.send(message)

    def _stream(self, original: TextIO) -> _Stream:
        self._streams.append(_Stream(self, original))
        return self._streams[-1]


class _Stream(io.TextIOBase):
    """A text stream whose lines are heard while a job runs. Its descriptor is that of the stream it stands for."""

    def __init__(self, capture: Capture, original: TextIO) -> None:
        self._capture = capture
        self._original = original
        self._splitter = LineSplitter()
        self._lock = threading.RLock()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return "utf-8"

    @property
    def buffer(self) -> Any:
        return self._original.buffer

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._original.fileno()

    def write(self, text: str) -> int:
        if self._capture.send is None:
            return self._original.write(text)
        with self._lock:
            for line in self._splitter.feed(text):
                self._capture.hear(line)
        return len(text)

    def flush(self) -> None:
        self._original.flush()

    def finish(self) -> None:
        """Hear what is left without an end of line."""
        with self._lock:
            for line in self._splitter.rest():
                self._capture.hear(line)


class _Handler(logging.Handler):
    """Sends log records as lines of the job's log."""

    def __init__(self, capture: Capture) -> None:
        super().__init__()
        self._capture = capture

    def emit(self, record: logging.LogRecord) -> None:
        if self._capture.send is None:
            return
        level = next((name for least, name in _LEVELS if record.levelno >= least), "debug")
        named = "" if record.name in ("root", "py.warnings") else f"{record.name}: "
        for line in f"{named}{self.format(record)}".splitlines():
            if line.strip():
                self._capture.send(LogLine(line, level))
