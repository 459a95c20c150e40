"""Nothing is imported from the folder that a daemon, an executor or a command happens to be started in."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest

from tests.daemon import Daemon
from vidqueue.doctor.checks import check_opencv
from vidqueue.job import Succeeded
from vidqueue.worker.executor.messages import RunJob
from vidqueue.worker.executor.parent import Executor

MODULES = ("argparse", "json", "socket", "ctypes", "torch", "cv2", "structlog", "sitecustomize", "vidqueue_zoo")
ENTRY_POINT = "[vidqueue.processors]\ntrap = trap:Trap\n"


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, full of modules that leave their name in `caught` when they are imported."""
    folder, caught = tmp_path / "trap", tmp_path / "caught"
    caught.mkdir()
    code = f"import os; os.close(os.open({str(caught)!r} + '/' + __name__, os.O_CREAT))\n"
    (folder / "vidqueue" / "worker").mkdir(parents=True)
    for name in (*MODULES, "trap", "vidqueue/__init__", "vidqueue/worker/__init__"):
        (folder / f"{name}.py").write_text(code)
    (folder / "trap-1.0.dist-info").mkdir()
    (folder / "trap-1.0.dist-info" / "entry_points.txt").write_text(ENTRY_POINT)
    (folder / "trap-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: trap\nVersion: 1.0\n")
    monkeypatch.chdir(folder)
    return caught


def test_no_child_of_a_daemon_imports_from_the_folder_it_was_started_in(
    trap: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The daemon as the `vidqueue` command starts it; that word is not handed on to executors.
    monkeypatch.setattr(Daemon, "under", ("env", "PYTHONSAFEPATH=1"))
    daemon = Daemon(tmp_path / "data")
    try:
        daemon.start()
        assert daemon.ended(daemon.submit())["state"] == "succeeded"
        (executor,) = daemon.children("vidqueue.worker.executor.child")
        for child in [pid for pid in daemon.children("") if pid != daemon.process.pid]:
            assert Path(f"/proc/{child}/cwd").readlink() != Path.cwd()
        assert Path(f"/proc/{executor}/cwd").readlink() == Path("/")
    finally:
        daemon.stop()
    assert sorted(found.name for found in trap.iterdir()) == []


async def test_an_empty_entry_of_pythonpath_does_not_bring_the_folder_back(
    trap: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["", ".", os.environ["PYTHONPATH"], "", "../trap", ""]))
    executor = Executor("cpu0", threads=1, mark=f"test:{uuid4()}")
    try:
        outcome = await executor.run(RunJob("zoo", {"act": "work"}, {}, str(tmp_path), {}), print)
    finally:
        await executor.stop()
    assert isinstance(outcome, Succeeded)
    assert sorted(found.name for found in trap.iterdir()) == []


def test_the_kernel_kills_an_executor_before_the_daemon_and_its_database(tmp_path: Path) -> None:
    def score(pid: int) -> int:
        return int(Path(f"/proc/{pid}/oom_score_adj").read_text())

    daemon = Daemon(tmp_path / "data")
    try:
        daemon.start()
        daemon.ended(daemon.submit())
        (executor,) = daemon.children("vidqueue.worker.executor.child")
        others = [pid for pid in daemon.children("") if pid != executor]
        assert score(executor) >= 800
        assert all(score(executor) > score(pid) for pid in others)
    finally:
        daemon.stop()


def test_python_m_vidqueue_imports_nothing_from_the_working_folder_either(trap: Path) -> None:
    for name in ("vidqueue/worker/__init__.py", "vidqueue/__init__.py"):
        Path(name).unlink()
    Path("vidqueue/worker").rmdir()
    Path("vidqueue").rmdir()
    # `site` imports this one before any code of ours.
    Path("sitecustomize.py").unlink()
    done = subprocess.run([sys.executable, "-m", "vidqueue", "processors", "--help"], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [found.name for found in trap.iterdir()] == []


def test_the_doctor_examines_what_is_installed_and_not_what_lies_about(trap: Path) -> None:
    assert check_opencv().level == "ok"
    assert [found.name for found in trap.iterdir()] == []
