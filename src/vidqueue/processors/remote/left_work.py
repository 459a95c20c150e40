"""Stops work that an attempt left on a server that is polled, of a job that has ended."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vidqueue.processors.base import WaitingError
from vidqueue.processors.remote.kept_ids import KeptId
from vidqueue.processors.remote.keys import bearer
from vidqueue.processors.remote.peer import Peer, PeerError

ASK_S = 5.0
# Answers of a server that may do later what it was told.
NOT_NOW = frozenset({401, 403, 408, 425, 429, 500, 502, 503, 504})
# The words of several servers for one thing.
DONE = frozenset({"completed", "succeeded", "success"})
FAILED = frozenset({"failed", "error", "cancelled", "canceled", "aborted", "expired", "rejected"})


def end_left(kept: KeptId, key_file: Path | None, path: str, stop: tuple[str, str]) -> bool:
    """Stop the work, unless it has ended; False if the server cannot be told now.

    Args:
        kept: what is known of the work.
        key_file: where the key of the server stands.
        path: of all work on the server.
        stop: the method of the request that stops it, and what comes after the path of the work.
    """
    try:
        peer = Peer(kept.server, bearer(key_file, lambda key: None))
        status, told = peer.ask("GET", f"{path}/{kept.remote}", idle_s=ASK_S)
        if status in NOT_NOW:
            return False
        if status != 200 or not isinstance(told, dict) or status_of(told) in DONE | FAILED or kept.is_other(told):
            return True
        method, action = stop
        return peer.ask(method, f"{path}/{kept.remote}{action}", {} if method == "POST" else None)[0] not in NOT_NOW
    except (PeerError, WaitingError):
        return False


def status_of(work: Mapping[str, Any]) -> str:
    """The word of the server about the work."""
    return str(work.get("status", "")).lower()
