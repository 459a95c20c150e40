"""A watch folder of a real daemon, on a share that hangs for a while, and over the daemon's death."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.daemon import Daemon, until
from tests.faults import hung_folder


def vidqueue(daemon: Daemon, *words: str) -> Any:
    command = [sys.executable, "-m", "vidqueue", *words, "--url", daemon.url, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_watched_share_that_hangs_and_a_daemon_that_is_killed(tmp_path: Path) -> None:
    share, outputs, flag = tmp_path / "share", tmp_path / "out", tmp_path / "hangs"
    share.mkdir()
    entry = {
        "name": "inbox", "path": str(share), "outputs": str(outputs), "settle_s": 0.3, "every_s": 0.2,
        "job": {"processor": "zoo", "input": {"act": "read"}},
    }  # fmt: skip
    roots = json.dumps([str(share), str(tmp_path)])
    daemon = Daemon(
        tmp_path / "data", VIDQUEUE_WATCH_FOLDERS=json.dumps([entry]), VIDQUEUE_INPUTS__ROOTS=roots
    )  # fmt: skip
    daemon.under = (sys.executable, hung_folder.__file__, str(share), str(flag))
    daemon.start()

    (share / "a.mp4").write_bytes(b"film a")
    until(lambda: (outputs / "a").exists() or (outputs / "a.txt").exists(), what="the first output")
    assert [one["name"] for one in vidqueue(daemon, "watch-folders")] == ["inbox"]
    (file,) = vidqueue(daemon, "watch-folders", "inbox")
    assert (file["path"], file["state"]) == ("a.mp4", "succeeded")
    assert daemon.http.get("/v1/watch-folders/none/files").status_code == 404

    # The share hangs: others go on, and what was put there meanwhile is found afterwards.
    flag.touch()
    until(lambda: b"watch_folder_waits" in daemon.log.read_bytes(), what="the watcher gives the call up")
    assert daemon.ended(daemon.submit(act="work"))["state"] == "succeeded"
    assert daemon.http.get("/healthz").json()["hanging"]
    flag.unlink()
    (share / "b.mp4").write_bytes(b"film b")
    until(lambda: len(vidqueue(daemon, "watch-folders", "inbox")) == 2, what="the second file")

    daemon.kill()
    (share / "copy of a.mp4").write_bytes(b"film a")
    (share / "c.mp4").write_bytes(b"film c")
    daemon.start()
    until(lambda: len(list(outputs.iterdir())) == 3, what="three outputs")
    titles = [one["title"] for one in daemon.sql("SELECT title FROM vidqueue.jobs WHERE title IS NOT NULL ORDER BY 1")]
    assert titles == ["a.mp4", "b.mp4", "c.mp4"]
    assert daemon.violations() == []
    assert daemon.stop() == 0
