"""Tells whether a source was still being written when it was sent: the result then lacks what came later."""

from __future__ import annotations

import stat
from pathlib import Path

GROWN = "The source has grown since it was sent: the result lacks the rest. Submit it again when it is complete."


def state_of(value: str) -> tuple[int, int] | None:
    """Size and time of the last change of a regular file; None for what is none, such as standard input."""
    try:
        facts = Path(value).stat()
    except OSError:
        return None
    return (facts.st_size, facts.st_mtime_ns) if stat.S_ISREG(facts.st_mode) else None


def size_of(value: str) -> int | None:
    """The size of a file of this machine; None for what is none, such as a reference."""
    seen = state_of(value)
    return seen[0] if seen else None


def has_grown(value: str, size: int | None) -> bool:
    """True if a file is larger than it was: it was still being written when it was sent."""
    return size is not None and (size_of(value) or 0) > size
