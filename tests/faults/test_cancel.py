"""Cancel at every phase of a job: what the caller is told, what becomes of the job, and that nothing of it is left.

Short phases are held open by a delay at a failpoint, long ones by freezing the process that does the work.
"""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest

from tests.daemon import Daemon, promised, until
from tests.media.clips import make_long_sample
from vidqueue.db.embedded import server as embedded
from vidqueue.ops import failpoints

PATIENCE_S = 60
# A canceled job has its lane free after so long.
FREE_S = 2
# How long a failpoint holds a phase open that nothing ends early; the code there waits for nobody.
HOLD_S = 1.5

CANCELED = ["queued", "running", "cancel_requested", "canceled"]
CANCELED_AT_ONCE = ["queued", "canceled"]
SUCCEEDED = ["queued", "running", "succeeded"]
FAILED = ["queued", "running", "failed"]

Daemons = Callable[..., Daemon]


@pytest.fixture
def start(tmp_path: Path, database_url: str) -> Iterator[Daemons]:
    """Starts the daemon with one lane, on a database that outlives it."""
    started: list[Daemon] = []

    def start_one(**variables: str) -> Daemon:
        own = {"VIDQUEUE_DATABASE__URL": database_url, "VIDQUEUE_LANES__CPU": "1"}
        started.append(Daemon(tmp_path / "data", **own, **variables))
        return started[-1].start()

    yield start_one
    for daemon in started:
        if hasattr(daemon, "process") and daemon.process.poll() is None:
            daemon.kill()


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """Not under pytest's folders, which another session of the same user closes to the embedded server's."""
    with tempfile.TemporaryDirectory(prefix="vidqueue-cancel-") as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def daemon(home: Path) -> Iterator[Daemon]:
    """One for all phases that no failpoint holds."""
    started = Daemon(home / "data", VIDQUEUE_LANES__CPU="1").start()
    yield started
    started.stop()


@pytest.fixture(scope="module")
def clip(home: Path) -> Path:
    """Enough work to be canceled in."""
    path = home / "clip.mp4"
    make_long_sample(path, seconds=30)
    return path


def submit_two(daemon: Daemon, act: str = "work", lane: str | None = None) -> tuple[str, str]:
    """A job and another one that needs its output, queued in one transaction so that the first cannot run before."""
    submit = "SELECT vidqueue.submit('zoo', jsonb_build_object('act', %s::text, 'marker', %s::text), lane => %s)"
    with psycopg.connect(daemon.database_url) as connection:
        first = connection.execute(submit, (act, "", lane)).fetchone()
        assert first is not None
        second = connection.execute(submit, ("work", f"vq:jobs/{first[0]}/text", lane)).fetchone()
    assert second is not None
    return str(first[0]), str(second[0])


def cancel(daemon: Daemon, job_id: str) -> httpx2.Response:
    return daemon.http.post(f"/v1/jobs/{job_id}/cancel")


def kinds(daemon: Daemon, job_id: str) -> list[str]:
    """Its events in order, but for progress."""
    found = daemon.sql(f"SELECT kind FROM vidqueue.events WHERE job_id = '{job_id}' ORDER BY number")
    return [row["kind"] for row in found if row["kind"] != "progress"]


def nothing_is_left_of(daemon: Daemon, job_id: str, events: list[str]) -> None:
    """A canceled job has told its end once and last; no output, no bytes, no process."""
    assert kinds(daemon, job_id) == events
    assert daemon.sql(f"SELECT name FROM vidqueue.outputs WHERE job_id = '{job_id}'") == []
    until(lambda: no_scratch(daemon), within_s=promised(FREE_S), what="its workspace is gone")
    until(lambda: stored(daemon) == named(daemon), within_s=promised(FREE_S), what="its bytes are gone")
    until(lambda: not daemon.children("ffmpeg-linux"), what="its ffmpeg has ended")


def the_lane_works(daemon: Daemon) -> None:
    """It is free: the next job begins there at once, and all promises are kept."""
    next_job = daemon.submit(act="work")
    until(
        lambda: daemon.job(next_job)["state"] != "queued", within_s=promised(FREE_S), what="the lane takes the next job"
    )
    assert daemon.ended(next_job, within_s=PATIENCE_S)["state"] == "succeeded"
    assert daemon.violations() == []


def no_scratch(daemon: Daemon) -> bool:
    return not list((daemon.data_dir / "work").iterdir())


def stored(daemon: Daemon) -> set[str]:
    return {path.name for path in (daemon.data_dir / "files").glob("??/*")}


def named(daemon: Daemon) -> set[str]:
    return {str(row["id"]) for row in daemon.sql("SELECT id FROM vidqueue.files")}


