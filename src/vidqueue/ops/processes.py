"""Processes of this machine: proof that one has ended, and the ones that an executor left running.

A process id alone proves nothing, because the kernel uses it again. A process of another machine, or of a container
that this one cannot see into, is never judged here.

A processor's child that made a session of its own outlives the kill of the executor's process group, and a daemon that
was killed can kill nobody. All of them still carry their lane's mark in their environment.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

MARK = "LANE_QUEUE"
PATIENCE_S = 2.0


@cache
def machine() -> str:
    """This run of this kernel, as seen from this process's own namespace of process ids."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"


def own_name() -> str:
    """A name for this process that no other one ever has."""
    return f"{machine()}/{os.getpid()}/{_started(os.getpid())}"


def is_gone(name: str) -> bool:
    """Whether the process of this name ran on this machine and does not any more; False where that cannot be known."""
    where, _, rest = name.rpartition("/")
    where, _, pid = where.rpartition("/")
    if where != machine() or not pid.isdecimal():
        return False
    try:
        return _started(int(pid)) != rest
    except OSError:
        # Unreadable is not dead: no descriptor may be free, or /proc may hide what other users run.
        return _is_nobody(int(pid))


def _is_nobody(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def _started(pid: int) -> str:
    """Start of a process in clock ticks since boot (proc(5), field 22 of stat); empty for one that only awaits burial.

    Raises:
        OSError: it cannot be read, or is not there.
    """
    # The name in parentheses may hold anything, spaces and parentheses too.
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    return "" if fields[0] in "ZX" else fields[19]


def kill_marked(mark: str, *, whole: bool = False) -> int:
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
