"""Runs a command that must not outlive the process that started it. Executed as a script; standard library only.

    python -I -S parent_death.py PARENT_PID SIGNAL UID GID command ...

The kernel sends SIGNAL to the command when the thread of PARENT_PID that started it ends, however it ends. UID and GID
of -1 keep the current user. (prctl(2), PR_SET_PDEATHSIG; a change of user clears it, so it is set last.)
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1


def main(parent: int, signal: int, uid: int, gid: int, command: list[str]) -> None:
    """Replace this process by `command`, which gets `signal` when its parent dies."""
    os.setsid()
    if uid >= 0:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal)
    if os.getppid() != parent:  # the parent died before prctl() took effect
        sys.exit(1)
    os.execv(command[0], command)  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    parent, signal, uid, gid = map(int, sys.argv[1:5])
    main(parent, signal, uid, gid, sys.argv[5:])
