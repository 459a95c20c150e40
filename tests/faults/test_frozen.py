"""Frozen PostgreSQL: sessions, or the whole server, that hold their sockets open and say nothing any more."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime

import pytest

from tests.daemon import Daemon, promised, until
from tests.faults.conftest import Start
from tests.postgres import Postgres, frozen, thaw

pytestmark = pytest.mark.slow

QUERY_TIMEOUT_S = 3.0
Figure = Callable[[str, float], None]


@pytest.fixture
def daemon(postgres: Postgres, start: Start) -> Daemon:
    return start(
        "data",
        VIDQUEUE_DATABASE__URL=postgres.url,
        VIDQUEUE_DATABASE__QUERY_TIMEOUT_S=str(QUERY_TIMEOUT_S),
        VIDQUEUE_RUNNING__LEASE_S="9",
    )


@pytest.mark.parametrize("how_many", ["one", pytest.param("all", marks=pytest.mark.long)])
def test_frozen_sessions_are_replaced_and_work_goes_on_before_they_thaw(
    postgres: Postgres, daemon: Daemon, figure: Figure, how_many: str
) -> None:
    running = daemon.submit(act="work", seconds=12, lane="cpu0")
    until(lambda: daemon.job(running)["stage"] == "work")
    stopped = _freeze(postgres, how_many)
    with frozen(stopped):
        frozen_at = time.monotonic()
        _everybody_is_answered(daemon, figure, for_s=6)
        job_id = until(lambda: _submitted(daemon), what="a submit is taken")
        until(lambda: _state(daemon, job_id) == "succeeded", within_s=60, what="a new job is done")
        figure("frozen: until a new job was done, in s", time.monotonic() - frozen_at)
        until(lambda: _state(daemon, running) == "succeeded", within_s=60, what="the running job is done")
    _all_is_well(daemon, running, figure)


@pytest.mark.long
def test_a_whole_server_that_freezes_for_fifteen_seconds_costs_nothing(
    postgres: Postgres, daemon: Daemon, figure: Figure
) -> None:
    running = daemon.submit(act="work", seconds=16, lane="cpu0")
    until(lambda: daemon.job(running)["stage"] == "work")
    stopped = postgres.processes()
    with frozen(stopped):
        until_s = time.monotonic() + 15
        _everybody_is_answered(daemon, figure, for_s=14)
        time.sleep(max(0, until_s - time.monotonic()))
        thaw(stopped)
        until(lambda: _state(daemon, running) == "succeeded", within_s=60, what="the running job is done")
    _all_is_well(daemon, running, figure)


def _freeze(postgres: Postgres, how_many: str) -> list[int]:
    """Sessions to be stopped, none of them with a lock: what waits for a lock waits rightly."""

    def idle() -> list[int] | None:
        pids = postgres.backends()
        chosen = pids if how_many == "all" else postgres.backends("state = 'idle' AND query <> 'SELECT 1'")[:1]
        with frozen(chosen):
            held = postgres.backends("pid IN (SELECT pid FROM pg_locks)")
            return None if set(held) & set(chosen) else chosen

    return list(until(idle, what="a moment in which no session holds a lock"))


def _everybody_is_answered(daemon: Daemon, figure: Figure, *, for_s: float) -> None:
    """Whoever asks is answered within the query timeout, with what they asked for or with 503; the process at once."""
    end, waits, health = time.monotonic() + for_s, [], []
    while time.monotonic() < end:
        health.append(daemon.http.get("/healthz").elapsed.total_seconds())
        answer = daemon.http.get("/v1/jobs")
        assert answer.status_code in (200, 503), answer.text
        waits.append(answer.elapsed.total_seconds())
        time.sleep(0.05)
    figure("requests", len(waits))
    figure("longest wait for an answer, in s", max(waits))
    figure("longest wait for /healthz, in s", max(health))
    assert max(health) < promised(1)
    assert max(waits) < QUERY_TIMEOUT_S + promised(1)


def _submitted(daemon: Daemon) -> str | None:
    answer = daemon.http.post("/v1/jobs", json={"processor": "zoo", "input": {"act": "work"}})
    return str(answer.json()["id"]) if answer.status_code == 202 else None


def _state(daemon: Daemon, job_id: str) -> str | None:
    answer = daemon.http.get(f"/v1/jobs/{job_id}")
    return str(answer.json()["state"]) if answer.status_code == 200 else None


def _all_is_well(daemon: Daemon, running: str, figure: Figure) -> None:
    assert daemon.job(running)["attempt"] == 1
    until(lambda: daemon.http.get("/v1/jobs").status_code == 200)
    asked_at = time.time()
    job = daemon.ended(daemon.submit(act="work"))
    assert (job["state"], job["attempt"]) == ("succeeded", 1)
    figure("thawed: until a new job began, in s", datetime.fromisoformat(job["started_at"]).timestamp() - asked_at)
    assert daemon.violations() == []
    assert daemon.process.poll() is None
    assert daemon.stop() == 0
