"""CPU time and memory of processes and everything below them, read from /proc."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class _Process:
    parent: int
    # Own time and that of children which ended and were reaped; those that live are counted by themselves.
    cpu_s: float
    command: str


def cpu_s(*roots: int) -> dict[str, float]:
    """Seconds of CPU used so far by `roots` and all their descendants, by kind of process.

    Kinds are `postgres`, `executor`, `daemon` (the vidqueue process itself) and `other`.
    """
    everyone = _everyone()
    used: dict[str, float] = {}
    for pid in _family(roots, everyone):
        kind = _kind(everyone[pid].command)
        used[kind] = used.get(kind, 0.0) + everyone[pid].cpu_s
    return used


def memory_mb(*roots: int) -> float:
    """Proportional set size of `roots` and all their descendants, in MB; shared pages are counted once."""
    return sum(map(_pss_kb, _family(roots, _everyone()))) / 1000


def _family(roots: tuple[int, ...], everyone: dict[int, _Process]) -> set[int]:
    family = set(roots) & set(everyone)
    while more := {pid for pid, process in everyone.items() if process.parent in family} - family:
        family |= more
    return family


def _everyone() -> dict[int, _Process]:
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            found[int(entry.name)] = _Process(int(fields[1]), sum(map(int, fields[11:15])) / TICKS_PER_S, command)
    return found


def _kind(command: str) -> str:
    if "executor" in command:
        return "executor"
    if "postgres" in command.split(" ", 1)[0]:
        return "postgres"
    if "-m vidqueue" in command:
        return "daemon"
    return "other"


def _pss_kb(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)
