"""A real daemon that is killed, starved of its database, drained, and started twice."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.daemon import Daemon, alive, until
from vidqueue.db.embedded import server as embedded


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    started = Daemon(tmp_path / "data").start()
    yield started
    started.stop()


def test_a_killed_daemon_leaves_no_process_and_the_next_one_finishes_its_jobs(daemon: Daemon) -> None:
    running = [daemon.submit(act="work", seconds=2) for _ in range(2)]
    waiting = daemon.submit(act="work")
    until(lambda: all(daemon.job(job_id)["stage"] == "work" for job_id in running), what="both jobs at work")
    family = daemon.children("")
    assert len(family) >= 4, "daemon, postgres and two executors"
    daemon.kill()
    until(lambda: not [pid for pid in family if alive(pid)], what="no orphan is left")

    daemon.start()
    for job_id in running:
        job = daemon.ended(job_id)
        assert (job["state"], job["attempt"]) == ("succeeded", 2)
    assert daemon.ended(waiting)["state"] == "succeeded"
    assert daemon.sql("SELECT DISTINCT failures FROM vidqueue.jobs") == [{"failures": 0}]
    assert (
        daemon.sql("SELECT outcome, reason FROM vidqueue.attempts WHERE number = 1 AND outcome <> 'succeeded'")
        == [{"outcome": "interrupted", "reason": "the daemon was killed and started again"}] * 2
    )
    assert daemon.violations() == []


def test_an_immediate_restart_of_postgresql_under_load_loses_nothing(daemon: Daemon) -> None:
    acknowledged: list[str] = []
    stop = threading.Event()

    def submit_until_told() -> None:
        with httpx2.Client(base_url=daemon.url, timeout=30) as http:
            while not stop.is_set():
                answer = http.post("/v1/jobs", json={"processor": "zoo", "input": {"act": "work", "seconds": 0.1}})
                if answer.status_code == 202:
                    acknowledged.append(answer.json()["id"])
                else:
                    assert answer.status_code == 503, answer.text
                    assert answer.headers["Retry-After"]
                stop.wait(0.05)

    submitter = threading.Thread(target=submit_until_told)
    submitter.start()
    for round_ in (1, 2):
        until(lambda: len(acknowledged) > 15 * round_, what="load")  # noqa: B023 - read before it changes
        postmaster = int((daemon.data_dir / "postgres" / "postmaster.pid").read_text().split("\n", 1)[0])
        os.kill(postmaster, signal.SIGQUIT)  # what `pg_ctl stop -m immediate` sends
        until(lambda: not alive(postmaster), what="the server is down")  # noqa: B023
    count = len(acknowledged)
    until(lambda: len(acknowledged) > count + 15, within_s=60, what="submits are taken again")
    stop.set()
    submitter.join()

    for job_id in acknowledged:
        assert daemon.ended(job_id, within_s=90)["state"] == "succeeded"
    published = daemon.sql("SELECT job_id FROM vidqueue.outputs")
    assert len(published) == len({one["job_id"] for one in published}) >= len(acknowledged)
    assert daemon.violations() == []
    assert daemon.process.poll() is None, "the daemon did not have to be restarted"


def test_sigterm_lets_running_jobs_finish_and_leaves_no_process(daemon: Daemon) -> None:
    job_id = daemon.submit(act="work", seconds=1)
    until(lambda: daemon.job(job_id)["stage"] == "work")
    family = daemon.children("")
    assert daemon.stop() == 0
    assert not [pid for pid in family if alive(pid)]
    daemon.start()
    assert (daemon.job(job_id)["state"], daemon.job(job_id)["attempt"]) == ("succeeded", 1)


def test_a_second_daemon_on_the_same_folder_is_refused(daemon: Daemon) -> None:
    second = _serve(VIDQUEUE_DATA_DIR=str(daemon.data_dir))
    assert second.returncode == 75
    assert f"in use by process {daemon.process.pid}" in second.stderr


def test_listening_beyond_this_machine_is_refused(tmp_path: Path) -> None:
    refused = _serve(VIDQUEUE_DATA_DIR=str(tmp_path), VIDQUEUE_API__HOST="0.0.0.0")
    assert refused.returncode == 78
    assert "loopback only" in refused.stderr


def test_a_taken_port_is_said(daemon: Daemon, tmp_path: Path) -> None:
    port = daemon.url.rsplit(":", 1)[1]
    refused = _serve(VIDQUEUE_DATA_DIR=str(tmp_path / "other"), VIDQUEUE_API__PORT=port)
    assert refused.returncode == 75
    assert f"Cannot listen on 127.0.0.1:{port}" in refused.stderr


def test_a_job_can_be_canceled_while_the_daemon_drains(daemon: Daemon) -> None:
    job_id = daemon.submit(act="work", seconds=50)
    until(lambda: daemon.job(job_id)["stage"] == "work")
    daemon.process.send_signal(signal.SIGTERM)
    until(lambda: '"drain_started"' in daemon.log.read_text())
    # A load balancer sends new requests elsewhere meanwhile.
    until(lambda: daemon.http.get("/readyz").status_code == 503, what="it is not ready")
    assert daemon.http.get("/healthz").status_code == 200
    assert daemon.http.post(f"/v1/jobs/{job_id}/cancel").status_code == 202
    assert daemon.process.wait(timeout=20) == 0
    daemon.start()
    assert daemon.job(job_id)["state"] == "canceled"


def test_a_second_sigterm_gives_running_jobs_back_at_once(daemon: Daemon) -> None:
    job_id = daemon.submit(act="work", seconds=50)
    until(lambda: daemon.job(job_id)["stage"] == "work")
    daemon.process.send_signal(signal.SIGTERM)
    until(lambda: '"drain_started"' in daemon.log.read_text())
    daemon.process.send_signal(signal.SIGTERM)
    assert daemon.process.wait(timeout=20) == 0
    daemon.start()
    (row,) = daemon.sql(f"SELECT failures, attempt FROM vidqueue.jobs WHERE id = '{job_id}'")
    assert row["failures"] == 0
    daemon.http.post(f"/v1/jobs/{job_id}/cancel")


@pytest.mark.long
async def test_a_daemon_whose_database_is_away_ends_all_the_same_and_loses_nothing(tmp_path: Path) -> None:
    server = embedded.Server(tmp_path / "theirs")
    await server.start()
    daemon = Daemon(tmp_path / "data", VIDQUEUE_DATABASE__URL=server.url, VIDQUEUE_RUNNING__DRAIN_TIMEOUT_S="1")
    await asyncio.to_thread(daemon.start)
    job_id = await asyncio.to_thread(daemon.submit, act="work", seconds=3)
    await asyncio.to_thread(until, lambda: daemon.job(job_id)["stage"] == "work")
    await server.stop()
    assert await asyncio.to_thread(daemon.stop) == 0
    await server.start()
    await asyncio.to_thread(daemon.start)
    job = await asyncio.to_thread(daemon.ended, job_id)
    assert (job["state"], job["attempt"]) == ("succeeded", 2)
    await asyncio.to_thread(daemon.stop)
    await server.stop()


def test_a_password_in_a_malformed_address_is_not_printed(tmp_path: Path) -> None:
    refused = _serve(VIDQUEUE_DATA_DIR=str(tmp_path), VIDQUEUE_DATABASE__URL="postgresql//u:s3cret@db/x")
    assert refused.returncode == 69
    assert "s3cret" not in refused.stderr + refused.stdout


def test_a_database_that_does_not_answer_is_said(tmp_path: Path) -> None:
    refused = _serve(VIDQUEUE_DATA_DIR=str(tmp_path), VIDQUEUE_DATABASE__URL="postgresql://me:pw@127.0.0.1:1/x")
    assert refused.returncode == 69
    assert "does not answer" in refused.stderr
    assert "pw" not in refused.stderr.replace("me:***", "")


def _serve(**variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "vidqueue", "serve"],
        env=os.environ | variables, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_a_daemon_prunes_what_is_old_and_makes_rows_and_bytes_agree(daemon: Daemon) -> None:
    old, lost = [daemon.ended(daemon.submit(act="work"))["id"] for _ in range(2)]
    daemon.stop()
    stored = {path.name: path for path in (daemon.data_dir / "files").glob("??/*")}
    stray = daemon.data_dir / "files" / "00" / "01890000-0000-7000-8000-000000000000"
    stray.parent.mkdir(exist_ok=True)
    stray.write_bytes(b"x")
    os.utime(stray, (0, 0))
    daemon.start()
    outputs = {str(row["job_id"]): str(row["file_id"]) for row in daemon.sql("SELECT * FROM vidqueue.outputs")}
    stored[outputs[lost]].unlink()
    daemon.sql(f"UPDATE vidqueue.jobs SET finished_at = now() - interval '91 days' WHERE id = '{old}'")
    daemon.stop()

    daemon.start()
    until(lambda: daemon.http.get(f"/v1/jobs/{old}").status_code == 404, what="the old job is gone")
    until(lambda: not stored[outputs[old]].exists(), what="and its bytes")
    until(lambda: not stray.exists(), what="and what nobody knows")
    assert daemon.sql("SELECT count(*) AS files FROM vidqueue.files WHERE missing_at IS NOT NULL") == [{"files": 1}]
    answer = daemon.http.get(f"/v1/jobs/{lost}/outputs/text")
    assert (answer.status_code, answer.json()["code"]) == (410, "file_lost")
    assert daemon.violations() == []
