"""Reads the API key of a server from a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from vidqueue.processors.base import WaitingError


def bearer(file: Path | None, redact: Callable[[str], None]) -> dict[str, str]:
    """The header with the key; none if the server wants none. `redact` hides the key in logs and errors.

    Raises:
        WaitingError: the file cannot be read, which an operator can mend.
    """
    if file is None:
        return {}
    try:
        key = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeError) as error:
        raise WaitingError(
            "peer_unavailable", f"The key of the server cannot be read: {error}.", retry_after_s=30
        ) from None
    if not key or not key.isascii() or not key.isprintable():
        raise WaitingError("peer_unavailable", f"{file} has no key.", retry_after_s=30)
    redact(key)
    return {"Authorization": f"Bearer {key}"}
