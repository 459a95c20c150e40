"""Opens the rooms, starts the halves, waits for a signal, closes everything in order. It only connects.

(The contract the other doors use; the body follows.)
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal

from vidqueue.config import Settings

Role = Literal["all", "api", "worker"]


@dataclass(frozen=True, slots=True)
class Running:
    """A daemon that takes jobs. `url` is None for a worker."""

    url: str | None
    database_url: str


@asynccontextmanager
async def running(settings: Settings, role: Role = "all") -> AsyncIterator[Running]:
    """A daemon for the time of the block; drains at its end."""
    raise NotImplementedError
    yield Running(None, "")


def serve(settings: Settings, role: Role = "all") -> int:
    """Run until SIGTERM or SIGINT; the exit code (0, 75 data folder in use, 78 configuration, 69 database)."""
    raise NotImplementedError
