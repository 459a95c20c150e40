"""A daemon that sleeps past its lease and wakes up: the job is somebody else's by then, and so are row and bytes."""

from __future__ import annotations

import time
from collections.abc import Callable
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import Daemon, until
from tests.faults.conftest import Start
from tests.postgres import Postgres, frozen, thaw

pytestmark = pytest.mark.slow

LEASE_S = 3.0


@pytest.fixture
def pair(postgres: Postgres, start: Start) -> Callable[[str], Daemon]:
    """Daemons on one database, each with a folder of its own."""
    shared = {"VIDQUEUE_DATABASE__URL": postgres.url, "VIDQUEUE_RUNNING__LEASE_S": str(LEASE_S)}
    return lambda name: start(name, **shared)


@pytest.mark.parametrize(
    ("with_executors", "wakes_in_mid_work"),
    [
        pytest.param(False, False, marks=pytest.mark.long),
        pytest.param(True, False, marks=pytest.mark.long),
        (False, True),
        pytest.param(True, True, marks=pytest.mark.long),
    ],
)
def test_a_daemon_that_slept_past_its_lease_is_refused_everything_and_lives_on(
    pair: Callable[[str], Daemon],
    figure: Callable[[str, float], None],
    with_executors: bool,
    wakes_in_mid_work: bool,
) -> None:
    first = pair("first")
    job_id = first.submit(act="sign", seconds=4)
    until(lambda: first.job(job_id)["progress"] > 0.1, what="the first is at work")
    stopped = [first.process.pid, *(first.children("executor.child") if with_executors else [])]
    with frozen(stopped):
        slept_at = time.time()
        second = pair("second")
        until(lambda: second.job(job_id)["attempt"] == 2, what="the second has rescued the job")
        figure("from SIGSTOP to the rescue, in s", time.time() - slept_at)
        if wakes_in_mid_work:
            until(lambda: second.job(job_id)["progress"] > 0.1, what="the second is at work")
        else:
            assert second.ended(job_id)["state"] == "succeeded"
        thaw(stopped)
        until(lambda: _is_refused(first), what="the first learns that it came too late")
        job = second.ended(job_id)
    assert (job["state"], job["attempt"]) == ("succeeded", 2)
    _nothing_of_the_first_is_there(first, second, job)

    assert second.stop() == 0
    further = first.ended(first.submit(act="work"))
    assert (further["state"], further["attempt"]) == ("succeeded", 1)
    assert first.process.poll() is None
    assert first.violations() == []
    assert first.stop() == 0


def _is_refused(daemon: Daemon) -> bool:
    log = daemon.log.read_text()
    return '"lease_lost"' in log or '"job_state": "refused"' in log


def _nothing_of_the_first_is_there(first: Daemon, second: Daemon, job: dict[str, Any]) -> None:
    job_id = job["id"]
    outcomes = second.sql(f"SELECT outcome FROM vidqueue.attempts WHERE job_id = '{job_id}' ORDER BY number")
    assert [row["outcome"] for row in outcomes] == ["interrupted", "succeeded"]
    told = _told_since_the_rescue(second, job_id)
    assert told[-1]["kind"] == "succeeded"
    progress = [0.0, *(event["progress"] for event in told if event["kind"] == "progress")]
    # The first was near its end: one word of it in here would be a leap.
    assert max(later - earlier for earlier, later in pairwise(progress)) < 0.6, progress
    (row,) = second.sql(
        f"SELECT f.* FROM vidqueue.outputs o JOIN vidqueue.files f ON f.id = o.file_id WHERE o.job_id = '{job_id}'"
    )
    (stored,) = _bytes(second)
    assert stored.name == str(row["id"])
    assert stored.read_text() == f"{second.data_dir}/work/{job_id}-2"
    assert sha256(stored.read_bytes()).hexdigest() == row["sha256"]
    until(lambda: not list((first.data_dir / "work").iterdir()), what="the first has cleared its workspace")
    assert _bytes(first) == []
    assert list((first.data_dir / "incoming").iterdir()) == []
    assert second.violations() == []


def _told_since_the_rescue(daemon: Daemon, job_id: str) -> list[dict[str, Any]]:
    return daemon.sql(f"""
        SELECT e.kind, (e.data -> 'progress')::real AS progress FROM vidqueue.events e
        WHERE e.job_id = '{job_id}'
          AND e.number > (SELECT number FROM vidqueue.events WHERE job_id = e.job_id AND kind = 'interrupted')
        ORDER BY e.number""")


def _bytes(daemon: Daemon) -> list[Path]:
    return [path for path in (daemon.data_dir / "files").rglob("*") if path.is_file()]
