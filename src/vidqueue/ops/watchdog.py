"""The daemon's pulse: whether each thing that it lives by still goes round. A loop that turns proves little.

One that ends by an error begins again (`lasting`); one that hangs, or whose task is gone, cannot be helped from inside.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import TypeAlias

# A round may wait for the database as long as database.query_timeout_s allows, or for the embedded one to start.
LONGEST_ROUND_S = 90

# Called once a round.
Heartbeat: TypeAlias = Callable[[], None]


class Watchdog:
    """When each of them last went round. A database that is away stops none: every wait inside a round is bounded."""

    def __init__(self) -> None:
        self._beats: dict[str, float] = {}

    def of(self, name: str) -> Heartbeat:
        """What somebody shall call once a round; it is missed from now on."""
        heartbeat = partial(self._beat, name)
        heartbeat()
        return heartbeat

    def rest(self, name: str) -> None:
        """It has come to its proper end, and is not missed any more."""
        del self._beats[name]

    def stuck(self) -> list[str]:
        """Names of those that have not gone round for too long."""
        now = time.monotonic()
        return sorted(name for name, at in self._beats.items() if now - at > LONGEST_ROUND_S)

    def _beat(self, name: str) -> None:
        self._beats[name] = time.monotonic()
