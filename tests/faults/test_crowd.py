"""A long job while a crowd watches: the load of a thousand event streams makes nobody think that the job is dead.

The long form (three minutes, a thousand clients) runs with VIDQUEUE_TEST_FULL=1.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import httpx2
import pytest

from tests.daemon import Daemon
from tests.faults.conftest import Start

pytestmark = pytest.mark.slow

# Length of the job, lease, stall timeout, clients.
SHORT = (40.0, 3.0, 10.0, 200)
FULL = (180.0, 30.0, 20.0, 1000)
Figure = Callable[[str, float], None]


@pytest.fixture
def many_files() -> Iterator[None]:
    """Room for the crowd, here and in the daemon."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Visitor:
    """Submits a little job now and then, so that there is something to watch, and asks how the process feels."""

    def __init__(self, daemon: Daemon) -> None:
        self.jobs: list[str] = []
        self.waits: list[float] = []
        self._url = daemon.url
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._visit)
        self._thread.start()

    def _visit(self) -> None:
        with httpx2.Client(base_url=self._url, timeout=60) as http:
            while not self._stop.wait(0.5):
                self.waits.append(http.get("/healthz").elapsed.total_seconds())
                answer = http.post("/v1/jobs", json={"processor": "zoo", "input": {"act": "work"}, "lane": "cpu1"})
                assert answer.status_code == 202, answer.text
                self.jobs.append(answer.json()["id"])

    def leave(self) -> None:
        self._stop.set()
        self._thread.join()


@pytest.mark.usefixtures("many_files")
def test_a_job_with_steady_progress_is_left_alone_while_a_crowd_watches(start: Start, figure: Figure) -> None:
    seconds, lease_s, stall_s, clients = FULL if os.environ.get("VIDQUEUE_TEST_FULL") else SHORT
    daemon = start("data", VIDQUEUE_RUNNING__LEASE_S=str(lease_s))
    job_id = daemon.submit(act="work", seconds=seconds, lane="cpu0", stall_timeout_s=stall_s)
    command = [sys.executable, "-m", "tests.faults.crowd", daemon.url, job_id, str(clients)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as crowd:
        try:
            assert crowd.stdout
            assert json.loads(crowd.stdout.readline()) == {"connected": clients}
            assert daemon.job(job_id)["state"] == "running", "the crowd is there before the end"
            visitor = Visitor(daemon)
            job = daemon.ended(job_id, within_s=seconds * 3)
            visitor.leave()
            told = json.loads(crowd.stdout.readline())
        finally:
            crowd.kill()
    figure("events told", told["events"])
    figure("longest wait for /healthz, in s", max(visitor.waits))
    assert (job["state"], job["attempt"], len(job["outputs"])) == ("succeeded", 1, 1)
    kinds = [row["kind"] for row in daemon.sql(f"SELECT kind FROM vidqueue.events WHERE job_id = '{job_id}'")]
    assert [kind for kind in kinds if kind != "progress"] == ["queued", "running", "succeeded"]
    assert told["heard_the_end"] == clients
    for little in visitor.jobs:
        assert daemon.ended(little)["attempt"] == 1
    assert daemon.violations() == []
    assert daemon.stop() == 0
