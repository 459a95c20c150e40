"""Processes of this machine: checks whether one has ended, stops and resumes them, kills what an executor left.

A process id alone proves nothing, because the kernel uses it again. A process of another machine, or of a container
that this one cannot see into, is never reported as gone.

A processor's child that made a session of its own outlives the kill of the executor's process group, and a daemon that
was killed can kill nobody. All of them still have their lane's mark in the environment, and the name of their daemon.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import time
from collections.abc import Collection, Iterable, Iterator
from functools import cache
from pathlib import Path

MARK, DAEMON = "LANE_QUEUE", "LANE_DAEMON"
PATIENCE_S = 2.0


@cache
def machine() -> str:
    """Return an identifier of this boot of the machine and of this process's PID namespace."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"


def own_name() -> str:
    """Return a name for this process that no other process ever has."""
    return f"{machine()}/{os.getpid()}/{_started(os.getpid())}"


def is_gone(name: str) -> bool:
    """True if the process with this name ran on this machine and has ended; False if that cannot be determined."""
    where, _, rest = name.rpartition("/")
    where, _, pid = where.rpartition("/")
    if where != machine() or not pid.isdecimal():
        return False
    try:
        return _started(int(pid)) != rest
    except OSError:
        # Unreadable does not mean ended: no descriptor may be free, or /proc may hide processes of other users.
        return _does_not_exist(int(pid))


def _does_not_exist(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def _started(pid: int) -> str:
    """Return when a process started, in clock ticks since boot (proc(5), field 22 of stat); empty for a zombie.

    Raises:
        OSError: the process does not exist, or its stat cannot be read.
    """
    fields = _stat(pid)
    return "" if fields[0] in "ZX" else fields[19]


def kill_marked(mark: str, *, whole: bool = False) -> int:
    """Kill every process whose mark starts with `mark`, or equals it if `whole`; return how many were killed.

    Processes of another daemon that runs are left alone. Repeats until none is left, because a process may have
    started another one meanwhile. Gives up after a while, because a process that hangs in the kernel cannot be killed.
    """
    ended: set[int] = set()
    deadline = time.monotonic() + PATIENCE_S
    while (found := set(marked(mark, whole=whole, daemon=os.getpid()))) and time.monotonic() < deadline:
        for pid in found:
            _kill(pid, mark, whole)
        ended |= found
        time.sleep(0.01)
    return len(ended)


def marked(mark: str, *, whole: bool = False, daemon: int | None = None) -> Iterator[int]:
    """Yield the ids of live processes whose mark starts with `mark`, or equals it if `whole` (cpu1 is not cpu10).

    With `daemon`, the id of a process, those of other daemons that run are left out: a data folder that was copied, or
    restored from a backup, has the id of the first one, and so the processes of both daemons have the same marks.
    """
    for folder in Path("/proc").iterdir():
        pid = int(folder.name) if folder.name.isdecimal() else 0
        if pid and _has_mark(pid, mark, whole) and (daemon is None or not _has_other_daemon(pid, daemon)):
            yield pid


def _has_other_daemon(pid: int, daemon: int) -> bool:
    """True if the daemon that started a process runs and is not the process `daemon`."""
    name = _variable(pid, DAEMON)
    return name is not None and not is_gone(name) and name.split("/")[-2:-1] != [str(daemon)]


def mark_of(pid: int) -> str | None:
    """Return the mark in the environment of a live process, or None."""
    return _variable(pid, MARK)


def _variable(pid: int, name: str) -> str | None:
    try:
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:  # it has ended, or belongs to another user
        return None
    named = f"{name}=".encode()
    return next((variable[len(named) :].decode() for variable in variables if variable.startswith(named)), None)


def is_ours(pid: int) -> bool:
    """True if a process was started by an executor, or by this process or its children."""
    if mark_of(pid) is not None:
        return True
    ancestor: int | None = pid
    while ancestor is not None and ancestor > 1:
        if ancestor == os.getpid():
            return True
        ancestor = _parent(ancestor)
    return False


def exists(pid: int) -> bool:
    """True if there is a process of this id."""
    return Path(f"/proc/{pid}").exists()


def running(names: Collection[str]) -> set[str]:
    """Return those of these program names that run on this machine, by executable, command or process name."""
    found: set[str] = set()
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            found |= _names(folder) & set(names)
    return found


def _names(folder: Path) -> set[str]:
    names: set[str] = set()
    with contextlib.suppress(OSError):
        names.add((folder / "comm").read_text(encoding="utf-8", errors="replace").strip())
        command = (folder / "cmdline").read_bytes().split(b"\0")[0]
        names.add(Path(command.decode(errors="replace")).name)
        names.add((folder / "exe").readlink().name)
    return names


def _parent(pid: int) -> int | None:
    try:
        fields = _stat(pid)
    except OSError:
        return None
    return int(fields[1])


def children_of(pid: int) -> set[int]:
    """Return the ids of a process's children that it has not reaped, whatever their environment is."""
    children: set[int] = set()
    with contextlib.suppress(OSError):
        for task in os.scandir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError):
                children |= set(map(int, _read(f"{task.path}/children").split()))
    return children


def stop_tree(pid: int) -> dict[int, bool]:
    """Send SIGSTOP to a process and all below it, parents first; return whether each of them had stopped before.

    A stopped process starts no child, so the tree is complete once every process in it was found stopped.
    """
    found: dict[int, bool] = {}
    waiting = [pid]
    while waiting:
        one = waiting.pop()
        if (state := _state(one)) is None or one in found:
            continue
        found[one] = state in "TtZX"
        if not found[one]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(one, signal.SIGSTOP)
        waiting.extend(children_of(one))
    return found


def resume(pids: Iterable[int]) -> None:
    """Send SIGCONT to processes that were stopped."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def _state(pid: int) -> str | None:
    """Return the state of a process as one letter of proc(5); None if there is no such process."""
    try:
        return _stat(pid)[0]
    except OSError:
        return None


def cpu_s(pid: int) -> float:
    """Return the CPU time of a process, of the children that it has reaped, and of those that live, in seconds."""
    try:
        fields = _stat(pid)
    except OSError:  # it has ended, and its parent has its time
        return 0.0
    # utime, stime, cutime and cstime of proc(5), in clock ticks.
    own = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    return own + sum(map(cpu_s, children_of(pid)))


def own_cpu_s() -> float:
    """Return the CPU time of this process and its children, as `cpu_s` does; /proc is read only if there are any."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    own = sum(one.ru_utime + one.ru_stime for one in used)
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return own
    return own + sum(map(cpu_s, children_of(os.getpid())))


def _stat(pid: int) -> list[str]:
    """Return the fields of a process's stat behind its name (proc(5)): the first is its state.

    Raises:
        OSError: the process does not exist, or its stat cannot be read.
    """
    # The name in parentheses may contain any character, also spaces and parentheses.
    return _read(f"/proc/{pid}/stat").decode(errors="replace").rpartition(")")[2].split()


def _read(path: str) -> bytes:
    """Return a file of /proc without the cost of pathlib: each attempt reads several, on the event loop."""
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123
        return file.read()


def _has_mark(pid: int, mark: str, whole: bool) -> bool:
    found = mark_of(pid)
    return found is not None and (found == mark if whole else found.startswith(mark))


def _kill(pid: int, mark: str, whole: bool) -> None:
    with contextlib.suppress(ProcessLookupError):
        handle = os.pidfd_open(pid)
        try:
            # The id may have gone to another process since it was found; the handle cannot.
            if _has_mark(pid, mark, whole):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
        finally:
            os.close(handle)
