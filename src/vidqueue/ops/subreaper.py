"""Runs a server that must not outlive the process that started it, with everything that the server starts.

    python -I -S subreaper.py PARENT_PID GRACE_S COMMAND ...

Executed as a script; standard library only. It is a child subreaper (prctl(2)): processes whose parent ends become its
children, in whatever session they are, so that all of them are found below it. When the thread of PARENT_PID that
started it ends, everything is killed at once. On SIGTERM the command gets SIGTERM, and GRACE_S seconds later everything
is killed. The command has a temporary folder of its own, which is removed at the end. Exit code: that of the command,
or 128 and the number of its signal.
"""

import contextlib
import ctypes
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
# The signal that the kernel sends when the parent dies (PR_SET_PDEATHSIG); SIGTERM requests a clean stop.
PARENT_DIED = signal.SIGUSR1
WAITED_FOR = {signal.SIGTERM, PARENT_DIED, signal.SIGCHLD}
LOOK_EVERY_S = 1.0
KILL_S = 10.0
# oom_score_adj (proc(5)) as for executors: the OOM killer chooses them before the daemon and PostgreSQL.
OOM_SCORE = "800"


def main(parent: int, grace_s: float, command: list[str]) -> int:
    """Run the command, and return its exit code once nothing of it is left."""
    signal.pthread_sigmask(signal.SIG_BLOCK, WAITED_FOR)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    _prctl(PR_SET_PDEATHSIG, PARENT_DIED)
    if os.getppid() != parent:  # the parent died before prctl() took effect
        return 1
    folder = tempfile.mkdtemp(prefix="vidqueue-peer-")
    os.environ["TMPDIR"] = folder
    try:
        child = _spawned(command)
        code = _watched(child, grace_s)
        kill_all()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return code


def _spawned(command: list[str]) -> int:
    subreaper = os.getpid()
    child = os.fork()
    if child:
        return child
    try:
        os.setpgid(0, 0)
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != subreaper:
            os._exit(1)
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text(OOM_SCORE, encoding="ascii")
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, WAITED_FOR)
        os.execvp(command[0], command)  # noqa: S606 - no shell is wanted
    except OSError as error:
        os.write(2, f"{command[0]}: {error.strerror}\n".encode())
    finally:
        os._exit(127)


def _watched(child: int, grace_s: float) -> int:
    """Wait for the end of the command, or for a signal that ends it; return its exit code."""
    kill_at = float("inf")
    while True:
        if (code := _reaped(child)) is not None:
            return code
        if time.monotonic() >= kill_at:
            kill_all(but=child)
            os.kill(child, signal.SIGKILL)
        came = signal.sigtimedwait(WAITED_FOR, min(LOOK_EVERY_S, max(0.05, kill_at - time.monotonic())))
        if came is not None and came.si_signo == signal.SIGTERM:
            kill_at = min(kill_at, time.monotonic() + grace_s)
            os.killpg(child, signal.SIGTERM)
        elif came is not None and came.si_signo == PARENT_DIED:
            kill_at = time.monotonic()


def _reaped(child: int) -> int | None:
    """Reap what has ended; return the exit code of the command if it is among them."""
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            if ended[0] == child:
                code = os.waitstatus_to_exitcode(ended[1])
                return code if code >= 0 else 128 - code
    return None


def kill_all(but: int = 0) -> None:
    """Kill every descendant process, except one, until none is left."""
    until = time.monotonic() + KILL_S
    while time.monotonic() < until:
        for pid in (found := _below(os.getpid()) - {but}):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if but or not found:
            return
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.01)


def _below(pid: int) -> set[int]:
    found: set[int] = set()
    waiting = [pid]
    while waiting:
        for child in _children(waiting.pop()):
            if child not in found:
                found.add(child)
                waiting.append(child)
    return found


def _children(pid: int) -> list[int]:
    found = list[int]()
    with contextlib.suppress(OSError):
        for listed in Path(f"/proc/{pid}/task").glob("*/children"):
            found += map(int, listed.read_text(encoding="ascii").split())
    return found


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(option, value)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]))
