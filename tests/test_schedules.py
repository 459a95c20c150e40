"""Schedules of a real daemon, over HTTP, the command line and its configuration, and over its death."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.daemon import Daemon, until


def vidqueue(daemon: Daemon, *words: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "vidqueue", *words, "--url", daemon.url, *([] if "remove" in words else ["--json"])],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [json.loads(line) for line in done.stdout.splitlines()]


def configured(*names: str) -> str:
    job = {"processor": "zoo", "title": "by the clock"}
    return json.dumps([{"name": name, "cron": "@hourly", "job": job} for name in names])


def runs(daemon: Daemon, name: str) -> list[dict[str, Any]]:
    return daemon.sql(f"SELECT * FROM vidqueue_report.schedule_runs WHERE name = '{name}' ORDER BY due_at")


def test_schedules_of_a_daemon_that_is_used_killed_and_given_another_configuration(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path / "data", VIDQUEUE_SCHEDULES=configured("first", "second")).start()

    words = ("schedules", "add", "hourly", "0 * * * *", "--processor", "zoo", "--timezone", "Europe/Berlin")
    (added,) = vidqueue(daemon, *words, "--one-at-a-time", "--tag", "nightly")
    assert (added["name"], added["missed"], added["one_at_a_time"], added["declared"]) == (
        "hourly",
        "once",
        True,
        False,
    )
    daemon.sql("UPDATE vidqueue.schedules SET next_at = now() - interval '1 s' WHERE name = 'hourly'")
    (run,) = until(lambda: vidqueue(daemon, "schedules", "runs", "hourly"))
    assert run["outcome"] == "submitted"
    assert daemon.ended(run["job_id"])["tags"] == ["nightly"]
    assert vidqueue(daemon, "schedules", "pause", "hourly")[0]["next_at"] is None
    assert [(one["name"], one["declared"]) for one in vidqueue(daemon, "schedules", "list")] == [
        ("first", True),
        ("hourly", False),
        ("second", True),
    ]
    assert vidqueue(daemon, "schedules", "resume", "hourly")[0]["next_at"] is not None

    bad: dict[str, Any] = {"name": "bad", "cron": "0 0 30 2 *", "job": {"processor": "zoo"}}
    assert daemon.http.post("/v1/schedules", json=bad).json()["code"] == "invalid_request"
    bad |= {"cron": "@daily", "job": {"processor": "zoo", "input": {"act": "fly"}}}
    assert daemon.http.post("/v1/schedules", json=bad).json()["code"] == "invalid_params"
    first = next(one for one in vidqueue(daemon, "schedules", "list") if one["declared"])
    assert daemon.http.delete(f"/v1/schedules/{first['id']}").json()["code"] == "conflict"
    vidqueue(daemon, "schedules", "remove", "hourly")

    # Killed over a time of both: the one that is still configured makes up for it, once.
    daemon.kill()
    daemon.variables["VIDQUEUE_SCHEDULES"] = configured("first")
    daemon.variables["VIDQUEUE_FAILPOINTS"] = "submit.before_commit=error"
    daemon.start()
    assert [one["name"] for one in vidqueue(daemon, "schedules", "list")] == ["first"]
    daemon.sql("UPDATE vidqueue.schedules SET next_at = now() - interval '3 hours'")
    (made,) = until(lambda: runs(daemon, "first"))
    assert made["outcome"] == "submitted"
    assert daemon.ended(str(made["job_id"]))["state"] == "succeeded"
    assert len(daemon.sql("SELECT id FROM vidqueue.jobs WHERE title = 'by the clock'")) == 1
    assert b"task_restarted" in daemon.log.read_bytes(), "the failpoint was reached"
    assert daemon.violations() == []
    assert daemon.stop() == 0
