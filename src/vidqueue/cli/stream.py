"""Reads server-sent events, and resumes after a lost connection without missing any.

(WHATWG HTML, section 9.2: "Server-sent events".)
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx2

from vidqueue.cli.client import Client
from vidqueue.cli.exits import CommandError, Exit

# The daemon sends a comment every 15 seconds.
SILENCE_S = 40.0
PATIENCE_S = 300.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 5.0


@dataclass(frozen=True, slots=True)
class Message:
    """One event. `number` is what Last-Event-ID wants back."""

    number: str
    kind: str
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Watchdog:
    """The connection was opened or is alive; a moment to read the jobs again."""


@dataclass(frozen=True, slots=True)
class Broken:
    """The connection was lost; the next one is tried after a pause."""

    reason: str


def messages(client: Client, path: str, *, last: str | None = None) -> Iterator[Message | Watchdog | Broken]:
    """Events of `path`, without end. If the first connection fails this raises; later ones are tried again.

    Raises:
        CommandError: the daemon refused, or was away for longer than PATIENCE_S.
    """
    reached, alive_at, pause = False, time.monotonic(), FIRST_PAUSE_S
    while True:
        try:
            for arrived in _one_connection(client, path, last):
                reached, alive_at, pause = True, time.monotonic(), FIRST_PAUSE_S
                last = (arrived.number or last) if isinstance(arrived, Message) else last
                yield arrived
            reason = "the daemon closed the stream"
        except httpx2.TransportError as error:
            reason = str(error) or type(error).__name__
        except CommandError as error:
            # While it starts or has lost its database it answers 503; anything else is meant for us.
            if not reached or error.exit is not Exit.BUSY:
                raise
            reason = error.message
        if not reached or time.monotonic() - alive_at > PATIENCE_S:
            hint = "Submitted jobs are kept. Watch them again when the daemon is back."
            raise CommandError(f"No daemon answers at {client.url}: {reason}.", exit=Exit.UNAVAILABLE, hint=hint)
        yield Broken(reason)
        time.sleep(pause)
        pause = min(LONGEST_PAUSE_S, pause * 2)


def _one_connection(client: Client, path: str, last: str | None) -> Iterator[Message | Watchdog]:
    headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last} if last else {})
    with client.stream(path, headers=headers, timeout=httpx2.Timeout(SILENCE_S, connect=5)) as response:
        yield Watchdog()
        yield from parse(response.iter_lines())


def parse(lines: Iterable[str]) -> Iterator[Message | Watchdog]:
    """Events from the lines of a stream; comments become pulses."""
    fields: dict[str, str] = {}
    for line in lines:
        if line.startswith(":"):
            yield Watchdog()
        elif line:
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            fields[name] = f"{fields[name]}\n{value}" if name == "data" and "data" in fields else value
        elif "data" in fields:
            yield Message(fields.get("id", ""), fields.get("event", "message"), json.loads(fields["data"]))
            fields = {}
        else:
            fields = {}
