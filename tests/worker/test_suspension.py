"""Suspended jobs: their processes are stopped, their clocks stand still, and they end as if nothing had happened."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import TEMPLATE, fresh
from tests.daemon import Daemon, promised, until
from tests.media.clips import run_ffmpeg
from vidqueue.ops import active_time, processes

LEASE_S = 3


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("suspension")


@pytest.fixture(scope="module")
def daemon(server_url: str, home: Path) -> Iterator[Daemon]:
    for url in fresh(server_url, TEMPLATE):
        started = Daemon(
            home / "data",
            VIDQUEUE_DATABASE__URL=url,
            VIDQUEUE_LANES__CPU="1",
            VIDQUEUE_RUNNING__LEASE_S=str(LEASE_S),
        ).start()
        yield started
        assert started.violations() == []
        started.stop()


@pytest.fixture(scope="module")
def clip(home: Path) -> Path:
    path = home / "clip.mp4"
    source = ["-f", "lavfi", "-i", "testsrc2=s=640x360:r=25:d=8"]
    run_ffmpeg(*source, "-c:v", "libx264", "-preset", "ultrafast", "-y", path)
    return path


def executor_of(daemon: Daemon) -> int:
    (pid,) = until(lambda: daemon.children("executor.child"))
    return int(pid)


def tree(pid: int) -> set[int]:
    return {pid}.union(*map(tree, processes.children_of(pid)))


def all_stopped(pid: int) -> bool:
    return {processes._state(one) for one in tree(pid)} <= {*"TtZ", None}


def suspend(daemon: Daemon, job_id: str) -> float:
    """Suspend a job, and return how many seconds passed until all its processes stood still."""
    asked_at = time.monotonic()
    answer = daemon.http.post(f"/v1/jobs/{job_id}/suspend")
    assert answer.status_code == 202, answer.text
    assert (answer.json()["state"], answer.json()["suspended_by"]) == ("running", "person")
    pid = executor_of(daemon)
    until(lambda: all_stopped(pid), what="every process is stopped")
    return time.monotonic() - asked_at


def resume(daemon: Daemon, job_id: str) -> None:
    answer = daemon.http.post(f"/v1/jobs/{job_id}/resume")
    assert (answer.status_code, answer.json()["suspended_at"]) == (202, None), answer.text


def begun(daemon: Daemon, job_id: str, at_least: float = 0.0) -> None:
    until(lambda: daemon.job(job_id)["state"] == "running" and daemon.job(job_id)["progress"] > at_least)


def renewed(daemon: Daemon, job_id: str) -> None:
    """Wait until the lease of its attempt is renewed."""
    renewals = f"SELECT lease_expires_at AS at FROM vidqueue.attempts WHERE job_id = '{job_id}'"
    before = daemon.sql(renewals)
    until(lambda: daemon.sql(renewals) != before, what="the lease is renewed")


@pytest.mark.parametrize(
    ("processor", "parameters"), [("transcode", {"quality": "high"}), ("enhance", {"sharpen": 0.5, "gamma": 1.1})]
)
def test_a_suspended_job_uses_no_processor_and_ends_with_the_same_bytes(
    daemon: Daemon, clip: Path, processor: str, parameters: dict[str, object]
) -> None:
    undisturbed = daemon.ended(daemon.submit(processor, video=str(clip), **parameters))
    job_id = daemon.submit(processor, video=str(clip), cache=False, **parameters)
    begun(daemon, job_id)
    # Half a second on a machine that has time for it.
    assert suspend(daemon, job_id) <= promised(0.5)
    pid = executor_of(daemon)
    assert len(tree(pid)) > 1, "an ffmpeg is stopped too"
    used_s = processes.cpu_s(pid)
    # What the work reported before it was stopped is in the row half a second later, sooner than the second renewal.
    renewed(daemon, job_id)
    renewed(daemon, job_id)
    progress = daemon.job(job_id)["progress"]
    renewed(daemon, job_id)
    lease = "SELECT lease_expires_at > now() AS kept FROM vidqueue.attempts WHERE ended_at IS NULL"
    assert daemon.sql(lease) == [{"kept": True}]
    assert processes.cpu_s(pid) == used_s
    shown = daemon.job(job_id)
    assert (shown["state"], shown["progress"], shown["suspended_at"] is not None) == ("running", progress, True)
    resume(daemon, job_id)
    job = daemon.ended(job_id)
    assert (job["state"], job["attempt"], job["suspended_at"]) == ("succeeded", 1, None)
    assert [one["sha256"] for one in job["outputs"]] == [one["sha256"] for one in undisturbed["outputs"]]


def test_a_suspended_job_can_be_canceled(daemon: Daemon) -> None:
    job_id = daemon.submit(act="work", seconds=60)
    begun(daemon, job_id)
    suspend(daemon, job_id)
    daemon.http.post(f"/v1/jobs/{job_id}/cancel")
    job = daemon.ended(job_id)
    assert (job["state"], job["suspended_at"]) == ("canceled", None)
    assert daemon.ended(daemon.submit(act="work"))["state"] == "succeeded", "the lane goes on"


def test_no_time_passes_for_a_suspended_job(daemon: Daemon) -> None:
    limit_s = 2.0
    job_id = daemon.submit(act="work", seconds=1, timeout_s=limit_s, stall_timeout_s=1, max_attempts=1)
    begun(daemon, job_id)
    suspend(daemon, job_id)
    age = f"SELECT now() - suspended_at > interval '{limit_s + 0.2} s' AS old FROM vidqueue.jobs WHERE id = '{job_id}'"
    until(lambda: daemon.sql(age) == [{"old": True}])
    resume(daemon, job_id)
    job = daemon.ended(job_id)
    assert (job["state"], job["error"]) == ("succeeded", None)
    (attempt,) = daemon.sql(f"SELECT suspended_s FROM vidqueue.attempts WHERE job_id = '{job_id}'")
    assert attempt["suspended_s"] > limit_s
    kinds = daemon.sql(
        f"SELECT kind FROM vidqueue.events WHERE job_id = '{job_id}' AND kind <> 'progress' ORDER BY number"
    )
    assert [one["kind"] for one in kinds] == ["queued", "running", "suspended", "resumed", "succeeded"]


def test_only_what_runs_can_be_suspended_and_asking_again_changes_nothing(daemon: Daemon) -> None:
    job_id = daemon.submit(act="work", seconds=30)
    waiting = daemon.submit(act="work")
    begun(daemon, job_id)
    refused = daemon.http.post(f"/v1/jobs/{waiting}/suspend")
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    suspend(daemon, job_id)
    since = daemon.job(job_id)["suspended_at"]
    suspend(daemon, job_id)
    assert daemon.job(job_id)["suspended_at"] == since
    resume(daemon, job_id)
    resume(daemon, job_id)
    daemon.http.post(f"/v1/jobs/{job_id}/cancel")
    assert daemon.ended(waiting)["state"] == "succeeded"
    assert daemon.http.post(f"/v1/jobs/{waiting}/resume").status_code == 409


def test_a_daemon_that_stops_gives_a_suspended_job_back_at_once(daemon: Daemon) -> None:
    job_id = daemon.submit(act="work", seconds=1)
    begun(daemon, job_id)
    suspend(daemon, job_id)
    daemon.stop()
    (row,) = daemon.sql(f"SELECT state, failures, suspended_at FROM vidqueue.jobs WHERE id = '{job_id}'")
    assert row == {"state": "queued", "failures": 0, "suspended_at": None}
    (event,) = daemon.sql(f"SELECT data FROM vidqueue.events WHERE job_id = '{job_id}' AND kind = 'interrupted'")
    assert event["data"]["suspension_ended"] is True
    daemon.start()
    assert daemon.ended(job_id)["state"] == "succeeded"


def test_the_clock_of_a_process_leaves_out_the_time_it_was_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(active_time, "_followed", [])
    stopwatch = active_time.Stopwatch()
    with stopwatch.handed_over() as descriptor:
        active_time.follow(os.dup(descriptor))
    assert time.monotonic() - active_time.now() == pytest.approx(0, abs=0.1)
    stopwatch.add(100)
    stopwatch.add(20)
    assert time.monotonic() - active_time.now() == pytest.approx(120, abs=0.1)
