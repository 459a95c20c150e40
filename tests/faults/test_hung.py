"""An ffmpeg that hangs: the watch over progress notices, nothing of it stays, and the next attempt succeeds."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.daemon import alive, until
from tests.faults.conftest import Start
from tests.media.clips import make_long_sample

pytestmark = pytest.mark.slow


# The second has to load torch before its first step.
@pytest.mark.parametrize(
    ("processor", "stall_s"), [("transcode", 3), pytest.param("enhance", 10, marks=pytest.mark.long)]
)
def test_a_stopped_ffmpeg_is_noticed_killed_and_replaced(
    start: Start, tmp_path: Path, figure: Callable[[str, float], None], processor: str, stall_s: int
) -> None:
    clip = tmp_path / "clip.mp4"
    make_long_sample(clip, seconds=20)
    daemon = start("data")
    job_id = daemon.submit(processor, video=str(clip), stall_timeout_s=stall_s)
    until(lambda: daemon.job(job_id)["progress"] > 0.05, what="at work")
    hung = daemon.children("ffmpeg-linux")
    assert hung
    for pid in hung:
        os.kill(pid, signal.SIGSTOP)
    stopped_at = time.monotonic()
    until(lambda: not [pid for pid in hung if alive(pid)], what="the hung ffmpeg is gone")
    figure("from SIGSTOP to the end of ffmpeg, in s", time.monotonic() - stopped_at)
    job = daemon.ended(job_id, within_s=120)
    assert (job["state"], job["attempt"]) == ("succeeded", 2)
    first = daemon.http.get(f"/v1/jobs/{job_id}/attempts").json()["attempts"][0]
    assert (first["outcome"], first["error"]["code"]) == ("failed", "stalled")
    until(lambda: not daemon.children("ffmpeg-linux"), what="every ffmpeg has ended")
    assert daemon.violations() == []
    assert daemon.stop() == 0
