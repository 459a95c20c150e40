"""Requests of one run to a Cog server: health, version, cancel."""

from __future__ import annotations

import re
import socket
from contextlib import suppress
from typing import Any

from vidqueue.processors.base import Context, WaitingError
from vidqueue.processors.remote.cog_health import SPOILED
from vidqueue.processors.remote.cog_reports import LARGEST_LINE
from vidqueue.processors.remote.left_work import NOT_NOW
from vidqueue.processors.remote.peer import Peer, PeerError

ASK_S = 5.0
# Attempts of a job whose predictions may be left on a server that does not see who has gone.
EARLIER = 10
_VERSION = re.compile(r"(\d{1,4})\.(\d{1,4})")
NEWEST = (9999, 0)
# From here on a server answers other questions while a request for a prediction is open.
ANSWERS_SINCE = (0, 13)
# From here on it cancels a prediction whose request is closed, and only a report has the log of one that failed.
CANCELS_SINCE = (0, 17)


class CogServer:
    """One server. `external` is one that the daemon does not start."""

    def __init__(self, name: str, url: str, ctx: Context, *, external: bool) -> None:
        self.peer = Peer(url)
        self._name = name
        self._ctx = ctx
        self._external = external

    def health(self) -> tuple[str, dict[str, Any]]:
        """The word of the server about itself, and all that it says; an older one that has none is READY.

        Raises:
            WaitingError: it does not answer as Cog does.
        """
        try:
            status, answer = self.peer.ask("GET", "/health-check")
        except PeerError as error:
            message = f"The server of {self._name} does not answer: {error}."
            raise WaitingError("peer_unavailable", message, retry_after_s=10) from None
        if isinstance(answer, dict) and isinstance(answer.get("status"), str):
            return str(answer["status"]).upper(), answer
        if status == 404:
            return "READY", {}
        message = f"The server of {self._name} answers, but not like a Cog server."
        raise WaitingError("peer_unavailable", message, retry_after_s=30)

    def check_ready(self) -> str:
        """Return the word of the server about itself.

        Raises:
            WaitingError: it still starts, or has to be started anew: it says that it is busy for ever then.
        """
        health, told = self.health()
        if health == "STARTING":
            raise WaitingError("peer_starting", f"The server of {self._name} is still starting.", retry_after_s=5)
        if health in SPOILED:
            setup = told.get("setup")
            words = str(setup.get("logs", "")) if health == "SETUP_FAILED" and isinstance(setup, dict) else ""
            for line in words.splitlines()[-20:]:
                self._ctx.log(line[:LARGEST_LINE], "warning")
            message = f"The server of {self._name} reports the health {health}; it must be started again."
            # The daemon does so for a server of its own when the job comes back.
            raise WaitingError("peer_unavailable", message, retry_after_s=15 if self._external else 1)
        return health

    def is_lost(self) -> bool:
        """True if it is away, or does not recover."""
        try:
            return self.health()[0] in SPOILED
        except WaitingError:
            return True

    def version(self) -> tuple[int, int]:
        """The version of Cog, as far as it tells: those before 0.12 have none to tell, and what is unknown is new."""
        with suppress(PeerError):
            _, root = self.peer.ask("GET", "/", idle_s=ASK_S)
            if isinstance(root, dict) and "docs_url" in root:
                told = _VERSION.match(str(root.get("cog_version", "0.9")))
                return NEWEST if told is None else (int(told[1]), int(told[2]))
        return NEWEST

    def cancel(self, prediction: str) -> None:
        """Cancel a prediction, if it is there."""
        with suppress(PeerError):
            self.peer.ask("POST", f"/predictions/{prediction}/cancel", {}, idle_s=3)

    def cancel_earlier(self, prediction: str) -> None:
        """Cancel what earlier attempts of the job may have left there: an attempt is called `<job>-<number>`."""
        job, _, number = prediction.rpartition("-")
        count = int(number) if number.isdigit() else 1
        with suppress(PeerError):
            for earlier in range(count - 1, max(0, count - 1 - EARLIER), -1):
                self.peer.ask("POST", f"/predictions/{job}-{earlier}/cancel", {}, idle_s=3)

    def connects(self) -> bool:
        """True if its machine takes connections, which says that it is not gone, and no more."""
        try:
            socket.create_connection((self.peer.url.host, self.peer.url.port), ASK_S).close()
        except OSError:
            return False
        return True


def cancel_left(url: str, prediction: str) -> bool:
    """Cancel a prediction of a job that has ended; False if the server does not hear it now."""
    try:
        return Peer(url).ask("POST", f"/predictions/{prediction}/cancel", {}, idle_s=ASK_S)[0] not in NOT_NOW
    except PeerError:
        return False
