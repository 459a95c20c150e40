"""The first hour of a developer and of an operator, on a real terminal of 60, 80 and 140 columns (see test_walk.py)."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.cli.conftest import CommandLine
from tests.cli.test_narrow import joined
from tests.cli.walking import Terminal, widths
from tests.daemon import Daemon
from vidqueue.media.sample import make_sample


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("walk") / "in clip.mp4"
    make_sample(path, seconds=1, size=(160, 90))
    return path


@widths(quick=80)
def test_a_developer(vidqueue: CommandLine, daemon: Daemon, clip: Path, columns: int) -> None:
    terminal = Terminal(vidqueue, columns)
    # 8, 9: a package that uses vidqueue.sdk alone, and a processor in this terminal, without a daemon.
    assert "pip install -e" in joined(terminal("processors", "new", "mine"))
    (written,) = vidqueue.folder.glob("*/vidqueue_mine.py")
    assert {line.split()[1] for line in written.read_text().splitlines() if line.startswith("from vidq")} == {
        "vidqueue.sdk"
    }
    assert "thumbnails-out/" in terminal("try", "thumbnails", str(clip), "--no-sheet", "--no-sprite")
    # 10: what a processor prints, and the traceback of its failure; flags are those of the daemon; a change is taken.
    shown = terminal("submit", "zoo", "--act", "abort", "--max-attempts", "1", "--wait", code=3)
    assert "last words of the zoo" in terminal("logs", shown.split("vidqueue logs ")[1].split("`")[0])
    failed = terminal("submit", "zoo", "--act", "raise", "--max-attempts", "1", "--wait", code=3)
    job_id = failed.split("vidqueue logs ")[1].split("`")[0]
    assert "Traceback (most recent call last)" in terminal("logs", job_id[-6:])
    attempt = daemon.http.get(f"/v1/jobs/{job_id}/attempts").json()["attempts"][0]
    assert "Traceback" in attempt["error"]["detail"]
    assert "--act" in terminal("submit", "zoo", "--help")
    assert " processors" in joined(terminal("reload", "--data-dir", str(daemon.data_dir)))


@widths(quick=60)
def test_an_operator(vidqueue: CommandLine, daemon: Daemon, columns: int) -> None:
    terminal = Terminal(vidqueue, columns)
    here = ("--data-dir", str(daemon.data_dir))
    # 11: a backup of the daemon at work, which replaces nothing in use; the address of what runs; doctor.
    assert "night.tar: the database" in joined(terminal("db", "dump", "night.tar", "--without-files", *here))
    assert "A daemon runs on" in joined(terminal("db", "restore", "night.tar", *here, code=75))
    assert "postgresql://" in terminal("db", "url", *here)
    examined = joined(terminal("doctor", *here))
    assert " checks: " in examined
    assert daemon.url in examined
    # 12: a job belongs to who submitted it (`local` runs the daemon), or to whom an operator names; usage is told.
    assert terminal("submit", "zoo", "--wait", "--tag", "usage")
    terminal("submit", "zoo", "--owner", "anna", "--wait", "--tag", "usage")
    jobs = daemon.http.get("/v1/jobs", params={"tag": "usage"}).json()["jobs"]
    assert {job["owner"] for job in jobs} == {"local", "anna"}
    assert "zoo" in terminal.table("report", "usage")
    columns_told = daemon.sql("SELECT * FROM vidqueue_report.attempts LIMIT 1")[0].keys()
    assert {"cpu_s", "gpu_s"} <= columns_told
    # 13: requests are no lines of the log, and no value in it is a Python repr.
    for line in map(json.loads, daemon.log.read_text().splitlines()):
        assert line["event"] != "request"
        assert not [value for value in line.values() if re.search(r"\b(UUID|PosixPath|datetime)\(", str(value))]
