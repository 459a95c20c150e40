"""What a real daemon tells the service manager, and what it keeps from its children."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import socket
import textwrap
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.daemon import Daemon, until
from vidqueue.db.embedded import server as embedded
from vidqueue.ops import watchdog
from vidqueue.ops.supervise import supervise
from vidqueue.ops.systemd import Manager, manager_of, message
from vidqueue.ops.watchdog import Heartbeat, Watchdog

FED_EVERY_S = 0.5
VARIABLES = {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"}


class Ear:
    """A service manager's end of the socket."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(f"\0{address[1:]}" if address.startswith("@") else address)

    def hear(self, *, within_s: float = 30) -> dict[str, str]:
        """The next message."""
        self._socket.settimeout(within_s)
        return dict(line.split("=", 1) for line in self._socket.recv(4096).decode().split("\n"))

    def hear_until(self, word: str, *, within_s: float = 30) -> dict[str, str]:
        """The next message that holds the word."""
        deadline = time.monotonic() + within_s
        while word not in (heard := self.hear(within_s=max(0.01, deadline - time.monotonic()))):
            pass
        return heard

    def all_that_waits(self) -> list[dict[str, str]]:
        """Everything that was sent and not heard yet."""
        heard = []
        try:
            while True:
                heard.append(self.hear(within_s=0.01))
        except TimeoutError:
            return heard

    def variables(self) -> dict[str, str]:
        """What the manager puts into the daemon's environment."""
        return {"NOTIFY_SOCKET": self.address, "WATCHDOG_USEC": str(int(FED_EVERY_S * 2_000_000))}

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def any_ear(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ear]:
    heard = Ear(str(tmp_path / "notify") if request.param == "path" else f"@vidqueue-test-{os.getpid()}")
    yield heard
    heard.close()


@pytest.fixture
def ear(tmp_path: Path) -> Iterator[Ear]:
    heard = Ear(str(tmp_path / "notify"))
    yield heard
    heard.close()


def test_a_daemon_tells_when_it_is_ready_that_it_lives_and_when_it_stops(any_ear: Ear, tmp_path: Path) -> None:
    daemon = Daemon(tmp_path / "data", **any_ear.variables())
    try:
        daemon.start()
        first = any_ear.hear()
        assert first == {"READY": "1", "STATUS": f"Ready at {daemon.url}"}
        for _ in range(3):
            assert any_ear.hear(within_s=FED_EVERY_S * 4) == {"WATCHDOG": "1"}
        daemon.process.send_signal(signal.SIGTERM)
        assert any_ear.hear_until("STOPPING")["STATUS"].startswith("Draining")
    finally:
        assert daemon.stop() == 0


def test_the_watchdog_is_fed_through_a_drain(ear: Ear, tmp_path: Path) -> None:
    daemon = Daemon(tmp_path / "data", **ear.variables())
    try:
        daemon.start()
        job_id = daemon.submit(act="work", seconds=4)
        until(lambda: daemon.job(job_id)["stage"] == "work")
        daemon.process.send_signal(signal.SIGTERM)
        ear.hear_until("STOPPING")
        for _ in range(4):
            assert ear.hear(within_s=FED_EVERY_S * 4) == {"WATCHDOG": "1"}
        assert daemon.process.poll() is None
    finally:
        assert daemon.stop() == 0


def test_no_child_of_the_daemon_can_speak_in_its_name(ear: Ear, tmp_path: Path) -> None:
    daemon = Daemon(tmp_path / "data", **ear.variables())
    try:
        daemon.start()
        daemon.ended(daemon.submit())
        children = [pid for pid in daemon.children("") if pid != daemon.process.pid]
        servers = daemon.children("/postgres -D")
        executors = daemon.children("vidqueue.worker.executor.child")
        assert servers
        assert executors
        for pid in children:
            assert not VARIABLES & _environment_of(pid).keys(), pid
    finally:
        daemon.stop()


def test_a_daemon_may_open_as_many_files_as_the_hard_limit_lets_it(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))
    daemon = Daemon(tmp_path / "data")
    try:
        daemon.start()
        told = Path(f"/proc/{daemon.process.pid}/limits").read_text()
        (line,) = [line for line in told.splitlines() if line.startswith("Max open files")]
        allowed = min(hard, 65_536) if hard != resource.RLIM_INFINITY else 65_536
        assert int(line.split()[3]) == allowed > 512
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        daemon.stop()


@pytest.mark.slow
async def test_the_watchdog_is_fed_while_the_database_is_away(ear: Ear, tmp_path: Path) -> None:
    server = embedded.Server(tmp_path / "theirs")
    await server.start()
    daemon = Daemon(
        tmp_path / "data",
        VIDQUEUE_DATABASE__URL=server.url,
        VIDQUEUE_RUNNING__DRAIN_TIMEOUT_S="1",
        **ear.variables(),
        **_planted(tmp_path, "watchdog.HEARTBEAT_TIMEOUT_S = 8"),
    )
    try:
        await asyncio.to_thread(daemon.start)
        await server.stop()
        ear.all_that_waits()
        # Longer than a round may take here: a loop that had stopped with the database would be missed by now.
        for _ in range(int(12 / FED_EVERY_S)):
            assert await asyncio.to_thread(ear.hear, within_s=FED_EVERY_S * 4) == {"WATCHDOG": "1"}
        assert (await asyncio.to_thread(daemon.http.get, "/healthz")).status_code == 200
        assert (await asyncio.to_thread(daemon.http.get, "/readyz")).status_code == 503
    finally:
        daemon.kill()
        await server.stop()


