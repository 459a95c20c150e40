"""Managed peers: a daemon that starts, watches and stops real Cog servers, and the contract server of ComfyUI."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.comfyui.conftest import GRAPH
from tests.daemon import Daemon, alive, until
from tests.media.clips import Samples, samples
from vidqueue.doctor.checks import examine_database
from vidqueue.doctor.peers import check_peers
from vidqueue.ops import processes
from vidqueue.processors.cog import Cog
from vidqueue.processors.remote.cog_settings import CogSettings

__all__ = ["samples"]

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv-others/bin/python"
MODEL = Path(__file__).parent / "cog_model"

pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason="no Cog here; `make .venv-others/.installed` installs it")


def cog(**more: Any) -> dict[str, Any]:
    return {
        "command": [str(PYTHON), "-m", "cog.server.http", "--host", "127.0.0.1"], "directory": str(MODEL),
        "environment": {"COG_PREDICT_TYPE_STUB": "predict.py:Runner", "EXTRA": "given"}, "device": "cpu",
    } | more  # fmt: skip


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, samples: Samples) -> Iterator[Daemon]:
    endpoints = {
        "model": cog(),
        "brief": cog(idle_stop_s=0.2),
        "one": cog(device="gpu", lane="cpu1"),
        "two": cog(device="gpu", lane="cpu1"),
        "absent": cog(command=["/opt/nobody/python"]),
        "dying": cog(command=["/bin/sh", "-c", "echo the weights are missing >&2; exit 3"]),
        "broken": cog(environment={"COG_PREDICT_TYPE_STUB": "nothing.py:Runner"}),
        "slow": cog(command=["/bin/sleep", "60"], setup_timeout_s=0.5),
    }
    program = [sys.executable, "-m", "tests.comfyui.program", "--port", "{port}", "--video", str(samples("plain.mp4"))]
    servers = {"main": {"command": program, "directory": str(ROOT), "device": "cpu"}}
    folder = tmp_path_factory.mktemp("managed")
    started = Daemon(
        folder / "data", VIDQUEUE_COG__ENDPOINTS=json.dumps(endpoints), VIDQUEUE_COMFYUI__SERVERS=json.dumps(servers)
    ).start()
    yield started
    assert started.stop() == 0
    assert left_of(started) == []


@pytest.fixture(scope="module")
def deaf(daemon: Daemon) -> str:
    """A job whose model does not hear that it is canceled. That takes its time, beside the other tests."""
    job_id = submit(daemon, lane="cpu1", act="deaf", marker="/nonexistent")
    at_work(daemon, job_id)
    daemon.http.post(f"/v1/jobs/{job_id}/cancel")
    return job_id


def left_of(daemon: Daemon) -> list[int]:
    """Processes of the peers of a daemon; each has a temporary folder of its own, too."""
    return [pid for pid in processes.marked("lane:") if "/" in (processes.mark_of(pid) or "").removeprefix("lane:")]


def submit(daemon: Daemon, endpoint: str = "model", *, lane: str = "cpu0", job: Any = None, **given: Any) -> str:
    body = {"processor": "cog", "lane": lane, "input": {"endpoint": endpoint, "input": {"steps": 1} | given}}
    answer = daemon.http.post("/v1/jobs", json=body | (job or {}))
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def peer(daemon: Daemon, name: str = "cog:model", lane: str = "cpu0") -> dict[str, Any]:
    """A server as `/v1/lanes` shows it."""
    lanes = {one["name"]: one for one in daemon.http.get("/v1/lanes").json()["lanes"]}
    return dict({str(one["name"]): one for one in lanes[lane]["peers"]}[name])


def servers(daemon: Daemon, name: str = "cog:model", lane: str = "cpu0") -> list[int]:
    """Process ids of a server with all that it has started, without its subreaper, parents first."""
    marked = [pid for pid in processes.marked("lane:") if (processes.mark_of(pid) or "").endswith(f":{lane}/{name}")]
    return [pid for pid in sorted(marked) if "subreaper.py" not in Path(f"/proc/{pid}/cmdline").read_text()]


def log_of(daemon: Daemon, job_id: str, attempt: int = 1) -> str:
    return daemon.http.get(f"/v1/jobs/{job_id}/logs", params={"attempt": attempt}).text


def at_work(daemon: Daemon, job_id: str) -> None:
    until(lambda: daemon.job(job_id)["stage"] == "predict")


def outcomes(daemon: Daemon, job_id: str) -> list[tuple[str, str | None]]:
    rows = daemon.sql(f"SELECT outcome, error_code FROM vidqueue.attempts WHERE job_id = '{job_id}' ORDER BY number")
    return [(row["outcome"], row["error_code"]) for row in rows]


def test_a_server_is_started_for_a_lane_and_stays_warm_when_the_executor_dies(daemon: Daemon, deaf: str) -> None:
    until(lambda: peer(daemon)["state"] == "stopped")
    first = submit(daemon, act="environment")
    job = daemon.ended(first)
    assert (job["state"], job["attempt"]) == ("succeeded", 1), job["error"]
    said = log_of(daemon, first)
    assert "Server ready" in said
    assert "{'CUDA_VISIBLE_DEVICES': '', 'EXTRA': 'given', 'HOME'" in said
    warm = servers(daemon)
    # It uploads its files; it would put them into its answer otherwise.
    assert b"--upload-url" in Path(f"/proc/{warm[0]}/cmdline").read_bytes()
    assert len(job["outputs"]) == 3
    until(lambda: peer(daemon)["state"] == "ready")

    for executor in daemon.children("worker.executor.child"):
        os.kill(executor, signal.SIGKILL)
    assert daemon.ended(submit(daemon))["state"] == "succeeded"
    assert servers(daemon) == warm
    assert peer(daemon)["starts"] == 1


def test_people_see_each_server(daemon: Daemon) -> None:
    listed = {one["name"]: one for one in daemon.http.get("/v1/processors").json()["processors"]}["cog"]
    assert listed["available"] is True
    told = {one["name"]: one for one in listed["peers"]}
    assert (told["cog:model"]["kind"], told["cog:model"]["problem"]) == ("managed", None)
    assert "does not exist" in told["cog:absent"]["problem"]
    until(lambda: peer(daemon)["state"] in ("ready", "stopped"))
    shown = vidqueue(daemon, "lanes")
    assert any(line.split()[:1] == ["cpu0"] and "cog:model" in line for line in shown.splitlines())
    assert "cog:absent is managed: its command /opt/nobody/python does not exist" in vidqueue(daemon, "processors")
    processors = [
        Cog(CogSettings.model_validate_json(f'{{"endpoints": {daemon.variables["VIDQUEUE_COG__ENDPOINTS"]}}}'))
    ]
    found = check_peers(processors)
    assert found.level == "warning"
    assert "cog:slow: can be started by the daemon" in found.found
    assert "cog:absent: its command /opt/nobody/python does not exist" in found.found
    checks = {one.name: one for one in asyncio.run(examine_database(daemon.database_url, kind="embedded"))}
    assert "cog:model on cpu0 is" in checks["servers"].found


def vidqueue(daemon: Daemon, command: str) -> str:
    arguments = [sys.executable, "-m", "vidqueue", command]
    environment = os.environ | daemon.variables | {"VIDQUEUE_URL": daemon.url, "COLUMNS": "300"}
    return subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False).stdout


def test_a_crash_of_the_worker_is_a_restart_and_the_job_succeeds(daemon: Daemon, tmp_path: Path) -> None:
    job_id = submit(daemon, act="crash_once", marker=str(tmp_path / "crashed"))
    assert daemon.ended(job_id)["state"] == "succeeded"
    assert outcomes(daemon, job_id) == [("failed", "peer_lost"), ("succeeded", None)]
    assert "Restarting the server" in log_of(daemon, job_id, 2)


def test_a_server_that_is_killed_is_started_again(daemon: Daemon, tmp_path: Path) -> None:
    marker = tmp_path / "go"
    job_id = submit(daemon, act="hold", marker=str(marker))
    at_work(daemon, job_id)
    killed = servers(daemon)
    os.kill(killed[0], signal.SIGKILL)
    marker.touch()
    assert daemon.ended(job_id)["state"] == "succeeded"
    assert outcomes(daemon, job_id) == [("failed", "peer_lost"), ("succeeded", None)]
    assert not any(map(alive, killed))


def test_a_suspended_job_keeps_its_server_from_working_too(daemon: Daemon, tmp_path: Path) -> None:
    marker = tmp_path / "go"
    job_id = submit(daemon, act="hold", marker=str(marker), job={"max_attempts": 1})
    at_work(daemon, job_id)
    suspend(daemon, job_id)
    used_s = [processes.cpu_s(pid) for pid in servers(daemon)]
    marker.touch()
    time.sleep(1)
    assert [processes.cpu_s(pid) for pid in servers(daemon)] == used_s
    assert daemon.job(job_id)["state"] == "running"
    daemon.http.post(f"/v1/jobs/{job_id}/resume")
    assert daemon.ended(job_id)["state"] == "succeeded"


def suspend(daemon: Daemon, job_id: str) -> None:
    """Suspend a job, and wait until its server stands still."""
    assert daemon.http.post(f"/v1/jobs/{job_id}/suspend").status_code == 202
    until(lambda: {processes._state(pid) for pid in servers(daemon)} == {"T"})


def test_a_run_that_does_not_hear_its_cancel_is_ended_with_its_server(daemon: Daemon, deaf: str) -> None:
    assert daemon.ended(deaf)["state"] == "canceled"
    until(lambda: not servers(daemon, lane="cpu1"))
    until(lambda: peer(daemon, lane="cpu1")["problem"] == "it kept working on a job that had ended")


def test_an_idle_server_is_stopped(daemon: Daemon) -> None:
    job_id = submit(daemon, "brief")
    assert daemon.ended(job_id)["state"] == "succeeded"
    until(lambda: peer(daemon, "cog:brief")["state"] == "stopped" and not servers(daemon, "cog:brief"))
    assert peer(daemon, "cog:brief")["problem"] is None


def test_one_card_is_for_one_server_at_a_time(daemon: Daemon) -> None:
    for endpoint, other in (("one", "two"), ("two", "one")):
        assert daemon.ended(submit(daemon, endpoint, lane="cpu1"))["state"] == "succeeded"
        assert servers(daemon, f"cog:{endpoint}", "cpu1")
        assert not servers(daemon, f"cog:{other}", "cpu1")


@pytest.mark.parametrize(
    ("endpoint", "words"),
    [
        ("absent", "its command /opt/nobody/python does not exist"),
        ("dying", "it ended with exit code 3. Its last output: the weights are missing"),
        ("broken", "nothing.py"),
        ("slow", "it was not ready after 0.5 s"),
    ],
)
def test_a_server_that_cannot_be_started_fails_the_job_with_its_last_words(
    daemon: Daemon, endpoint: str, words: str
) -> None:
    job = daemon.ended(submit(daemon, endpoint, job={"max_attempts": 1}))
    assert (job["state"], job["error"]["code"]) == ("failed", "peer_setup_failed")
    assert words in job["error"]["message"]
    assert "command" in job["error"]["hint"]
    until(lambda: peer(daemon, f"cog:{endpoint}")["state"] in ("resting", "stopped"))


def test_three_failures_in_a_row_restart_the_server(daemon: Daemon) -> None:
    before = peer(daemon)["starts"]
    for _ in range(3):
        assert daemon.ended(submit(daemon, act="fail"))["error"]["code"] == "model_failed"
    assert daemon.ended(submit(daemon))["state"] == "succeeded"
    until(lambda: peer(daemon)["starts"] == before + 1)


def test_a_comfyui_that_dies_gets_its_work_again_within_the_attempt(daemon: Daemon) -> None:
    graph = json.loads(json.dumps(GRAPH))
    graph["1"] = {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 0}}
    graph["3"]["inputs"] |= {"steps": 20, "seconds": 0.1}
    body = {"processor": "comfyui", "lane": "cpu0", "input": {"graph": graph}}
    job_id = str(daemon.http.post("/v1/jobs", json=body).json()["id"])
    until(lambda: 0.1 < (daemon.job(job_id)["progress"] or 0) < 0.9)
    os.kill(servers(daemon, "comfyui:main")[0], signal.SIGKILL)
    job = daemon.ended(job_id)
    assert (job["state"], job["attempt"]) == ("succeeded", 1), job["error"]
    assert [one["name"] for one in job["outputs"]] == ["output"]
    # While it is there it is asked at a submission, as an external server is.
    unknown = {"graph": {"1": {"class_type": "NobodyHasThis", "inputs": {}}}}
    problem = daemon.http.post("/v1/jobs", json={"processor": "comfyui", "input": unknown})
    assert (problem.status_code, problem.json()["code"]) == (422, "missing_model")


def test_a_kill_of_the_daemon_leaves_no_server_and_the_job_succeeds_once(daemon: Daemon, tmp_path: Path) -> None:
    marker = tmp_path / "go"
    job_id = submit(daemon, act="hold", marker=str(marker))
    at_work(daemon, job_id)
    # The subreaper of a server that is suspended ends it all the same.
    suspend(daemon, job_id)
    assert left_of(daemon)
    daemon.kill()
    until(lambda: not left_of(daemon), within_s=10)
    marker.touch()
    daemon.start()
    job = daemon.ended(job_id)
    assert (job["state"], len(job["outputs"])) == ("succeeded", 3)
    assert daemon.violations() == []
