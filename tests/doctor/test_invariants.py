"""`vidqueue doctor --invariants` looks where no view can: at the stored bytes and the processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID, uuid4

import psycopg
import pytest

from tests.daemon import Daemon, until
from vidqueue.doctor.invariants import examine
from vidqueue.ops import processes
from vidqueue.settings.schema import Settings
from vidqueue.worker.lanes import queue_prefix


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    started = Daemon(tmp_path_factory.mktemp("invariants") / "data").start()
    started.ended(started.submit(act="work"))
    yield started
    started.stop()


async def broken(daemon: Daemon) -> dict[str, str]:
    checks = await examine(daemon.database_url, Settings(data_dir=daemon.data_dir))
    assert [check.name for check in checks] == sorted((check.name for check in checks), key=lambda name: int(name[1:]))
    return {check.name: check.found for check in checks if check.level != "ok"}


def stored(daemon: Daemon) -> Path:
    return next(path for path in (daemon.data_dir / "files").rglob("*") if path.is_file())


async def test_a_daemon_that_works_breaks_nothing(daemon: Daemon) -> None:
    assert await broken(daemon) == {}


async def test_bytes_that_changed_or_are_gone_are_found(daemon: Daemon) -> None:
    path = stored(daemon)
    right = path.read_bytes()
    path.write_bytes(right[:-1] + b"X")
    assert (await broken(daemon))["I15"].endswith(f"file {path.name}: another sha256 than its row has")
    path.unlink()
    assert (await broken(daemon))["I15"].endswith(f"file {path.name}: No such file or directory")
    path.write_bytes(right)
    assert await broken(daemon) == {}


async def test_bytes_without_a_row_are_found(daemon: Daemon) -> None:
    path = stored(daemon).with_name(str(uuid4()))
    path.write_bytes(b"left")
    try:
        assert (await broken(daemon))["I15"].endswith(f"file {path.name}: no row")
    finally:
        path.unlink()


async def test_what_works_without_an_attempt_is_found(daemon: Daemon) -> None:
    node = UUID((daemon.data_dir / "node_id").read_text())
    for lane, said in (("cpu0", "has no attempt"), ("cpu9", "is not online")):
        with stray(queue_prefix(node) + lane) as pid:
            assert f"process {pid}: " in (found := await broken(daemon))["I16"]
            assert said in found["I16"]


class stray:  # noqa: N801 - reads as an act
    """A process of a lane that has a child of its own."""

    def __init__(self, mark: str) -> None:
        self._mark = mark

    def __enter__(self) -> int:
        code = "import subprocess, time; subprocess.Popen(['sleep', '600'], env={}); time.sleep(600)"
        self._process = subprocess.Popen([sys.executable, "-c", code], env=os.environ | {processes.MARK: self._mark})
        until(lambda: processes.children_of(self._process.pid))
        return self._process.pid

    def __exit__(self, *_: object) -> None:
        for pid in processes.children_of(self._process.pid):
            os.kill(pid, 9)
        self._process.kill()
        self._process.wait()


def test_the_command_names_each_invariant_and_ends_with_one_when_something_is_broken(daemon: Daemon) -> None:
    command = [sys.executable, "-m", "vidqueue", "doctor", "--invariants", "--data-dir", str(daemon.data_dir)]
    well = subprocess.run(command, capture_output=True, text=True, check=False)
    assert well.returncode == 0, well.stdout + well.stderr
    assert {line.split()[1] for line in well.stdout.splitlines()} >= {"I1", "I15", "I16", "I20"}
    daemon.sql("DELETE FROM vidqueue.outputs")
    ill = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ill.returncode == 1
    assert "error    I8 " in ill.stdout


async def test_counters_that_somebody_made_wrong_are_found(daemon: Daemon) -> None:
    async with await psycopg.AsyncConnection.connect(daemon.database_url, autocommit=True) as connection:
        # The counts of few jobs stand in job_changes only.
        await connection.execute("SELECT vidqueue.fold_job_changes(), vidqueue.recount_jobs()")
        await connection.execute("UPDATE vidqueue.job_counts SET jobs = jobs + 3")
        found = await broken(daemon)
        await connection.execute("SELECT vidqueue.recount_jobs()")
    assert found["I21"].endswith("off by 3")
    assert "I21" not in await broken(daemon)