HANGS = {
    "reaper": "reaper.Reaper._look = hang_after(reaper.Reaper._look)",
    "dispatch": "attempts.dispatch = hang_after(attempts.dispatch)",
    "event_feed": "event_feed.EventFeed._catch_up = hang_after(event_feed.EventFeed._catch_up)",
    "embedded-postgres": "asyncio.subprocess.Process.wait = hang_after(asyncio.subprocess.Process.wait)",
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "task", [pytest.param(one, marks=[pytest.mark.long] if number else []) for number, one in enumerate(sorted(HANGS))]
)
def test_the_watchdog_starves_once_something_hangs_that_the_daemon_lives_by(
    task: str, ear: Ear, tmp_path: Path
) -> None:
    marker = tmp_path / "hang"
    hang = f"""
        def hang_after(act):
            async def perhaps(*given, **named):
                while pathlib.Path({str(marker)!r}).exists():
                    with contextlib.suppress(asyncio.CancelledError):  # beyond the reach of any timeout
                        await asyncio.sleep(3600)
                return await act(*given, **named)
            return perhaps
        watchdog.HEARTBEAT_TIMEOUT_S = 7
        {HANGS[task]}
    """
    daemon = Daemon(tmp_path / "data", **ear.variables(), **_planted(tmp_path, hang))
    try:
        daemon.start()
        ear.hear_until("READY")
        for _ in range(3):
            ear.hear_until("WATCHDOG", within_s=FED_EVERY_S * 4)
        marker.touch()
        told = until(lambda: _unhealthy(daemon), what="the probe tells of it")
        assert told["errors"] == [{"pointer": "watchdog", "detail": told["detail"].removeprefix("Not ready: ")}]
        assert f"Stuck in the daemon: {task}." in told["detail"]
        until(lambda: '"daemon_is_stuck"' in daemon.log.read_text(), what="the log tells of it")
        ear.all_that_waits()
        with pytest.raises(TimeoutError):
            ear.hear(within_s=FED_EVERY_S * 4)
    finally:
        daemon.kill()


def test_a_daemon_that_the_watchdog_ends_says_where_it_hung(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path / "data").start()
    daemon.process.send_signal(signal.SIGABRT)  # what systemd sends
    assert daemon.process.wait(timeout=20) == -signal.SIGABRT
    assert "Fatal Python error: Aborted" in daemon.log.read_text()


async def test_a_task_that_is_gone_is_missed_and_one_that_ended_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "HEARTBEAT_TIMEOUT_S", 0.05)
    heartbeats, stop = Watchdog(), asyncio.Event()

    async def go_round(heartbeat: Heartbeat) -> None:
        while not stop.is_set():
            heartbeat()
            await asyncio.sleep(0.001)

    async def stuck_are(*names: str) -> None:
        async with asyncio.timeout(5):
            while heartbeats.stuck() != list(names):
                await asyncio.sleep(0.01)

    ended, gone = (supervise(partial(go_round, heartbeats.register(name)), name) for name in ("ended", "gone"))
    await stuck_are()
    gone.cancel()
    await stuck_are("gone")
    stop.set()
    await ended
    await stuck_are("ended", "gone")
    heartbeats.unregister("ended")
    await stuck_are("gone")


def test_without_a_manager_nothing_is_told() -> None:
    manager = manager_of({})
    assert manager == Manager("", None)
    manager.tell(READY="1")


def test_a_manager_that_is_gone_does_no_harm(tmp_path: Path) -> None:
    Manager(str(tmp_path / "nobody"), None).tell(READY="1")


@pytest.mark.parametrize(
    ("given", "every_s"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 15),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
    ids=["anyone", "us", "somebody_else", "zero", "words", "none"],
)
def test_a_watchdog_that_is_meant_for_us_is_fed_twice_a_period(given: dict[str, str], every_s: float | None) -> None:
    environment = {"NOTIFY_SOCKET": "/run/x", "HOME": "/root", **given}
    assert manager_of(environment) == Manager("/run/x", every_s)
    assert environment == {"HOME": "/root"}


def test_a_value_is_one_line_whatever_it_was() -> None:
    assert message({"READY": "1", "STATUS": "a\nWATCHDOG=1"}) == b"READY=1\nSTATUS=a WATCHDOG=1"


def _unhealthy(daemon: Daemon) -> dict[str, object] | None:
    answer = daemon.http.get("/healthz")
    assert answer.status_code in (200, 503)
    return answer.json() if answer.status_code == 503 else None


def _environment_of(pid: int) -> dict[str, str]:
    try:
        raw = Path(f"/proc/{pid}/environ").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return {}
    return dict(entry.split("=", 1) for entry in raw.decode().split("\0") if "=" in entry)


def _planted(folder: Path, code: str) -> dict[str, str]:
    """Variables of a daemon in which this code runs before its own."""
    (folder / "planted").mkdir()
    imports = "import asyncio, contextlib, pathlib\nfrom vidqueue.db import event_feed\n"
    imports += "from vidqueue.jobs import reaper\nfrom vidqueue.ops import watchdog\n"
    imports += "from vidqueue.db.tables import attempts\n"
    (folder / "planted" / "sitecustomize.py").write_text(imports + textwrap.dedent(code))
    return {"PYTHONPATH": os.pathsep.join([str(folder / "planted"), os.environ["PYTHONPATH"]])}
