"""Checks the folders of `inputs.roots`. One may be on a share that does not respond, and a call there never returns."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

from vidqueue.doctor.check import Check

PATIENCE_S = 5.0


def check_roots(roots: list[Path]) -> Check:
    """Check that the folders of inputs.roots exist, respond and are readable."""
    if not roots:
        return Check("inputs", "ok", "uploads only; inputs.roots names no folder")
    readable = _look(roots)
    silent = [str(root) for root in roots if root not in readable]
    unread = [str(root) for root in roots if readable.get(root) is False]
    if silent:
        found = f"{', '.join(silent)} did not respond within {PATIENCE_S:g} s"
        found += f"; cannot be read: {', '.join(unread)}" if unread else ""
        return Check(
            "inputs", "warning", found, "See whether the server of that share runs. Jobs with inputs there wait."
        )
    if unread:
        return Check(
            "inputs", "warning", f"cannot be read: {', '.join(unread)}", "Create them, or correct inputs.roots."
        )
    return Check("inputs", "ok", ", ".join(map(str, roots)))


def _look(roots: list[Path]) -> dict[Path, bool]:
    """Whether each folder can be read; one that does not respond in time is missing."""
    readable: dict[Path, bool] = {}

    def look(root: Path) -> None:
        readable[root] = root.is_dir() and os.access(root, os.R_OK | os.X_OK)

    # Nothing waits for a daemon thread when the process ends.
    threads = [threading.Thread(target=look, args=(root,), daemon=True) for root in roots]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + PATIENCE_S
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return dict(readable)
