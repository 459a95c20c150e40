"""The failpoint loop: the daemon dies or fails once at each named point, and the job ends as promised all the same."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import psycopg
import pytest

from tests.daemon import Daemon, until
from tests.factory import Queue
from vidqueue.db.pool import Database
from vidqueue.ops import failpoints

SOURCE = Path(failpoints.__file__).parents[1]
PATIENCE_S = 90

Outcomes = tuple[str, ...]
ONCE: Outcomes = ("succeeded",)
AGAIN: Outcomes = ("interrupted", "succeeded")
BURNED: Outcomes = ("failed", "succeeded")


@dataclass(frozen=True)
class Promise:
    """Each job succeeds; how its attempts end until then, and how many files a dead daemon leaves without a row."""

    outcomes: set[Outcomes]
    left_behind: int = 0


# `make test` has a neighbour of each of these.
LONG = frozenset({"submit.before_commit", "run.begun", "run.staged", "output.committed", "reaper.given_back"})
# A death interrupts the attempt in hand and burns none; an error that no code expects burns the attempt it is met in.
PROMISES: dict[tuple[str, str], Promise] = {
    # Nothing was queued; the client without an answer asks again.
    ("submit.before_commit", "kill"): Promise({ONCE}),
    ("submit.before_commit", "error"): Promise({ONCE}),
    # The job is there though nobody was told; a lane may have it already when the daemon dies.
    ("submit.committed", "kill"): Promise({ONCE, AGAIN}),
    ("submit.committed", "error"): Promise({ONCE}),
    # The attempt is open and in its lane's queue: lost with the daemon, but a lane that lives takes it from there.
    ("dispatch.committed", "kill"): Promise({AGAIN}),
    ("dispatch.committed", "error"): Promise({ONCE}),
    ("run.begun", "kill"): Promise({AGAIN}),
    ("run.begun", "error"): Promise({BURNED}),
    ("run.staged", "kill"): Promise({AGAIN}),
    ("run.staged", "error"): Promise({BURNED}),
    # Done, but not told: done once more.
    ("run.worked", "kill"): Promise({AGAIN}),
    ("run.worked", "error"): Promise({BURNED}),
    # An output that is published before the end: its bytes have no row yet, or one that goes with the attempt.
    ("output.renamed", "kill"): Promise({AGAIN}, left_behind=1),
    ("output.renamed", "error"): Promise({BURNED}),
    ("output.committed", "kill"): Promise({AGAIN}),
    ("output.committed", "error"): Promise({BURNED}),
    # The bytes have their name and no row: removed at once by a daemon that lives, else by the sweep of a later one.
    ("publish.renamed", "kill"): Promise({AGAIN}, left_behind=1),
    ("publish.renamed", "error"): Promise({BURNED}),
    ("finish.before", "kill"): Promise({AGAIN}, left_behind=1),
    # Tried again without the next attempt, which might be what the database refuses.
    ("finish.before", "error"): Promise({ONCE}),
    # The end is in the database: nothing is left to do.
    ("finish.committed", "kill"): Promise({ONCE}),
    ("finish.committed", "error"): Promise({ONCE}),
    # Found again by the next round, of this daemon or another.
    ("reaper.found", "kill"): Promise({AGAIN}),
    ("reaper.found", "error"): Promise({AGAIN}),
    # Given back already; a lane may have the next attempt when the daemon dies.
    ("reaper.given_back", "kill"): Promise({AGAIN, ("interrupted", *AGAIN)}),
    ("reaper.given_back", "error"): Promise({AGAIN}),
}


@dataclass
class Home:
    """A data folder whose daemons come and go, on a database that stays."""

    data_dir: Path
    database_url: str
    _running: list[Daemon] = field(default_factory=list)

    def start(self, armed: str = "") -> Daemon:
        """The next daemon on the folder."""
        variables = {
            "VIDQUEUE_DATABASE__URL": self.database_url,
            "VIDQUEUE_RUNNING__LEASE_S": "3",
            "VIDQUEUE_LANES__CPU": "1",
            failpoints.VARIABLE: armed,
        }
        daemon = Daemon(self.data_dir, **variables)
        self._running.append(daemon)
        return daemon.start()

    def end(self) -> None:
        """Kill what runs."""
        for daemon in self._running:
            if hasattr(daemon, "process") and daemon.process.poll() is None:
                daemon.kill()

    def files(self) -> set[Path]:
        """Bytes that lie in storage."""
        return set((self.data_dir / "files").glob("??/*"))

    def without_row(self) -> set[Path]:
        """Those among them that no row names."""
        with psycopg.connect(self.database_url) as connection:
            named = {str(file_id) for (file_id,) in connection.execute("SELECT id FROM vidqueue.files")}
        return {path for path in self.files() if path.name not in named}

    def scratch(self) -> list[Path]:
        """What running attempts and uploads lay by."""
        return [left for name in ("work", "incoming") for left in (self.data_dir / name).iterdir()]


@pytest.fixture
def home(tmp_path: Path, database_url: str) -> Iterator[Home]:
    made = Home(tmp_path / "data", database_url)
    yield made
    made.end()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("point", "act"),
    # A killed daemon is the harder case; that it fails at the same points is the long form.
    [
        pytest.param(*one, marks=[pytest.mark.long] if one[1] == "error" or one[0] in LONG else [])
        for one in sorted(PROMISES)
    ],
)
def test_a_job_ends_as_promised_when_the_daemon_dies_or_fails(home: Home, point: str, act: str) -> None:
    promise, key = PROMISES[point, act], uuid4().hex
    daemon = home.start(f"{point}={act}")
    act_of_job = "publish_only" if point.startswith("output.") else "work"
    job_id = (
        asyncio.run(_lost_attempt(home.database_url))
        if point.startswith("reaper.")
        else _submit(daemon, key, act_of_job)
    )
    until(lambda: f'"point": "{point}"' in daemon.log.read_text(), within_s=PATIENCE_S, what="the point is reached")
    if act == "kill":
        assert daemon.process.wait(timeout=PATIENCE_S) == -signal.SIGKILL
        _left_behind_and_grown_old(home, promise.left_behind)
        daemon = home.start()
    if point.startswith("submit."):
        assert job_id is None
    job_id = job_id or _submit(daemon, key)
    assert job_id is not None

    assert daemon.ended(job_id, within_s=PATIENCE_S)["state"] == "succeeded"
    attempts = daemon.http.get(f"/v1/jobs/{job_id}/attempts").json()["attempts"]
    outcomes = tuple(attempt["outcome"] for attempt in attempts)
    assert outcomes in promise.outcomes
    assert {attempt["error"]["code"] for attempt in attempts if attempt["error"]} <= {"internal_error"}
    assert daemon.sql("SELECT failures FROM vidqueue.jobs") == [{"failures": outcomes.count("failed")}], "one job"
    assert len(daemon.sql("SELECT 1 FROM vidqueue.outputs")) == len(home.files()) == 1
    until(lambda: not home.without_row() and not home.scratch(), what="nothing is left on disk")
    until(lambda: not daemon.sql("SELECT 1 FROM procrastinate.procrastinate_jobs"), what="nothing is left to deliver")
    assert daemon.violations() == []


def _submit(daemon: Daemon, key: str, act: str = "work") -> str | None:
    """Ask for the job; None where the answer does not say that it is queued."""
    job = {"processor": "zoo", "input": {"act": act}}
    try:
        answer = daemon.http.post("/v1/jobs", json=job, headers={"Idempotency-Key": key})
    except httpx2.TransportError:
        return None
    assert answer.status_code in (200, 202, 500), answer.text
    return None if answer.status_code == 500 else str(answer.json()["id"])


async def _lost_attempt(database_url: str) -> str:
    """A job in the hands of a lane that nobody serves any more, its lease run out just now."""
    async with Database(database_url) as database:
        queue = Queue(database)
        job_id = await queue.submit(input={"act": "work"}, lane="gone")
        ref = await queue.dispatch(await queue.lane("gone"))
        assert ref is not None
        async with database.transaction() as connection:
            await connection.execute("UPDATE vidqueue.jobs SET wanted_lane = NULL")
            await connection.execute("UPDATE vidqueue.attempts SET lease_expires_at = clock_timestamp()")
            # Its lane had fetched it.
            await connection.execute("DELETE FROM procrastinate.procrastinate_jobs")
    return str(job_id)


def _left_behind_and_grown_old(home: Home, count: int) -> None:
    """The sweep spares what is younger than any upload may take."""
    left = home.without_row()
    assert len(left) == count
    long_ago = time.time() - 2 * 86_400
    for path in left:
        os.utime(path, (long_ago, long_ago))


def test_each_point_has_a_promise_for_death_and_for_error() -> None:
    assert set(PROMISES) == {(point, act) for point in failpoints.POINTS for act in ("kill", "error")}


def test_each_point_is_passed_in_the_source() -> None:
    sources = "".join(path.read_text() for path in SOURCE.rglob("*.py"))
    assert set(re.findall(r'failpoints\.reach\("([^"]+)"\)', sources)) == set(failpoints.POINTS)


def test_an_armed_daemon_warns(home: Home) -> None:
    daemon = home.start("run.staged=delay:0, finish.committed=error*2")
    (told,) = [line for line in daemon.log.read_text().splitlines() if "failpoints_armed" in line]
    assert '"points": ["finish.committed", "run.staged"]' in told
    assert '"level": "warning"' in told


def test_a_daemon_that_is_not_armed_says_nothing_of_failpoints(home: Home) -> None:
    assert "failpoint" not in home.start().log.read_text()


@pytest.mark.parametrize("text", ["run.nowhere=kill", "run.begun=explode", "run.begun", "run.begun=delay:soon"])
def test_a_point_or_an_act_that_there_is_not_is_a_fault_of_the_configuration(tmp_path: Path, text: str) -> None:
    refused = subprocess.run(
        [sys.executable, "-m", "vidqueue", "serve"],
        env=os.environ | {"VIDQUEUE_DATA_DIR": str(tmp_path), failpoints.VARIABLE: text},
        capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert refused.returncode == 78
    told = " ".join(refused.stderr.split())
    assert failpoints.VARIABLE in told
    assert text in told
    assert "finish.before" in told, "it names those that there are"


def test_a_setting_is_read_with_counts_and_delays() -> None:
    read = failpoints.parse("run.begun=kill, run.staged=delay:1.5*3,run.worked=error*2")
    assert read == {
        "run.begun": failpoints.Failpoint("kill", 0, 1),
        "run.staged": failpoints.Failpoint("delay", 1.5, 3),
        "run.worked": failpoints.Failpoint("error", 0, 2),
    }
    assert failpoints.parse("") == {}


@pytest.fixture
def disarmed() -> Iterator[None]:
    yield
    failpoints.arm("")


@pytest.mark.usefixtures("disarmed")
async def test_a_point_acts_as_often_as_it_was_told() -> None:
    failpoints.arm("run.begun=error*2")
    await failpoints.reach("run.staged")
    for _ in range(2):
        with pytest.raises(failpoints.FailpointError, match=r"run\.begun"):
            await failpoints.reach("run.begun")
    await failpoints.reach("run.begun")


@pytest.mark.usefixtures("disarmed")
async def test_an_unarmed_point_does_nothing_but_look_whether_it_is_armed(monkeypatch: pytest.MonkeyPatch) -> None:
    acted: list[Any] = []

    async def act(point: str) -> None:
        acted.append(point)

    monkeypatch.setattr(failpoints, "_act", act)
    await failpoints.reach("run.begun")
    assert acted == []
    failpoints.arm("run.staged=error")
    await failpoints.reach("run.begun")
    assert acted == ["run.begun"]
