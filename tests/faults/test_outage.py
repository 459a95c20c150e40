"""PostgreSQL away for forty seconds: while lanes idle, while jobs are submitted, while they run and while they end."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import httpx2
import pytest

from tests.daemon import Daemon, promised, until
from tests.faults.conftest import Start
from tests.postgres import Postgres, own_postgres

pytestmark = pytest.mark.slow

AWAY_S = 40.0
Figure = Callable[[str, float], None]


class Submitter:
    """Submits a job twice a second, whatever comes of it, and keeps what it was answered and how soon."""

    def __init__(self, daemon: Daemon) -> None:
        self.answers: list[tuple[httpx2.Response, float]] = []
        self._url = daemon.url
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._submit)
        self._thread.start()

    def _submit(self) -> None:
        with httpx2.Client(base_url=self._url, timeout=30) as http:
            while not self._stop.is_set():
                asked_at = time.monotonic()
                answer = http.post("/v1/jobs", json={"processor": "zoo", "input": {"act": "work"}, "lane": "cpu2"})
                self.answers.append((answer, time.monotonic() - asked_at))
                self._stop.wait(0.5)

    def stop(self) -> list[tuple[httpx2.Response, float]]:
        self._stop.set()
        self._thread.join()
        return self.answers


@pytest.fixture
def other_postgres() -> Iterator[Postgres]:
    with own_postgres() as server:
        yield server


def test_a_database_that_is_away_for_forty_seconds_costs_no_job_and_no_restart(
    postgres: Postgres, other_postgres: Postgres, start: Start, figure: Figure
) -> None:
    """Two daemons, each with its server: a lease shorter than the outage, a fast stop; a longer lease, a crash."""
    leases, servers = {"short": 30.0, "long": 60.0}, (postgres, other_postgres)
    daemons = [
        _daemon(start, name, server.url, lease_s)
        for server, (name, lease_s) in zip(servers, leases.items(), strict=True)
    ]
    through = [daemon.submit(act="work", seconds=AWAY_S + 15, lane="cpu0") for daemon in daemons]
    ending = [daemon.submit(act="work", seconds=AWAY_S / 2, lane="cpu1") for daemon in daemons]
    for daemon, *ids in zip(daemons, through, ending, strict=True):
        until(lambda: all(daemon.job(one)["stage"] == "work" for one in ids), what="at work")  # noqa: B023

    postgres.stop()
    other_postgres.crash()
    submitters = [Submitter(daemon) for daemon in daemons]
    time.sleep(AWAY_S)
    refused = [submitter.stop() for submitter in submitters]
    healthy = [daemon.http.get("/healthz").elapsed.total_seconds() for daemon in daemons]
    returned = [_return(server, daemon) for server, daemon in zip(servers, daemons, strict=True)]

    assert max(healthy) < promised(1)
    for name, daemon, answers, (back_at, first_job) in zip(leases, daemons, refused, returned, strict=True):
        _was_told_to_come_again(answers, figure, name)
        assert daemon.ended(first_job)["state"] == "succeeded"
        back_s = _started_at(daemon, first_job) - back_at
        figure(f"{name} lease: from the return to a new job's start, in s", back_s)
        assert back_s < promised(2)
    for daemon, running, ended in zip(daemons, through, ending, strict=True):
        _went_on_where_it_was(daemon, running)
        for job_id in (running, ended):
            job = daemon.ended(job_id)
            assert (job["state"], job["attempt"], len(job["outputs"])) == ("succeeded", 1, 1), job["message"]
        assert daemon.violations() == []
        assert daemon.process.poll() is None
        assert daemon.stop() == 0


def _daemon(start: Start, name: str, database_url: str, lease_s: float) -> Daemon:
    return start(
        name,
        VIDQUEUE_DATABASE__URL=database_url, VIDQUEUE_RUNNING__LEASE_S=str(lease_s), VIDQUEUE_LANES__CPU="3",
    )  # fmt: skip


def _return(server: Postgres, daemon: Daemon) -> tuple[float, str]:
    """Start the server; when it took its first connection, and the first job that was submitted then."""
    starting = threading.Thread(target=server.start)
    starting.start()
    back_at = server.accepts_connections_at()
    job_id = _submitted_as_soon_as_possible(daemon)
    starting.join()
    return back_at, job_id


def _submitted_as_soon_as_possible(daemon: Daemon) -> str:
    def accepted() -> str | None:
        answer = daemon.http.post("/v1/jobs", json={"processor": "zoo", "input": {"act": "work"}, "lane": "cpu2"})
        return str(answer.json()["id"]) if answer.status_code == 202 else None

    return str(until(accepted, what="a submit is taken again"))


def _was_told_to_come_again(answers: list[tuple[httpx2.Response, float]], figure: Figure, name: str) -> None:
    assert len(answers) > 5
    for answer, _ in answers:
        assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
        assert int(answer.headers["Retry-After"]) > 0
    waits = [waited_s for _, waited_s in answers]
    figure(f"{name} lease: submits answered 503", len(waits))
    figure(f"{name} lease: median wait for a 503, in s", statistics.median(waits))
    figure(f"{name} lease: longest wait for a 503, in s", max(waits))
    assert max(waits) < promised(2)


def _went_on_where_it_was(daemon: Daemon, job_id: str) -> None:
    """The progress made during the outage shows soon after it: the job is far beyond where the outage began."""
    until(lambda: daemon.job(job_id)["progress"] > AWAY_S / (AWAY_S + 15) * 0.8, within_s=10, what="progress shows")


def _started_at(daemon: Daemon, job_id: str) -> float:
    started: Any = daemon.job(job_id)["started_at"]
    return datetime.fromisoformat(started).timestamp()