def fails_with_it(daemon: Daemon, dependent: str) -> None:
    job = daemon.ended(dependent, within_s=promised(FREE_S))
    assert (job["state"], job["error"]["code"]) == ("failed", "dependency_failed")
    assert kinds(daemon, dependent) == ["queued", "failed"]


@dataclass(frozen=True)
class Held:
    """A phase that a delay holds open, and what a cancel in it comes to: canceled, or 409 for a job that is done."""

    point: str
    canceled: bool = True
    hold_s: float = HOLD_S
    act: str = "work"
    ends_within_s: float = HOLD_S + FREE_S


HELD = {
    # The dispatcher stands; the lane has begun by itself and is asked.
    "handed to a lane": Held("dispatch.committed", act="hang"),
    "begun": Held("run.begun"),
    # Dropped at once, although the hold is long: nobody waits for an input that is not wanted any more.
    "fetching input": Held("run.staged", hold_s=PATIENCE_S, ends_within_s=FREE_S),
    # The work is done. Whoever is told 202 does not find the job succeeded.
    "done with the work": Held("run.worked"),
    "publishing": Held("publish.renamed"),
    # The statement that ends the attempt finds that somebody has asked.
    "before its end is written": Held("finish.before"),
    # Written: too late.
    "just finished": Held("finish.committed", canceled=False),
}


@pytest.mark.slow
@pytest.mark.parametrize("phase", HELD)
def test_a_cancel_in_a_phase_that_is_held_open(start: Daemons, phase: str) -> None:
    held = HELD[phase]
    daemon = start(**{failpoints.VARIABLE: f"{held.point}=delay:{held.hold_s}"})
    job_id, dependent = submit_two(daemon, held.act)
    until(lambda: f'"point": "{held.point}"' in daemon.log.read_text(), what=phase)
    answer = cancel(daemon, job_id)
    if not held.canceled:
        assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
        assert daemon.job(job_id)["state"] == "succeeded"
        assert kinds(daemon, job_id) == SUCCEEDED
        assert daemon.ended(dependent, within_s=PATIENCE_S)["state"] == "succeeded"
    else:
        assert (answer.status_code, answer.json()["state"]) == (202, "running")
        assert daemon.ended(job_id, within_s=promised(held.ends_within_s))["state"] == "canceled"
        fails_with_it(daemon, dependent)
        nothing_is_left_of(daemon, job_id, CANCELED)
    the_lane_works(daemon)


def test_a_job_that_waits_is_canceled_when_the_caller_is_told(daemon: Daemon) -> None:
    job_id, dependent = submit_two(daemon, lane="nowhere")
    answer = cancel(daemon, job_id)
    assert (answer.status_code, answer.json()["state"]) == (202, "canceled")
    fails_with_it(daemon, dependent)
    nothing_is_left_of(daemon, job_id, CANCELED_AT_ONCE)
    the_lane_works(daemon)


def test_a_job_that_waits_for_another_is_canceled_and_that_one_goes_on(daemon: Daemon) -> None:
    first, job_id = submit_two(daemon, lane="nowhere")
    assert daemon.job(job_id)["wait_reason"] == "dependency"
    last = daemon.submit(act="work", marker=f"vq:jobs/{job_id}/text")
    answer = cancel(daemon, job_id)
    assert (answer.status_code, answer.json()["state"]) == (202, "canceled")
    fails_with_it(daemon, last)
    nothing_is_left_of(daemon, job_id, CANCELED_AT_ONCE)
    assert daemon.job(first)["state"] == "queued"
    assert cancel(daemon, first).status_code == 202
    the_lane_works(daemon)


@dataclass(frozen=True)
class AtWork:
    """Real work in a stage that its row tells, with the process frozen that would do the next step."""

    processor: str
    stage: str
    frozen: str


AT_WORK = {
    "decoding": AtWork("enhance", "enhance", "-f yuv4mpegpipe pipe:1"),
    "computing": AtWork("enhance", "enhance", "vidqueue.worker.executor.child"),
    "encoding what was computed": AtWork("enhance", "enhance", "-f matroska -i pipe:"),
    "encoding": AtWork("transcode", "encode", "ffmpeg-linux"),
}


@pytest.mark.slow
@pytest.mark.parametrize("phase", AT_WORK)
def test_a_cancel_ends_work_that_hangs(daemon: Daemon, clip: Path, phase: str) -> None:
    at_work = AT_WORK[phase]
    job_id = daemon.submit(at_work.processor, video=str(clip))
    dependent = daemon.submit(act="work", marker=f"vq:jobs/{job_id}/video")
    until(lambda: _is_in(daemon, job_id, at_work.stage), within_s=PATIENCE_S, what=phase)
    processes = daemon.children(at_work.frozen)
    assert processes
    for pid in processes:
        os.kill(pid, signal.SIGSTOP)
    answer = cancel(daemon, job_id)
    assert (answer.status_code, answer.json()["state"]) == (202, "running")
    assert answer.elapsed.total_seconds() < promised(1)
    assert daemon.ended(job_id, within_s=promised(FREE_S))["state"] == "canceled"
    fails_with_it(daemon, dependent)
    nothing_is_left_of(daemon, job_id, CANCELED)
    the_lane_works(daemon)


