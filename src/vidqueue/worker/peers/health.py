"""Health check of a managed peer: reads the server's status, and decides when it must be restarted."""

from __future__ import annotations

import contextlib
import time

from vidqueue.errors import VidqueueError
from vidqueue.ops.threads import ThreadPool
from vidqueue.processors.peers import Condition, PeerServer

# Seconds after which a server is restarted if it is still busy though it has no job, or if it does not respond.
BUSY_S, SILENT_S = 5.0, 30.0

# Threads for HTTP requests to servers; a request that hangs counts as no response.
_threads = ThreadPool("peers", size=8, hangs_after_s=15, code="peer_lost")


class Health:
    """The status of a server since its last job, or since its start."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Reset the times, because a job has ended or the server has become ready."""
        self._sound_at = self._calm_at = time.monotonic()

    async def ask(self, server: PeerServer, url: str) -> Condition:
        """Request the status of a server; without a response it counts as away."""
        with contextlib.suppress(VidqueueError):
            return await _threads.run(server.ask, url)
        return Condition("away", "it does not answer")

    async def complaint(self, server: PeerServer, url: str) -> str:
        """Return why an idle server must be restarted; empty if it is healthy."""
        condition, now = await self.ask(server, url), time.monotonic()
        if condition.state in ("ready", "busy"):
            self._sound_at = now
        if condition.state != "busy":
            self._calm_at = now
        if condition.state == "broken":
            return condition.words or "it reports that it is broken"
        if now > self._sound_at + SILENT_S:
            return f"it did not respond for {SILENT_S:g} s"
        return "it kept working on a job that had ended" if now > self._calm_at + BUSY_S else ""
