"""`vidqueue pause`, `resume` and `drain` against a real daemon, which is restarted meanwhile."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from select import select
from typing import Any

import httpx2
import pytest

from tests.cli.conftest import CommandLine
from tests.daemon import Daemon, until
from vidqueue.cli.durations import seconds_of
from vidqueue.cli.exits import CommandError


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Daemon]:
    started = Daemon(tmp_path / "data").start()
    yield started
    assert started.stop() == 0


def test_a_pause_outlives_the_daemon_and_ends_when_somebody_ends_it(own: Daemon, tmp_path: Path) -> None:
    told: list[dict[str, Any]] = []
    threading.Thread(target=_listen, args=(own.url, told), daemon=True).start()
    until(lambda: "connected" in own.log.read_text() or told or own.job(own.submit(act="work")), what="it listens")
    vidqueue = CommandLine(tmp_path, own.url)
    running = own.submit(act="work", seconds=1)
    until(lambda: own.job(running)["state"] != "queued", what="the first runs")

    ran = vidqueue("pause", "--reason", "a demo for the boss", "--for", "2h")
    assert ran.code == 0, ran.err
    assert "everything is paused, ends in" in ran.out
    assert "(a demo for the boss)" in ran.out
    waits = own.submit(act="work")
    assert own.ended(running)["state"] == "succeeded"
    assert own.job(waits)["wait_reason"] == "paused"
    until(lambda: [one for one in told if one["kind"] == "paused"], what="listeners hear of it")

    assert own.stop() == 0
    own.start()
    vidqueue = CommandLine(tmp_path, own.url)
    assert own.job(waits)["wait_reason"] == "paused"
    assert vidqueue("resume").out == "Nothing is paused.\n"
    assert own.ended(waits)["state"] == "succeeded"


def _listen(url: str, told: list[dict[str, Any]]) -> None:
    with httpx2.stream("GET", f"{url}/v1/events?after=0", timeout=60) as response:
        for line in response.iter_lines():
            if line.startswith("data: "):
                told.append(json.loads(line.removeprefix("data: ")))


def test_a_lane_that_drains_finishes_its_job_and_frees_its_executor(own: Daemon, tmp_path: Path) -> None:
    vidqueue = CommandLine(tmp_path, own.url)
    job_id = own.submit(act="work", seconds=3, lane="cpu0")
    until(lambda: own.job(job_id)["state"] == "running", what="it runs")
    until(lambda: len(own.children("executor.child")) == 1, what="its executor runs")
    ran = vidqueue("drain", "--lane", "cpu0")
    assert ran.code == 0, ran.err
    assert "is draining" in ran.out
    assert own.ended(job_id)["attempt"] == 1
    until(lambda: not own.children("executor.child"), what="the executor is gone")
    until(lambda: "drained" in vidqueue("lanes").out, what="the lane says so")
    waits = own.submit(act="work", lane="cpu0")
    assert own.job(waits)["wait_reason"] == "paused"
    assert own.ended(own.submit(act="work", lane="cpu1"))["state"] == "succeeded"
    assert vidqueue("resume", "--lane", "cpu0").out == "Nothing is paused.\n"
    assert own.ended(waits)["state"] == "succeeded"
    assert own.violations() == []


def test_who_watches_all_jobs_goes_on_after_a_pause(own: Daemon, tmp_path: Path) -> None:
    vidqueue = CommandLine(tmp_path, own.url)
    with vidqueue.start("watch", "--all", "--json", stdout=-1) as watching:
        listening = watching.stdout
        assert listening is not None
        # It hears only what happens once it listens, and a busy machine takes its time to start a program.
        until(lambda: own.submit(act="work") and select([listening], [], [], 1)[0], what="it listens")
        assert vidqueue("pause").code == 0
        assert vidqueue("resume").code == 0
        second = own.submit(act="work")
        heard = iter(listening.readline, b"")
        assert next(line for line in heard if json.loads(line)["id"] == second)
        watching.terminate()


def test_what_is_not_there_is_said(own: Daemon, tmp_path: Path) -> None:
    vidqueue = CommandLine(tmp_path, own.url)
    assert vidqueue("pause", "--lane", "gpu9").code == 4
    assert "no processor 'nope'" in vidqueue("pause", "--processor", "nope").err
    assert vidqueue("pause", "--lane", "cpu0", "--processor", "zoo").code == 2
    assert vidqueue("pause", "--for", "soon").code == 2
    assert own.http.post("/v1/pause", json={"for_s": -1}).status_code == 422
    assert own.http.post("/v1/pause").status_code == 200
    assert own.http.get("/v1/stats").json()["paused"] is True
    assert own.http.post("/v1/resume").json() == {"pauses": []}


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30m", 1800), ("1.5h", 5400), ("2 d", 172_800), ("7", 7)])
def test_durations_are_read_as_people_write_them(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "-1h", "1w", "1e9", "soon", "٣h"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(CommandError):
        seconds_of(text)
    if text != "0":
        with pytest.raises(CommandError):
            seconds_of(text, may_be_zero=True)


def test_a_delay_may_be_zero() -> None:
    assert seconds_of("0s", may_be_zero=True) == 0