def _is_in(daemon: Daemon, job_id: str, stage: str) -> bool:
    job = daemon.job(job_id)
    return bool(job["stage"] == stage and job["progress"] > 0)


def test_a_second_cancel_is_answered_as_the_first_and_changes_nothing(daemon: Daemon) -> None:
    job_id = daemon.submit(act="hang")
    until(lambda: daemon.job(job_id)["state"] == "running")
    answers = [cancel(daemon, job_id) for _ in range(2)]
    assert daemon.ended(job_id, within_s=promised(FREE_S))["state"] == "canceled"
    answers.append(cancel(daemon, job_id))
    assert [answer.status_code for answer in answers] == [202] * 3
    assert answers[2].json()["state"] == "canceled"
    nothing_is_left_of(daemon, job_id, CANCELED)
    the_lane_works(daemon)


@pytest.mark.parametrize(
    ("act", "state", "events"),
    [("work", "succeeded", SUCCEEDED), ("refuse", "failed", FAILED)],
    ids=str,
)
def test_a_job_that_has_ended_otherwise_cannot_be_canceled(
    daemon: Daemon, act: str, state: str, events: list[str]
) -> None:
    job_id = daemon.submit(act=act)
    assert daemon.ended(job_id, within_s=PATIENCE_S)["state"] == state
    answer = cancel(daemon, job_id)
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
    assert state in answer.json()["detail"]
    assert daemon.job(job_id)["state"] == state
    assert kinds(daemon, job_id) == events
    the_lane_works(daemon)


def test_running_and_waiting_jobs_can_be_canceled_during_a_drain(start: Daemons) -> None:
    daemon = start()
    job_id, dependent = submit_two(daemon, "hang")
    until(lambda: daemon.job(job_id)["state"] == "running")
    waiting = daemon.submit(act="work")
    daemon.process.send_signal(signal.SIGTERM)
    until(lambda: '"drain_started"' in daemon.log.read_text(), what="the drain")
    assert cancel(daemon, waiting).json()["state"] == "canceled"
    assert cancel(daemon, job_id).json()["state"] == "running"
    assert daemon.process.wait(timeout=PATIENCE_S) == 0
    assert kinds(daemon, job_id) == CANCELED
    assert kinds(daemon, waiting) == CANCELED_AT_ONCE
    assert kinds(daemon, dependent) == ["queued", "failed"]
    assert stored(daemon) == named(daemon) == set()
    the_lane_works(start())


@pytest.mark.slow
async def test_a_cancel_while_the_database_is_away_is_refused_until_it_is_back(home: Path) -> None:
    server = embedded.Server(home / "theirs")
    await server.start()
    daemon = Daemon(home / "ours", VIDQUEUE_DATABASE__URL=server.url, VIDQUEUE_LANES__CPU="1")
    try:
        job_id, dependent = await asyncio.to_thread(_started_with_a_hanging_job, daemon)
        await server.stop()
        refused = await asyncio.to_thread(cancel, daemon, job_id)
        assert (refused.status_code, refused.json()["code"]) == (503, "database_unavailable")
        assert refused.headers["Retry-After"]
        await server.start()
        await asyncio.to_thread(_is_canceled_in_the_end, daemon, job_id, dependent)
    finally:
        await asyncio.to_thread(daemon.stop)
        await server.stop()


def _started_with_a_hanging_job(daemon: Daemon) -> tuple[str, str]:
    daemon.start()
    ids = submit_two(daemon, "hang")
    until(lambda: daemon.job(ids[0])["state"] == "running")
    return ids


def _is_canceled_in_the_end(daemon: Daemon, job_id: str, dependent: str) -> None:
    def taken() -> dict[str, Any] | None:
        answer = cancel(daemon, job_id)
        assert answer.status_code in (202, 503), answer.text
        return answer.json() if answer.status_code == 202 else None

    assert until(taken, within_s=PATIENCE_S, what="the cancel is taken")["state"] == "running"
    assert daemon.ended(job_id, within_s=PATIENCE_S)["state"] == "canceled"
    fails_with_it(daemon, dependent)
    nothing_is_left_of(daemon, job_id, CANCELED)
    the_lane_works(daemon)
