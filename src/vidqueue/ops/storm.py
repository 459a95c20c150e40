"""Rate limit for log lines: a fault that repeats a thousand times a second is logged once, with a count."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

EVERY_S = 60.0


class Storm:
    """Logs the first of a run of equal faults at once, and one line a minute for as long as they go on."""

    def __init__(self, log: Callable[..., object], event: str) -> None:
        self._log = log
        self._event = event
        self._told_at = float("-inf")
        self._untold = 0

    def tell(self, **facts: Any) -> None:
        """Log the fault, or count it."""
        now = time.monotonic()
        if now - self._told_at < EVERY_S:
            self._untold += 1
            return
        if self._untold:
            facts["more_since_last_line"] = self._untold
        self._told_at, self._untold = now, 0
        self._log(self._event, **facts)
