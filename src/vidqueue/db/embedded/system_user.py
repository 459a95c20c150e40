"""The system user that runs the embedded PostgreSQL when the daemon runs as root, which PostgreSQL refuses to do."""

from __future__ import annotations

import fcntl
import os
import pwd
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

SYSTEM_USER = "vidqueue-pg"
# useradd fails at once while another program has locked /etc/passwd.
TIMEOUT_S = 30.0
PAUSE_S = 0.1


class SystemUserError(Exception):
    """The user could not be created; the message says why."""


def system_user(name: str = SYSTEM_USER) -> tuple[int, int]:
    """Return uid and gid of the user, and create the user if missing. Any number of processes may call this at once.

    Raises:
        SystemUserError: the user does not exist and could not be created.
    """
    deadline = time.monotonic() + TIMEOUT_S
    with _only_creator():
        while (entry := _known(name)) is None:
            reason = _create(name)
            if (entry := _known(name)) is not None:
                break
            if time.monotonic() > deadline:
                raise SystemUserError(f"The system user {name} could not be created: {reason}")
            time.sleep(PAUSE_S)
    return entry.pw_uid, entry.pw_gid


@contextmanager
def _only_creator() -> Iterator[None]:
    """Lock out other vidqueue processes: two would take the same uid, and one of the two entries would be lost."""
    descriptor = os.open("/etc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _known(name: str) -> pwd.struct_passwd | None:
    """Return the entry of the user once it can be found by name and by uid, as initdb looks it up."""
    try:
        entry = pwd.getpwnam(name)
        pwd.getpwuid(entry.pw_uid)
    except KeyError:
        return None
    return entry


def _create(name: str) -> str:
    """Try to create the user, and return what useradd said."""
    command = ["useradd", "--system", "--no-create-home", "--shell", "/bin/false", name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return done.stderr.strip() or f"useradd ended with {done.returncode}."
