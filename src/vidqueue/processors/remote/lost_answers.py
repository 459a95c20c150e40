"""Finds remote work whose response to the submit was lost, in the server's own list of its work.

A server that knows idempotency keys begins nothing twice, but most do not know them. What is listed is ours if it
was asked for with the same words, was created since we asked (by the server's own clock), and belongs to no other job.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

from vidqueue.processors.remote.kept_ids import KeptId
from vidqueue.processors.remote.peer import Peer, Reply

# Clocks of servers show whole seconds.
ROUNDING_S = 2.0


class UnlistedError(Exception):
    """The server does not list its work, so that nobody can know whether it has begun it."""


def found(peer: Peer, path: str, kept: KeptId, is_same: Callable[[Mapping[str, Any]], bool]) -> dict[str, Any] | None:
    """Return the work that the server began for us; None if it has begun none.

    Args:
        peer: the server.
        path: of the list.
        kept: what is known of the work.
        is_same: tells whether a piece of work was asked for with the same words.

    Raises:
        UnlistedError: there is no list, or it does not say when and with which words work was asked for.
        PeerError: the server does not answer.
    """
    reply = peer.reply("GET", path)
    listed = _listed(reply)
    begun = _now(reply) - (time.time() - kept.asked_at) - ROUNDING_S
    others = kept.others()
    ours = [
        (created, one)
        for one in listed
        if (created := _created(one)) is not None and created >= begun and is_same(one) and one["id"] not in others
    ]
    return min(ours, key=lambda one: one[0])[1] if ours else None


def _listed(reply: Reply) -> list[dict[str, Any]]:
    value = reply.value if reply.status == 200 and isinstance(reply.value, dict) else {}
    listed = value.get("data", value.get("results"))
    if not isinstance(listed, list):
        raise UnlistedError
    work = [one for one in listed if isinstance(one, dict) and isinstance(one.get("id"), str)]
    if work and not any(_created(one) is not None and ("prompt" in one or "input" in one) for one in work):
        raise UnlistedError
    return work


def _created(work: Mapping[str, Any]) -> float | None:
    """When a piece of work was asked for, in seconds since 1970; None if it does not say."""
    told = work.get("created_at")
    if isinstance(told, int | float) and not isinstance(told, bool):
        return float(told)
    try:
        return datetime.fromisoformat(str(told)).timestamp()
    except ValueError:
        return None


def _now(reply: Reply) -> float:
    """The time of the server's clock."""
    try:
        return parsedate_to_datetime(reply.headers.get("date", "")).timestamp()
    except (ValueError, TypeError, IndexError):
        return time.time()
