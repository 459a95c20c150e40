"""The environment of a storm: one PostgreSQL, two daemons with data folders of their own, and a clip."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.daemon import Daemon, alive, until
from tests.storm import peers, processes
from tests.storm.postgres import Postgres
from vidqueue.media.sample import make_sample

ZOO = Path(__file__).parents[1] / "zoo"
LEASE_S = 3
DRAIN_S = 2
SMALL_DISK_MIB = 48
# The second one has the small disk.
HOSTS = ("A", "B")
# EX_UNAVAILABLE: the database did not answer at the start. A service manager starts the daemon again.
DATABASE_AWAY = 69


class Host:
    """A daemon that may be killed, frozen and started again; one fault at a time does so."""

    def __init__(self, name: str, data_dir: Path, database_url: str, *, lanes: int, low_water_mib: int) -> None:
        self.name = name
        self.data_dir = data_dir
        self.daemon = Daemon(
            data_dir,
            VIDQUEUE_HOST_NAME=name,
            VIDQUEUE_DATABASE__URL=database_url,
            VIDQUEUE_LANES__CPU=str(lanes),
            VIDQUEUE_DISK__LOW_WATER_MIB=str(low_water_mib),
            VIDQUEUE_RUNNING__LEASE_S=str(LEASE_S),
            VIDQUEUE_RUNNING__DRAIN_TIMEOUT_S=str(DRAIN_S),
            VIDQUEUE_WEBHOOKS__ALLOW='["127.0.0.0/8"]',
            **peers.managed(data_dir.parent),
        )
        # Whether it has to run now: a daemon that ends while this is set ended by itself.
        self.wanted = False
        # Everything that ran below a daemon that was killed; the next one on its folder leaves none of it.
        self._orphans: list[processes.Process] = []

    @property
    def url(self) -> str:
        """Where it listens, or listened last."""
        return str(self.daemon.url)

    @property
    def pid(self) -> int:
        """Process id of the daemon."""
        return self.daemon.process.pid

    def start(self, *, within_s: float = 180) -> None:
        """Start it, again and again while the database is away, as a service manager would."""
        deadline = time.monotonic() + within_s
        while True:
            try:
                self.daemon.start()
                break
            except AssertionError:
                code = self.daemon.process.poll()
                self.daemon.kill()
                if code not in (DATABASE_AWAY, None) or time.monotonic() > deadline:
                    raise
                time.sleep(0.5)
        left = [one for one in self._orphans if alive(one.pid)]
        assert not left, f"the next daemon on {self.name} left orphans of the one before: {left}"
        self.wanted = True

    def kill(self) -> None:
        """kill -9, and wait until everything tethered to it is gone too; the zoo's runaways are for its successor."""
        self.wanted = False
        self._orphans = processes.descendants(self.pid)
        self.daemon.kill()
        tethered = [one.pid for one in self._orphans if not one.command.startswith("sleep")]
        until(lambda: not [pid for pid in tethered if alive(pid)], within_s=15, what="executors are gone")

    def drain(self, *, hurried: bool = False, within_s: float = 60) -> int:
        """SIGTERM (twice when hurried), and the exit code."""
        self.wanted = False
        process = self.daemon.process
        process.send_signal(signal.SIGTERM)
        if hurried:
            time.sleep(0.3)
            process.send_signal(signal.SIGTERM)
        return process.wait(timeout=within_s)

    def ended_by_itself(self) -> bool:
        """Whether it is gone without having been told to go."""
        return self.wanted and self.daemon.process.poll() is not None and self.wanted

    def cleanup(self) -> None:
        """Let nothing of it be left, whatever state it is in."""
        self.wanted = False
        if hasattr(self.daemon, "process") and self.daemon.process.poll() is None:
            self.daemon.process.send_signal(signal.SIGCONT)
            self.daemon.kill()


class World:
    """Everything a storm needs, for the time of a `with` block."""

    def __init__(self) -> None:
        _bare_environment()
        processes.adopt_orphans()
        self.folder = Path(tempfile.mkdtemp(prefix="vidqueue-storm-"))
        self.folder.chmod(0o755)
        self.marks = self.folder / "marks"
        self.clip = self.folder / "clip.mp4"
        self.video_server = peers.VideoServer(self.folder)
        self.small_disk: Path | None = None
        self.keep = False
        self.hosts: dict[str, Host] = {}

    def __enter__(self) -> Self:
        try:
            self._open()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Whoever interrupts a storm has seen enough; a fault of the storm itself leaves its traces.
        if kind is not None and not issubclass(kind, KeyboardInterrupt):
            self.keep = True
            print(f"Data folders and logs are kept in {self.folder}")
        self.close()

    def _open(self) -> None:
        self.marks.mkdir()
        make_sample(self.clip, seconds=1, size=(160, 90), fps=10)
        self.postgres = Postgres(self.folder / "server")
        self.postgres.start()
        self.video_server.start()
        self.small_disk = _mount(self.folder / "B")
        self.hosts = {
            "A": Host("A", self.folder / "A", self.postgres.url, lanes=3, low_water_mib=0),
            "B": Host("B", self.folder / "B", self.postgres.url, lanes=4, low_water_mib=SMALL_DISK_MIB // 6),
        }
        for host in self.hosts.values():
            host.start()

    def stray_processes(self) -> list[processes.Process]:
        """What runs below this process and is neither a server of the storm nor a daemon that has to run."""
        allowed = {self.postgres.postmaster}
        if self.video_server.process is not None:
            allowed.add(self.video_server.process.pid)
        allowed |= {host.pid for host in self.hosts.values() if host.wanted}
        own = {pid for root in allowed for pid in [root, *(one.pid for one in processes.descendants(root))]}
        return [one for one in processes.descendants(os.getpid()) if one.pid not in own]

    def close(self) -> None:
        """End every process, unmount, and remove the folder unless it is to be kept."""
        for host in self.hosts.values():
            host.cleanup()
        self.video_server.kill()
        if hasattr(self, "postgres"):
            self.postgres.close()
        for left in processes.descendants(os.getpid()):
            processes.send(left.pid, signal.SIGKILL)
        if self.small_disk is not None:
            _unmount(self.small_disk, rescue=self.keep)
        if not self.keep:
            shutil.rmtree(self.folder, ignore_errors=True)


def _bare_environment() -> None:
    """As `tests/conftest.py` does: no settings of a daemon around us, and the zoo where every child finds it."""
    for name in [name for name in os.environ if name.startswith("VIDQUEUE_")]:
        del os.environ[name]
    paths = [str(ZOO), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))


def _mount(folder: Path) -> Path | None:
    """A small disk at `folder`; None where this user may not mount."""
    folder.mkdir(mode=0o700)
    command = ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK_MIB}m,mode=0700", "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, check=False)
    return folder if done.returncode == 0 else None


def _unmount(folder: Path, *, rescue: bool) -> None:
    """Unmount; what lies on the disk is copied to where it was mounted if it is to be kept."""
    aside = folder.with_name(f"{folder.name}-kept")
    if rescue:
        shutil.copytree(folder, aside, symlinks=True, ignore=shutil.ignore_patterns("filler"))
    subprocess.run(["umount", "--lazy", str(folder)], check=True)
    if rescue:
        shutil.copytree(aside, folder, symlinks=True, dirs_exist_ok=True)
        shutil.rmtree(aside)
