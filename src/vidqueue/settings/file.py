"""The configuration file: which one is read, and whether another user could have written it."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path

LARGEST = 1 << 20
LOCAL, SYSTEM = Path("vidqueue.toml"), Path("/etc/vidqueue/vidqueue.toml")


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """A configuration file that was read.

    Attributes:
        doubts: why another user could have written it, one sentence each; empty if only its owner and root can.
    """

    path: Path
    text: str
    doubts: tuple[str, ...]


def usual() -> Path | None:
    """The file that is read when none is named: ./vidqueue.toml, else the one under /etc."""
    return next((path for path in (LOCAL, SYSTEM) if os.path.lexists(path)), None)


def read(path: Path, *, named: bool) -> ConfigFile:
    """Read a file and look who can write to it. One that is not `named` may be anybody's, and a pipe or a device.

    Raises:
        OSError, UnicodeDecodeError: it cannot be read, is too large, or is not named and no regular file.
    """
    # What is examined is the file that is open, so that another one cannot take its place in between.
    with open(path, encoding="utf-8-sig", opener=None if named else _without_waiting) as file:
        facts = os.fstat(file.fileno())
        if not named and not stat.S_ISREG(facts.st_mode):
            raise OSError(errno.EINVAL, "It is not a regular file")
        text = file.read(LARGEST + 1)
    if len(text) > LARGEST:
        raise OSError(errno.EFBIG, f"It has more than {LARGEST} characters")
    return ConfigFile(path, text, tuple(_doubts(path, facts)))


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def _doubts(path: Path, facts: os.stat_result) -> list[str]:
    real = Path(os.path.realpath(path))
    found = [*_writable_by_others(path, facts), *_writable_by_others(real.parent, real.parent.stat())]
    if path.is_symlink():
        # Who owns the link chooses the file, and who can write to its folder can replace it.
        link, folder = path.lstat(), path.absolute().parent
        if not _is_trusted(link.st_uid):
            found.append(f"{path} is a symbolic link of user {link.st_uid}.")
        if folder != real.parent:
            found += _writable_by_others(folder, folder.stat())
    return found


def _writable_by_others(path: Path, facts: os.stat_result) -> list[str]:
    found = []
    if not _is_trusted(facts.st_uid):
        found.append(f"{path} belongs to user {facts.st_uid}, who is neither root nor the user that runs vidqueue.")
    if facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        found.append(f"{path} is writable by its group or by everyone (mode {stat.S_IMODE(facts.st_mode):04o}).")
    return found


def _is_trusted(uid: int) -> bool:
    return uid in (0, os.geteuid())
