"""`--run-at` as people write it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest

from tests.cli.conftest import CommandLine
from tests.daemon import Daemon
from vidqueue.cli.exits import CommandError
from vidqueue.cli.times import moment_of


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("berlin")
@pytest.mark.parametrize(
    ("given", "now", "meant"),
    [
        ("tonight", "2026-11-25T21:00+01:00", "2026-11-25T22:00+01:00"),
        ("Tonight", "2026-11-25T23:30+01:00", "2026-11-25T23:30+01:00"),
        ("23:00", "2026-11-25T22:59:59+01:00", "2026-11-25T23:00+01:00"),
        ("23:00", "2026-11-25T23:00+01:00", "2026-11-25T23:00+01:00"),
        ("23:00", "2026-12-31T23:00:01+01:00", "2027-01-01T23:00+01:00"),
        ("6:05:30", "2026-11-25T07:00+01:00", "2026-11-26T06:05:30+01:00"),
        ("+2h", "2026-11-25T23:00+01:00", "2026-11-26T01:00+01:00"),
        ("+90", "2026-11-25T23:00+01:00", "2026-11-25T23:01:30+01:00"),
        # Over the changes of the clocks: a duration is of seconds, a time of day is what the clock shows.
        ("+2h", "2026-10-25T01:30+02:00", "2026-10-25T02:30+01:00"),
        ("23:00", "2026-10-24T23:30+02:00", "2026-10-25T23:00+01:00"),
        ("2:30", "2026-10-25T02:45+02:00", "2026-10-25T02:30+01:00"),
        ("2:30", "2026-03-28T12:00+01:00", "2026-03-29T03:30+02:00"),
        ("2027-01-31T22:00", "2026-11-25T23:00+01:00", "2027-01-31T22:00+01:00"),
        ("2027-07-31 22:00Z", "2026-11-25T23:00+01:00", "2027-07-31T22:00+00:00"),
    ],
)
def test_a_time_is_the_next_one_that_is_meant(given: str, now: str, meant: str) -> None:
    assert moment_of(given, now=datetime.fromisoformat(now)) == datetime.fromisoformat(meant)


@pytest.mark.parametrize("given", ["", "25:00", "23:60", "+", "+0h", "+2 weeks", "-2h", "yesterday", "9" * 40])
def test_what_is_no_time_is_refused_with_the_ways_to_write_one(given: str) -> None:
    with pytest.raises(CommandError, match="is not a time") as refused:
        moment_of(given)
    assert "23:00, +2h or tonight" in refused.value.hint


def test_jobs_and_batches_wait_until_the_time_that_was_meant(vidqueue: CommandLine, daemon: Daemon) -> None:
    before = datetime.now().astimezone()
    job = vidqueue("submit", "zoo", "--run-at", "+2h", "--expires-at", "+3h", "--json").json
    told = datetime.fromisoformat(job["run_at"])
    assert before + timedelta(hours=2) <= told <= datetime.now().astimezone() + timedelta(hours=2)
    assert datetime.fromisoformat(job["expires_at"]) - told < timedelta(hours=1, minutes=1)
    (vidqueue.folder / "jobs.ndjson").write_text(
        '{"processor": "zoo"}\n{"processor": "zoo", "run_at": "2099-01-01T00:00Z"}\n'
    )
    batch = vidqueue("batch", "jobs.ndjson", "--run-at", "23:00", "--json", variables={"TZ": "Asia/Tokyo"}).json
    first, second = (datetime.fromisoformat(daemon.job(job_id)["run_at"]) for job_id in batch["jobs"])
    assert (first.hour, first.minute, second.year) == (14, 0, 2099)  # UTC
    assert before <= first < before + timedelta(days=1, minutes=5)
    refused = vidqueue("submit", "zoo", "--run-at", "midnightish")
    assert (refused.code, "'midnightish' is not a time." in refused.err) == (2, True)
    assert "tonight (22:00 today, or" in vidqueue("submit", "zoo", "--help", variables={"COLUMNS": "240"}).out
    vidqueue("cancel", job["id"], *batch["jobs"])
