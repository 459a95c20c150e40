"""The reports (webhooks) of a Cog server about one prediction: its log, and how far it is."""

from __future__ import annotations

import queue
import re
import time
from contextlib import suppress
from typing import Any

from vidqueue.processors.base import Context
from vidqueue.progress import Progress

LARGEST_LINE = 4000
LAST_S = 1.0
# A bar as tqdm draws it; the last one counts.
_BAR = re.compile(r"(\d{1,3})%\s?\|")
_ENDS = ("succeeded", "failed", "canceled")


class CogReports:
    """Takes reports in any thread, and tells them to the attempt in that of the run."""

    def __init__(self, prediction: str, ctx: Context) -> None:
        self._prediction = prediction
        self._ctx = ctx
        self._queue = queue.SimpleQueue[Any]()
        self._log = ""
        self._tail = ""
        self.fraction = 0.0
        # True once the server has reported anything, and what it said of the end.
        self.heard = False
        self.end: dict[str, Any] | None = None

    def put(self, report: Any) -> None:
        """Take a report, whatever it is."""
        self._queue.put(report)

    def read(self) -> None:
        """Tell what has come."""
        with suppress(queue.Empty):
            while True:
                self._note(self._queue.get_nowait())

    def wait(self, seconds: float) -> None:
        """Tell the next thing that comes within a time."""
        with suppress(queue.Empty):
            self._note(self._queue.get(timeout=seconds))

    def read_the_last(self) -> None:
        """Wait a moment for the report of the end: only it has the log of a prediction that failed."""
        until = time.monotonic() + LAST_S
        while self.end is None and time.monotonic() < until:
            self.wait(0.1)

    def tell_log(self, log: str) -> None:
        """Write the lines that are whole and new; each report has the whole log so far. A bar ends with a return."""
        if not log.startswith(self._log):
            return
        self._tail = log[-LARGEST_LINE:]
        whole = max(log.rfind("\n") + 1, log.rfind("\r") + 1, len(self._log))
        for line in log[len(self._log) : whole].splitlines():
            if line.strip():
                self._ctx.log(line[:LARGEST_LINE])
        self._log = log[:whole]

    def _note(self, report: Any) -> None:
        if not isinstance(report, dict) or report.get("id") != self._prediction:
            return
        self.heard = True
        if isinstance(log := report.get("logs"), str):
            self.tell_log(log)
        metrics = report.get("metrics")
        told = metrics.get("progress") if isinstance(metrics, dict) else None
        if isinstance(told, int | float) and 0 <= told <= 1:
            self.fraction = max(self.fraction, float(told))
        elif bars := _BAR.findall(self._tail):
            self.fraction = max(self.fraction, min(1.0, int(bars[-1]) / 100))
        if report.get("status") in _ENDS:
            self.end = report
        self._ctx.report(Progress(self.fraction, stage="predict"))
