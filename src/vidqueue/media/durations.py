"""Durations of the files that are probed, collected for whoever counts them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

_collected: ContextVar[dict[Path, float] | None] = ContextVar("collected", default=None)


@contextmanager
def collected() -> Iterator[dict[Path, float]]:
    """Yield a dictionary that gets the duration of each file that this thread probes in the block, in seconds."""
    seen_s: dict[Path, float] = {}
    token = _collected.set(seen_s)
    try:
        yield seen_s
    finally:
        _collected.reset(token)


def note(path: Path, duration_s: float) -> None:
    """Write down the duration of a file, if somebody collects."""
    if (seen_s := _collected.get()) is not None:
        seen_s[path] = duration_s
