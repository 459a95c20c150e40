"""Health check of a managed peer: asks the server how it is, and decides when only a restart helps."""

from __future__ import annotations

import contextlib
import time

from vidqueue.errors import VidqueueError
from vidqueue.ops.threads import ThreadPool
from vidqueue.processors.peers import Condition, PeerServer

# A server that is at work for nobody for so long goes on with a job that has ended; one that says nothing hangs.
BUSY_S, SILENT_S = 5.0, 30.0

# Servers are asked over HTTP in these threads; a call that hangs counts as no answer.
_threads = ThreadPool("peers", size=8, hangs_after_s=15, code="peer_lost")


class Health:
    """What a server has answered since the last job, or since its start."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin anew: a job has ended, or the server has become ready."""
        self._sound_at = self._calm_at = time.monotonic()

    async def ask(self, server: PeerServer, url: str) -> Condition:
        """Ask a server how it is; one that gives no answer is away."""
        with contextlib.suppress(VidqueueError):
            return await _threads.run(server.ask, url)
        return Condition("away", "it does not answer")

    async def complaint(self, server: PeerServer, url: str) -> str:
        """What is wrong with a server that no job has; empty if nothing is."""
        condition, now = await self.ask(server, url), time.monotonic()
        if condition.state in ("ready", "busy"):
            self._sound_at = now
        if condition.state != "busy":
            self._calm_at = now
        if condition.state == "broken":
            return condition.words or "it says that it is broken"
        if now > self._sound_at + SILENT_S:
            return f"it did not answer for {SILENT_S:g} s"
        return "it went on with work that had ended" if now > self._calm_at + BUSY_S else ""
