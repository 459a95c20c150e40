"""The demo: the whole way, by the one command that a newcomer types first."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import CommandLine, Ran
from tests.daemon import until
from tests.docs.reading import ROOT
from vidqueue.limits import Limits
from vidqueue.media.probe import probe

pytestmark = pytest.mark.slow


def leftovers(before: set[Path]) -> set[Path]:
    """Folders of demos, and processes that work on one."""
    listing = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    working = {Path(line) for line in listing.splitlines() if "postgres" in line and "/vidqueue-demo-" in line}
    return (set(Path("/tmp").glob("vidqueue-demo-*")) | working) - before


@pytest.fixture
def before() -> set[Path]:
    return leftovers(set())


def test_the_demo_leaves_playable_results_and_nothing_else(alone: CommandLine, before: set[Path]) -> None:
    # Variables of a daemon that is none of the demo's business.
    (alone.folder / "demo-out").mkdir()
    (alone.folder / "demo-out" / "small-mp4.mp4").write_text("mine")
    ran = alone("demo", "--json", variables={"VIDQUEUE_DATABASE__URL": "postgresql://nowhere/x", "TMPDIR": "/tmp"})
    assert ran.code == 0, ran.err
    told = ran.lines[-1]
    assert [one["processor"] for one in told["report"]] == ["enhance", "transcode"]
    assert sum(one["succeeded"] for one in told["report"]) == 6
    assert told["invariant_violations"] == []
    codecs = set()
    for result in told["results"]:
        path = alone.folder / result["path"]
        assert path.stat().st_size == result["size"]
        facts = probe(path, Limits())
        assert facts.video is not None
        assert facts.audio is not None
        assert facts.duration_s == pytest.approx(3, abs=0.1)
        codecs.add((path.suffix, facts.video.codec))
    assert codecs == {(".mp4", "h264"), (".webm", "vp9"), (".mkv", "hevc"), (".mov", "h264")}
    assert {Path(one["path"]).name for one in told["results"]} >= {"small-mp4-2.mp4", "webm-with-vp9.webm"}
    assert (alone.folder / "demo-out" / "small-mp4.mp4").read_text() == "mine"
    assert leftovers(before) == set()


def test_the_demo_with_something_that_is_no_video_ends_with_3_and_says_why(alone: CommandLine) -> None:
    (alone.folder / "letter.mp4").write_text("Dear reader, this is not a video.\n")
    ran = alone("demo", "--video", "letter.mp4", "--data-dir", "data")
    assert ran.code == 3
    assert "The file is not a video that can be read." in ran.out
    assert list((alone.folder / "demo-out").iterdir()) == []
    assert (alone.folder / "data" / "postgres").is_dir(), "a folder that was named stays"


def test_ctrl_c_ends_the_demo_with_130_and_leaves_nothing(alone: CommandLine, before: set[Path]) -> None:
    alone.variables["TMPDIR"] = "/tmp"
    running = alone.start("demo", stderr=subprocess.PIPE)
    assert running.stderr is not None
    while b"running" not in (line := running.stderr.readline()):
        assert line, "it ended before a job ran"
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=60)
    assert running.returncode == 130
    until(lambda: leftovers(before) == set(), what="the temporary folder is gone")


@pytest.mark.parametrize("how", ["argument", "environment"])
@pytest.mark.parametrize(
    "name",
    ["plain.mp4", "two words.mp4", "it's.mp4", 'a"b.mp4', "$(touch ran)", "`touch ran`", "$(shell touch ran)", "$HOME",
     "a;touch ran", "-x.mp4", "'; touch ran; '", "two\nlines.mp4", "a\\b", "#x", "a$$b", "${VIDEO}"],
)  # fmt: skip
def test_make_demo_takes_a_file_of_any_name(tmp_path: Path, name: str, how: str) -> None:
    program = tmp_path / "vidqueue"
    program.write_text("#!/bin/sh\nprintf '%s|' \"$@\"\n")
    program.chmod(0o755)
    command = ["make", "--no-print-directory", "-f", str(ROOT / "Makefile"), "-o", ".venv/.installed", "demo"]
    given = [f"VIDEO={name}"] if how == "argument" else []
    environment = os.environ | ({} if given else {"VIDEO": name})
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "constraints.txt").touch()
    done = subprocess.run(
        [*command, f"BIN={tmp_path}", *given],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == f"demo|--video={name}|", done.stderr
    assert not (tmp_path / "ran").exists()


def test_a_folder_for_the_results_that_cannot_be_made_is_told_before_a_daemon_is_started(alone: CommandLine) -> None:
    (alone.folder / "file").write_text("")
    for out in ("file", "file/out", "/proc/out"):
        ran = alone("demo", "--out", out)
        assert (ran.code, "Starting" in ran.err) == (1, False), ran.err
    assert alone("demo", "--video", "missing.mp4").code == 1


def test_a_folder_that_a_daemon_uses_is_left_alone(vidqueue: CommandLine, daemon: object) -> None:
    ran: Ran = vidqueue("demo", "--data-dir", str(daemon.data_dir))  # type: ignore[attr-defined]
    assert ran.code == 75
    assert "is in use by process" in ran.err
