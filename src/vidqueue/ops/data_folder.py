"""Lock of a data folder, and what the daemon that holds it tells commands beside it: its process, address, database.

The kernel releases the lock when its process ends, however it ends. What a dead daemon has written is not read.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

# The lock of a process with lanes, and that of an API process, which may share its folder.
LOCK, API_LOCK = "lock", "api.lock"
FACTS = "daemon.json"
DATABASE = "database_id"


@dataclass(frozen=True, slots=True)
class RunningDaemon:
    """A running daemon, without secrets.

    Attributes:
        url: address of its HTTP API; None for `--role worker`.
        database_url_file: file with the address of its database, if that came from a file.
        embedded: True if its database is the embedded server.
        reloads: how often it was asked to load its processors anew.
        reloaded: what came of the last time; `reload_error` if nothing did.
    """

    pid: int
    url: str | None
    database_url_file: str | None
    embedded: bool
    reloads: int = 0
    reloaded: str = ""
    reload_error: str = ""


class DataFolderBusyError(Exception):
    """Another daemon has locked the data folder."""


class DataFolderError(Exception):
    """The data folder cannot be made or written."""


def database_of(data_dir: Path) -> str:
    """Return the id of the database that a data folder has belonged to; empty if there is none, or it is closed."""
    try:
        return (data_dir / DATABASE).read_text(encoding="ascii").strip()
    except OSError:
        return ""


@contextmanager
def locked(data_dir: Path, name: str = LOCK) -> Iterator[bool]:
    """Lock a data folder for the block, and make it if it is missing; yield False if another process has locked it.

    Raises:
        DataFolderError: it cannot be made or written.
    """
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        opened = (data_dir / name).open("a+")
    except OSError as error:
        raise DataFolderError(f"{data_dir} cannot be the data folder: {error.strerror}.") from None
    with opened as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield True


@contextmanager
def only_daemon(data_dir: Path, name: str) -> Iterator[None]:
    """Lock the data folder for the block.

    Raises:
        DataFolderBusyError, DataFolderError: it cannot be locked.
    """
    with locked(data_dir, name) as ours:
        if not ours:
            raise DataFolderBusyError(f"{data_dir} is in use by process {holder(data_dir, name)}.")
        yield


def holder(data_dir: Path, name: str = LOCK) -> str:
    """Return the id of the process that wrote itself into the lock, for messages; `?` if there is none."""
    try:
        return (data_dir / name).read_text(encoding="ascii").strip() or "?"
    except (OSError, UnicodeDecodeError):
        return "?"


def announce(data_dir: Path, daemon: RunningDaemon) -> None:
    """Write what commands beside the daemon should know, readable for its user only."""
    aside = data_dir / f".{FACTS}.{os.getpid()}"
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(asdict(daemon), file)
    aside.rename(data_dir / FACTS)


def daemon_of(data_dir: Path) -> RunningDaemon | None:
    """Return the daemon that runs on a data folder, or None if there is none or its folder is closed to this user."""
    try:
        with (data_dir / LOCK).open("rb") as lock:
            if not _is_locked(lock.fileno()):
                return None
        return RunningDaemon(**json.loads((data_dir / FACTS).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def _is_locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return False
