"""Strays: what an executor left running.

A processor's child that made a session of its own outlives the kill of the executor's group, and a daemon that was
killed can kill nobody; but all of them still bear the mark of their lane in their environment.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

MARK = "LANE_QUEUE"
PATIENCE_S = 2.0


def end(mark: str, *, whole: bool = False) -> int:
    """Kill every process whose mark begins so, or is the `whole` of it; how many that were.

    Looks again until there is none, because a process may have made another one meanwhile; gives up after a while, as a
    process that hangs in the kernel cannot be killed.
    """
    ended: set[int] = set()
    deadline = time.monotonic() + PATIENCE_S
    while (found := set(marked(mark, whole=whole))) and time.monotonic() < deadline:
        for pid in found:
            _kill(pid, mark, whole)
        ended |= found
        time.sleep(0.01)
    return len(ended)


def marked(mark: str, *, whole: bool = False) -> Iterator[int]:
    """Ids of the living processes whose mark begins so, or is the `whole` of it: cpu1 is not cpu10."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal() and _bears(int(folder.name), mark, whole):
            yield int(folder.name)


def mark_of(pid: int) -> str | None:
    """The mark that a living process bears, if it bears one."""
    try:
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:  # it is gone, or somebody else's
        return None
    named = f"{MARK}=".encode()
    return next((variable[len(named) :].decode() for variable in variables if variable.startswith(named)), None)


def children_of(pid: int) -> set[int]:
    """Processes that a process has started and not buried, whatever their environment is."""
    children: set[int] = set()
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            children |= set(map(int, task.read_text(encoding="ascii").split()))
    return children


def _bears(pid: int, mark: str, whole: bool) -> bool:
    borne = mark_of(pid)
    return borne is not None and (borne == mark if whole else borne.startswith(mark))


def _kill(pid: int, mark: str, whole: bool) -> None:
    with contextlib.suppress(ProcessLookupError):
        handle = os.pidfd_open(pid)
        try:
            # The id may have gone to another process since it was found; the handle cannot.
            if _bears(pid, mark, whole):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
        finally:
            os.close(handle)
