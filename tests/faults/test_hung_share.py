"""A dead network share under `inputs.roots`: only the jobs that read from it wait, and everything else goes on."""

from __future__ import annotations

import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx2
import pytest

from tests.daemon import Daemon, promised, until
from tests.faults import hung_folder
from tests.faults.conftest import Start

pytestmark = pytest.mark.slow
REQUESTS = 12


class Share:
    """A root that can be made to hang, beside one that works, each with a file."""

    def __init__(self, folder: Path) -> None:
        self.dead, self.well, self.flag = folder / "dead", folder / "well", folder / "hangs"
        for root in (self.dead, self.well):
            root.mkdir()
            (root / "clip").write_bytes(b"a clip")
        # Leads out of the root that works.
        (self.well / "link").symlink_to(self.dead / "clip")

    @property
    def under(self) -> tuple[str, ...]:
        return (sys.executable, hung_folder.__file__, str(self.dead), str(self.flag))


def submit(daemon: Daemon, path: Path) -> httpx2.Response:
    body = {"processor": "zoo", "input": {"act": "read", "media": str(path)}}
    return httpx2.post(f"{daemon.url}/v1/jobs", json=body, timeout=60)


def healthz_s(daemon: Daemon) -> float:
    begun = time.monotonic()
    assert daemon.http.get("/healthz").status_code == 200
    return time.monotonic() - begun


def test_a_dead_share_delays_nothing_but_the_jobs_that_read_from_it(start: Start, tmp_path: Path) -> None:
    share = Share(tmp_path)
    share.flag.touch()
    roots = f'["{share.dead}", "{share.well}"]'
    # It starts although a root hangs.
    daemon = start("data", share.under, VIDQUEUE_INPUTS__ROOTS=roots, VIDQUEUE_RUNNING__LEASE_S="3")
    busy = daemon.submit(act="work", seconds=8, lane="cpu0")
    with ThreadPoolExecutor(REQUESTS) as clients:
        # A link from the other root must not use up the threads of that one.
        paths = [share.dead / "clip", share.well / "link"] * (REQUESTS // 2)
        waiting = [clients.submit(submit, daemon, path) for path in paths]
        _everything_else_works(daemon, share, waiting)
        answers = [one.result() for one in waiting]
    assert {(one.status_code, one.json()["code"]) for one in answers} == {(503, "input_unreachable")}
    assert {one.headers["Retry-After"] for one in answers} == {"10"}
    hanging = {str(share.dead): 4}
    assert daemon.http.get("/healthz").json() == {"status": "ok", "hanging": hanging}
    assert daemon.http.get("/readyz").json()["hanging"] == hanging
    assert '"calls_hang"' in daemon.log.read_text()
    # Now that every thread hangs, the next ones are refused at once, and the other root is as it was.
    begun = time.monotonic()
    assert submit(daemon, share.dead / "clip").status_code == 503
    assert time.monotonic() - begun < promised(1)
    assert daemon.ended(submit(daemon, share.well / "clip").json()["id"])["state"] == "succeeded"
    assert (daemon.ended(busy)["state"], daemon.job(busy)["attempt"]) == ("succeeded", 1)
    _a_job_waits_for_its_share(daemon, share)
    _it_ends_in_time(daemon, share)


def _everything_else_works(daemon: Daemon, share: Share, waiting: list[Future[httpx2.Response]]) -> None:
    times = [healthz_s(daemon) for _ in range(20)]
    assert sorted(times)[-2] < promised(0.1)
    uploaded = daemon.http.post("/v1/files?name=a.txt", content=b"text" * 100_000)
    assert uploaded.status_code == 201, uploaded.text
    assert daemon.http.get(f"{uploaded.json()['urls']['content']}").content == b"text" * 100_000
    assert not all(one.done() for one in waiting)
    read = submit(daemon, share.well / "clip")
    assert read.status_code == 202, read.text
    assert daemon.ended(read.json()["id"])["state"] == "succeeded"


def _a_job_waits_for_its_share(daemon: Daemon, share: Share) -> None:
    """A share that dies after the submission burns no attempt, and the job runs when it is back."""
    share.flag.unlink()
    until(lambda: daemon.http.get("/healthz").json()["hanging"] == {}, what="the share is back")
    soon = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    body = {"processor": "zoo", "input": {"act": "read", "media": str(share.dead / "clip")}, "run_at": soon}
    job_id = daemon.http.post("/v1/jobs", json=body).json()["id"]
    share.flag.touch()
    daemon.sql(f"UPDATE vidqueue.jobs SET run_at = now() WHERE id = '{job_id}'")
    query = f"SELECT outcome, reason FROM vidqueue.attempts WHERE job_id = '{job_id}' AND outcome IS NOT NULL"
    (attempt,) = until(lambda: daemon.sql(query), what="the lane gives the job back")
    assert attempt["outcome"] == "interrupted"
    assert attempt["reason"] == f"{share.dead} does not respond."
    assert daemon.sql(f"SELECT failures FROM vidqueue.jobs WHERE id = '{job_id}'") == [{"failures": 0}]
    assert daemon.ended(submit(daemon, share.well / "clip").json()["id"])["state"] == "succeeded"
    share.flag.unlink()
    daemon.sql(f"UPDATE vidqueue.jobs SET run_at = now() WHERE id = '{job_id}'")
    assert daemon.ended(job_id)["state"] == "succeeded"
    assert daemon.violations() == []


def _it_ends_in_time(daemon: Daemon, share: Share) -> None:
    share.flag.touch()
    with ThreadPoolExecutor(REQUESTS) as clients:
        waiting = [clients.submit(submit, daemon, share.dead / "clip") for _ in range(REQUESTS)]
        until(lambda: daemon.http.get("/healthz").json()["hanging"], what="the share hangs again")
        begun = time.monotonic()
        assert daemon.stop() == 0
        assert time.monotonic() - begun < promised(15)
        for one in waiting:
            one.exception()
