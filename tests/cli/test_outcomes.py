"""What a person is told of the sources of a command: sizes, warnings, names that differ, and what to do next."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import CommandLine
from tests.cli.screens import ESCAPE, on_a_terminal
from tests.daemon import Daemon
from vidqueue.cli.client import Client
from vidqueue.cli.follow import changes
from vidqueue.media.sample import make_sample

FAST = ("--effort", "fast", "--quality", "low")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    make_sample(path, seconds=1, size=(160, 90))
    return path


@pytest.fixture
def folder(tmp_path: Path, clip: Path) -> Path:
    inside = tmp_path / "in"
    (inside / "trip").mkdir(parents=True)
    for name in ("a b.mp4", "-x.mp4", "same.mp4"):
        shutil.copy(clip, inside / name)
    return inside


def test_files_of_one_name_get_the_folders_above_them(vidqueue: CommandLine, folder: Path) -> None:
    shutil.copy(folder / "same.mp4", folder / "trip/same.mp4")
    vidqueue.folder = folder
    ran = vidqueue("submit", "transcode", "same.mp4", "trip/same.mp4", "--run-at", "2099-01-01T00:00", "--json")
    assert [line["name"] for line in ran.lines] == ["same.mp4", "trip/same.mp4"], ran.err
    # As they stand in the list, and so in every table.
    assert [line["job"]["title"] for line in ran.lines] == ["same.mp4", "trip/same.mp4"]


def test_the_table_of_a_terminal_has_sizes_and_warnings_and_says_how_to_go_on(
    vidqueue: CommandLine, folder: Path
) -> None:
    vidqueue.folder = folder
    # A width above the source's is a warning.
    shown = on_a_terminal(
        vidqueue, "submit", "transcode", "same.mp4", "a b.mp4", "-o", "out/", "--width", "1280", *FAST, columns=240
    )
    last = ESCAPE.sub("", shown).rpartition("STATE")[2]
    assert re.search(r"NAME +RESULT +SIZE +WARNINGS", last), last
    assert re.search(r"out/a b\.mp4 +\d+\.\d KiB → \d+\.\d KiB +The source is 160x90 and is not enlarged", last), last
    assert re.search(r"\d+\.\d KiB became \d+\.\d KiB", last), last
    later = ("--run-at", "2099-01-01T00:00")
    shown = on_a_terminal(vidqueue, "submit", "transcode", "same.mp4", "a b.mp4", *later, columns=240)
    batch = re.search(r"vidqueue watch --batch (\S+)", shown)
    assert batch, shown
    assert f"vidqueue result --batch {batch[1]}" in shown


def test_a_source_that_grows_is_told(vidqueue: CommandLine, folder: Path) -> None:
    vidqueue.folder = folder
    assert vidqueue("pause").code == 0
    waiting = [
        vidqueue.start("submit", "transcode", *sources, *FAST, stderr=subprocess.PIPE)
        for sources in (("same.mp4", "a b.mp4", "-o", "out/"), ("./-x.mp4", "-o", "one.mp4"))
    ]
    try:
        for one in waiting:
            assert one.stderr is not None
            assert one.stderr.readline().startswith(b"submitted")
        for name in ("same.mp4", "-x.mp4"):
            with (folder / name).open("ab") as file:
                file.write(b"more")
    finally:
        assert vidqueue("resume").code == 0
    said = [one.communicate(timeout=120)[1].decode() for one in waiting]
    assert [one.returncode for one in waiting] == [0, 0]
    assert "warning: same.mp4: The source has grown since it was sent" in said[0]
    assert "a b.mp4: The source has grown" not in said[0]
    assert "warning: The source has grown since it was sent" in said[1]


def test_the_name_of_a_result_decides_its_container(vidqueue: CommandLine, folder: Path) -> None:
    vidqueue.folder = folder
    made = vidqueue("submit", "transcode", "same.mp4", "-o", "made.MKV", *FAST)
    assert (made.code, (folder / "made.MKV").read_bytes()[:4]) == (0, b"\x1aE\xdf\xa3"), made.err
    # What is asked for wins, and is told.
    other = vidqueue("submit", "transcode", "same.mp4", "-o", "other.webm", "--container", "mkv", *FAST)
    assert other.code == 0
    assert "warning: other.webm will hold mkv, whatever its name says; --container takes mp4, " in other.err
    assert "will hold" not in made.err


def test_a_job_that_moves_up_is_shown_at_its_new_place(vidqueue: CommandLine, daemon: Daemon) -> None:
    assert vidqueue("pause").code == 0
    try:
        ids = [daemon.submit(act="work") for _ in range(3)]
        places: dict[str, list[int]] = {one: [] for one in ids}
        with Client(daemon.url) as client:
            for job in changes(client, ids, tell=print, places=True):
                places[job["id"]].append(job["position"] or 0)
                if all(places.values()) and daemon.job(ids[0])["state"] == "queued":
                    assert vidqueue("cancel", ids[0]).code == 0
                if places[ids[2]][-1:] == [(places[ids[2]] or [0])[0] - 1]:
                    break
        assert vidqueue("cancel", *ids[1:]).code == 0
    finally:
        assert vidqueue("resume").code == 0


def test_a_time_that_is_past_and_a_lane_that_is_none_are_doubted(vidqueue: CommandLine) -> None:
    past = vidqueue("submit", "zoo", "--run-at", "2020-01-31T22:00", "--wait")
    assert (past.code, "warning: 2020-01-31 22:00 is past" in past.err) == (0, True), past.err
    nowhere = vidqueue("submit", "zoo", "--lane", "gpu77")
    assert (nowhere.code, "warning: There is no lane 'gpu77' now" in nowhere.err) == (0, True), nowhere.err
    assert vidqueue("cancel", nowhere.out.strip()).code == 0
    fine = vidqueue("submit", "zoo", "--lane", "cpu0", "--run-at", "+1s", "--wait")
    assert (fine.code, "warning" in fine.err) == (0, False), fine.err


def test_watching_is_told_to_go_on_with_the_same_choice(vidqueue: CommandLine) -> None:
    for _ in range(2):
        assert vidqueue("submit", "zoo", "--run-at", "2099-01-01T00:00", "--tag", "a tag").code == 0
    watching = vidqueue.start("watch", "--tag", "a tag", stderr=subprocess.PIPE)
    assert watching.stderr is not None
    assert watching.stderr.readline().startswith(b"queued")
    watching.send_signal(signal.SIGINT)
    assert "vidqueue watch --tag 'a tag'" in watching.communicate(timeout=60)[1].decode()
    assert vidqueue("cancel", "--tag", "a tag", "--yes").code == 0
