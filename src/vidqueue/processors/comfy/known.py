"""What servers say of their nodes, kept for a minute, so that a submission is checked without asking each time."""

from __future__ import annotations

import threading
import time
from typing import Any

from vidqueue.processors.comfy.client import AwayError, Client, DeniedError

KEPT_S = 60.0
# A server that was away is not asked again at each submission.
AWAY_KEPT_S = 15.0
# Older than this, an answer that would refuse a job is asked for once more: a model may have been added since.
FRESH_S = 2.0


class NodeCache:
    """Descriptions of nodes by the address of the server. Calls block while a server is asked."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[str, tuple[float, dict[str, Any] | None]] = {}

    def info(self, client: Client, *, not_older_than_s: float = KEPT_S) -> dict[str, Any] | None:
        """Return the descriptions; None if the server cannot be asked."""
        with self._lock:
            asked_at, info = self._kept.get(client.url, (float("-inf"), None))
        age = time.monotonic() - asked_at
        if age < (not_older_than_s if info is not None else AWAY_KEPT_S):
            return info
        try:
            info = client.object_info()
        except (AwayError, DeniedError):
            info = None
        with self._lock:
            self._kept[client.url] = (time.monotonic(), info)
        return info


NODES = NodeCache()
