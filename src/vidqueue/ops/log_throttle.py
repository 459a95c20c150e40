"""Rate limits for log lines: a fault that repeats a thousand times a second is logged a few times, with a count."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

EVERY_S = 60.0
# Tracebacks of one event in `EVERY_S` seconds; further ones would be the same.
MOST_LINES, MOST_TRACEBACKS = 100, 5
MOST_KINDS = 1000


class ThrottledEvent:
    """Logs the first of a run of equal faults at once, and one line a minute for as long as they go on."""

    def __init__(self, log: Callable[..., object], event: str) -> None:
        self._log = log
        self._event = event
        self._told_at = float("-inf")
        self._untold = 0

    def tell(self, **facts: Any) -> None:
        """Log the error, or count it."""
        now = time.monotonic()
        if now - self._told_at < EVERY_S:
            self._untold += 1
            return
        if self._untold:
            facts["more_since_last_line"] = self._untold
        self._told_at, self._untold = now, 0
        self._log(self._event, **facts)


@dataclass(slots=True)
class _Count:
    """The lines of one kind since `since`, and how many were left out."""

    since: float
    lines: int = 0
    left_out: int = 0


class Limiter:
    """Rate limit for the warnings and errors of one event; the next line says how many were suppressed."""

    def __init__(self) -> None:
        self._counts: OrderedDict[tuple[str, str, str], _Count] = OrderedDict()
        self._lock = threading.Lock()

    def admit(self, record: logging.LogRecord) -> bool:
        """True if a record is to be logged: a filter of `logging`. It may lose its traceback."""
        if record.levelno < logging.WARNING:
            return True
        with self._lock:
            count = self._count_of(_kind_of(record))
            count.lines += 1
            if count.lines > MOST_LINES:
                count.left_out += 1
                return False
            left_out, count.left_out = count.left_out, 0
        if left_out and isinstance(record.msg, dict):
            record.msg["more_since_last_line"] = left_out
        if count.lines > MOST_TRACEBACKS:
            _drop_traceback(record)
        return True

    def _count_of(self, kind: tuple[str, str, str]) -> _Count:
        now = time.monotonic()
        count = self._counts.pop(kind, None) or _Count(now)
        if now - count.since >= EVERY_S:
            count = _Count(now, left_out=count.left_out)
        self._counts[kind] = count
        if len(self._counts) > MOST_KINDS:
            self._counts.popitem(last=False)
        return count


def _kind_of(record: logging.LogRecord) -> tuple[str, str, str]:
    # Lines of other libraries have no event, and their texts may differ each time.
    event = str(record.msg.get("event", "")) if isinstance(record.msg, dict) else ""
    error = _exc_info(record)
    return record.name, event[:100], error[0].__name__ if isinstance(error, tuple) and error[0] else ""


def _exc_info(record: logging.LogRecord) -> Any:
    error = record.msg.get("exc_info") if isinstance(record.msg, dict) else record.exc_info
    return sys.exc_info() if error is True else error


def _drop_traceback(record: logging.LogRecord) -> None:
    error = _exc_info(record)
    if isinstance(record.msg, dict):
        record.msg.pop("exc_info", None)
        if isinstance(error, tuple) and error[1] is not None:
            record.msg["error"] = f"{type(error[1]).__name__}: {error[1]}"
    record.exc_info = None
