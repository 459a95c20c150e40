"""Proof of death: tells of a process on this machine, by its name in the database, that it is certainly gone.

A process id alone proves nothing, because it is used again; a process of another machine, or of a container that this
one cannot see into, is never judged here.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path


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
