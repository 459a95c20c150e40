"""Lists descendants of this process from /proc. The storm is a subreaper, so it sees what its daemons leave behind."""

from __future__ import annotations

import ctypes
import os
import signal
from dataclasses import dataclass
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True)
class Process:
    """A process that is no zombie."""

    pid: int
    parent: int
    command: str


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent dies: then an orphan is seen, not lost to init."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def descendants(of: int) -> list[Process]:
    """Every live process below `of`."""
    everyone = {process.pid: process for process in map(_read, _pids()) if process is not None}
    family = {of}
    while more := {pid for pid, process in everyone.items() if process.parent in family} - family:
        family |= more
    return [everyone[pid] for pid in sorted(family - {of}) if pid in everyone]


def name_of(pid: int) -> str | None:
    """The short name of a live process."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return None


def send(pid: int, what: signal.Signals) -> bool:
    """Signals a process that may have ended already; true if it existed."""
    try:
        os.kill(pid, what)
    except ProcessLookupError:
        return False
    return True


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]


def _read(pid: int) -> Process | None:
    try:
        state, parent = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[:2]
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return None
    return None if state == "Z" else Process(pid, int(parent), command)
