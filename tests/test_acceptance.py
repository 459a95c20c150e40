"""Real video through a real daemon, as a user would have it: every door, every kill, every kind of cancel."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import Daemon, alive, promised, until
from tests.listener import Listener
from tests.media.clips import make_long_sample
from vidqueue.limits import Limits
from vidqueue.media.probe import probe
from vidqueue.media.sample import make_sample


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("acceptance")


@pytest.fixture(scope="module")
def clip(home: Path) -> Path:
    path = home / "clip.mp4"
    make_sample(path, seconds=3, size=(320, 180))
    return path


@pytest.fixture(scope="module")
def long_clip(home: Path) -> Path:
    """Enough work to be interrupted in."""
    path = home / "long.mp4"
    make_long_sample(path, seconds=30)
    return path


@pytest.fixture(scope="module")
def daemon(home: Path) -> Iterator[Daemon]:
    started = Daemon(home / "data").start()
    yield started
    started.stop()


def test_three_doors_submit_and_a_fourth_sees_it_all(daemon: Daemon, clip: Path) -> None:
    before = Listener(daemon)
    first = daemon.submit("transcode", video=str(clip), quality="low")
    until(lambda: before.kinds(first)[-1:] == ["succeeded"], what="the first job is seen to its end")
    last_seen = before.hang_up()

    command = [sys.executable, "-m", "vidqueue", "submit", "transcode", str(clip), "--no-upload", "--json"]
    told = subprocess.run(
        command, env=os.environ | {"VIDQUEUE_URL": daemon.url}, capture_output=True, text=True, check=True
    )
    second = json.loads(told.stdout)["id"]
    (row,) = daemon.sql(f'SELECT vidqueue.submit(\'enhance\', \'{{"video": "{clip}", "saturation": 1.3}}\') AS id')
    third = str(row["id"])
    for job_id in (second, third):
        assert daemon.ended(job_id)["state"] == "succeeded"

    returned = Listener(daemon, after=last_seen)
    for job_id in (second, third):
        until(lambda: returned.kinds(job_id)[-1:] == ["succeeded"])  # noqa: B023 - awaited at once
        assert returned.kinds(job_id) == ["queued", "running", "succeeded"]
    numbers = [event["number"] for event in returned.heard]
    assert numbers == sorted(set(numbers))
    assert numbers[0] > last_seen
    returned.hang_up()


def test_the_result_is_served_whole_and_in_ranges(daemon: Daemon, clip: Path, tmp_path: Path) -> None:
    job = daemon.ended(daemon.submit("transcode", video=str(clip), container="mkv", codec="h265"))
    (output,) = job["outputs"]
    whole = daemon.http.get(output["url"])
    assert (whole.status_code, len(whole.content)) == (200, output["size"])
    part = daemon.http.get(output["url"], headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, whole.content[10:20])
    path = tmp_path / "result.mkv"
    path.write_bytes(whole.content)
    source, result = probe(clip, Limits()), probe(path, Limits())
    assert source.video is not None
    assert result.video is not None
    assert (result.video.frames, result.video.codec) == (source.video.frames, "hevc")


@pytest.mark.parametrize(
    "job",
    [
        ("transcode", {"codec": "h264", "quality": "high"}),
        pytest.param(("enhance", {"denoise": 0.5}), marks=pytest.mark.long),
    ],
    ids=lambda job: job[0],
)
def test_a_killed_ffmpeg_costs_one_attempt_and_the_job_succeeds(
    daemon: Daemon, long_clip: Path, job: tuple[str, dict[str, Any]]
) -> None:
    processor, parameters = job
    job_id = daemon.submit(processor, video=str(long_clip), **parameters)
    until(lambda: daemon.job(job_id)["progress"] > 0.02, what="at work")
    for pid in daemon.children("ffmpeg-linux"):
        os.kill(pid, signal.SIGKILL)
    ended = daemon.ended(job_id, within_s=240)
    assert (ended["state"], ended["attempt"]) == ("succeeded", 2)
    attempts = daemon.http.get(f"/v1/jobs/{job_id}/attempts").json()["attempts"]
    assert attempts[0]["outcome"] == "failed"
    assert attempts[0]["error"]["hint"]
    until(lambda: not daemon.children("ffmpeg-linux"), what="every ffmpeg has ended")


@pytest.mark.parametrize("processor", ["transcode", "enhance"])
def test_a_canceled_job_answers_at_once_and_leaves_nothing(daemon: Daemon, long_clip: Path, processor: str) -> None:
    job_id = daemon.submit(processor, video=str(long_clip), lane="cpu0")
    until(lambda: daemon.job(job_id)["progress"] > 0.02, what="at work")
    asked = time.monotonic()
    assert daemon.http.post(f"/v1/jobs/{job_id}/cancel").status_code == 202
    assert time.monotonic() - asked < promised(1)
    assert daemon.ended(job_id, within_s=promised(2))["state"] == "canceled"
    (lane,) = [lane for lane in daemon.http.get("/v1/lanes").json()["lanes"] if lane["name"] == "cpu0"]
    assert lane["job"] is None
    until(lambda: not daemon.children("ffmpeg-linux"), what="every ffmpeg has ended")
    until(lambda: no_scratch(daemon), what="its files are gone")
    assert daemon.job(job_id)["outputs"] == []


def test_a_daemon_killed_in_the_middle_of_real_work_finishes_it_at_its_next_start(
    daemon: Daemon, long_clip: Path
) -> None:
    # Not from the results of other tests, and both at once: the first could have ended before the second is at work.
    ids = [daemon.submit(processor, video=str(long_clip), cache=False) for processor in ("enhance", "transcode")]
    until(lambda: len(daemon.children("ffmpeg-linux")) >= 3, what="one that transcodes and two that enhance")
    until(lambda: all(daemon.job(job_id)["progress"] > 0.01 for job_id in ids), what="both are at work")
    family = daemon.children("")
    daemon.kill()
    until(lambda: not [pid for pid in family if alive(pid)], what="no orphan is left")
    daemon.start()
    for job_id in ids:
        assert daemon.ended(job_id, within_s=240)["state"] == "succeeded"
    until(lambda: no_scratch(daemon), what="scratch is gone")
    assert daemon.violations() == []


def no_scratch(daemon: Daemon) -> bool:
    """Whether the workspaces of all attempts are gone."""
    return not list((daemon.data_dir / "work").iterdir())


def test_eight_hundred_jobs_submitted_in_a_loop_all_end_and_are_paged(daemon: Daemon) -> None:
    ids = {daemon.submit(act="work") for _ in range(800)}
    waiting = "SELECT count(*) AS n FROM vidqueue.jobs WHERE processor = 'zoo' AND finished_at IS NULL"
    until(lambda: daemon.sql(waiting)[0]["n"] == 0, within_s=180, what="all have ended")
    seen: set[str] = set()
    address = "/v1/jobs?processor=zoo&limit=97&state=succeeded"
    while address:
        page = daemon.http.get(address).json()
        seen |= {job["id"] for job in page["jobs"]}
        address = page["next"]
    assert seen == ids
    assert daemon.violations() == []


BAD = {
    "text.mp4": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n",
    "playlist.mp4": b"#EXTM3U\n#EXTINF:10,\nfile:///etc/passwd\n",
    "empty.mp4": b"",
}


@pytest.mark.parametrize("processor", ["transcode", "enhance"])
@pytest.mark.parametrize("name", [*BAD, "missing.mp4", "/etc/passwd", "truncated.mp4", "sound.mp4"])
def test_bad_input_ends_within_seconds_with_a_code_and_a_hint(
    daemon: Daemon, home: Path, clip: Path, processor: str, name: str
) -> None:
    path = home / name
    if name in BAD:
        path.write_bytes(BAD[name])
    elif name == "truncated.mp4":
        path.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    elif name == "sound.mp4" and not path.exists():
        make_sample(path, seconds=1, size=(320, 180), variant="audio")
    answer = daemon.http.post("/v1/jobs", json={"processor": processor, "input": {"video": str(path)}})
    if answer.status_code == 202:
        told = daemon.ended(answer.json()["id"], within_s=20)
        assert told["state"] == "failed"
        told = told["error"]
    else:
        assert 400 <= answer.status_code < 500
        told = answer.json()
    assert told["code"] not in ("processor_error", "internal_error", "executor_crashed")
    assert told["hint"]
