"""Chooses a ComfyUI server for a graph: a free one, best one that has the graph's models loaded, and reserves it."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from vidqueue.ops import active_time
from vidqueue.processors.base import Context, WaitingError
from vidqueue.processors.comfy.client import AwayError, Client, DeniedError, Line, succeeded
from vidqueue.processors.comfy.graph import models_of
from vidqueue.progress import Progress

# A lane waits so long for a server that is busy; then the job goes back into the queue.
PATIENCE_S = 20.0
TICK_S = 0.5
BUSY_RETRY_S = 5.0
AWAY_RETRY_S = 10.0


@dataclass(frozen=True, slots=True)
class Choice:
    """A server, and what is to be known of it."""

    name: str
    client: Client
    line: Line


@contextmanager
def chosen(
    clients: Mapping[str, Client], graph: Mapping[str, Any], ours: Iterable[str], ctx: Context
) -> Iterator[Choice]:
    """Reserve a server for the time of the block: the one that has a prompt of `ours`, else a free one.

    Raises:
        WaitingError: every server is at work or away.
    """
    deadline = active_time.now() + PATIENCE_S
    earlier = list(ours)
    while True:
        ctx.progress(Progress(0.0, stage="wait", message="Waits for a free ComfyUI server"))
        found, away = _ask_all(clients)
        for choice in _ranked(found, models_of(graph), earlier):
            if (reserved := _reserve(choice.client.url)) is not None:
                with reserved:
                    yield choice
                return
        if not found:
            raise WaitingError("peer_unavailable", f"No ComfyUI server answers: {away}.", retry_after_s=AWAY_RETRY_S)
        if active_time.now() > deadline:
            names = ", ".join(choice.name for choice in found)
            raise WaitingError("peer_busy", f"Every ComfyUI server is at work ({names}).", retry_after_s=BUSY_RETRY_S)
        ctx.canceled.wait(TICK_S)


def _ask_all(clients: Mapping[str, Client]) -> tuple[list[Choice], str]:
    found, away = [], []
    for name, client in clients.items():
        try:
            found.append(Choice(name, client, client.line()))
        except (AwayError, DeniedError) as error:
            away.append(f"{name}: {error}")
    return found, "; ".join(away)


def _ranked(found: list[Choice], models: frozenset[str], ours: list[str]) -> list[Choice]:
    """Servers that may take the graph, best first."""
    at_ours = [choice for choice in found if any(one in choice.line or _has_made(choice.client, one) for one in ours)]
    if at_ours:
        return at_ours
    free = [choice for choice in found if choice.line.empty]
    return sorted(free, key=lambda choice: _distance(choice.client, models)) if len(free) > 1 else free


def _has_made(client: Client, prompt_id: str) -> bool:
    """True if a prompt of an earlier attempt has ended well there, while nobody looked."""
    try:
        ended = client.history(prompt_id)
    except (AwayError, DeniedError):
        return False
    return ended is not None and succeeded(ended)


def _distance(client: Client, models: frozenset[str]) -> int:
    """0 if the models are loaded, 1 if nothing is, 2 if others are, which would have to go."""
    try:
        loaded = models_of(client.last_graph())
    except (AwayError, DeniedError):
        return 3
    if models and models <= loaded:
        return 0
    return 1 if not loaded else 2


def _reserve(url: str) -> socket.socket | None:
    """Reserve a server among the lanes of this machine; None if another lane has it.

    A name of an abstract socket belongs to one process at a time, and is free as soon as that process ends, however.
    """
    name = f"\0vidqueue-comfyui-{os.getuid()}-{hashlib.sha256(url.encode()).hexdigest()[:32]}"
    reserved = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        reserved.bind(name)
    except OSError:
        reserved.close()
        return None
    return reserved
