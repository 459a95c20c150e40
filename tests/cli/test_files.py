"""Bytes between the command line and the daemon: uploads, standard input, paths, and downloads that are whole."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from tests.cli.conftest import CommandLine
from tests.daemon import Daemon, until
from vidqueue.media.sample import make_sample

LATER = ("--run-at", "2099-01-01T00:00", "--json")


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "ein kürzerer clip.mp4"
    make_sample(path, seconds=1, size=(320, 180))
    return path


def file_of(daemon: Daemon, reference: str) -> dict[str, object]:
    answer = daemon.http.get(f"/v1/{reference.removeprefix('vq:')}")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_a_local_file_is_uploaded_whole_under_its_own_name(vidqueue: CommandLine, daemon: Daemon, clip: Path) -> None:
    job = vidqueue("submit", "transcode", str(clip), *LATER).json
    file = file_of(daemon, job["input"]["video"])
    assert file["name"] == clip.name
    assert file["sha256"] == hashlib.sha256(clip.read_bytes()).hexdigest()


def test_a_dash_uploads_standard_input(vidqueue: CommandLine, daemon: Daemon, clip: Path) -> None:
    job = vidqueue("submit", "transcode", "-", *LATER, stdin=clip.read_bytes()).json
    assert file_of(daemon, job["input"]["video"])["size"] == clip.stat().st_size


def test_no_upload_names_the_absolute_path(vidqueue: CommandLine, daemon: Daemon, clip: Path) -> None:
    near = daemon.data_dir.parent / "near.mp4"  # under the daemon's inputs.roots
    near.write_bytes(clip.read_bytes())
    job = vidqueue("submit", "transcode", os.path.relpath(near, vidqueue.folder), "--no-upload", *LATER).json
    assert job["input"]["video"] == str(near)
    refused = vidqueue("submit", "transcode", "/etc/hostname", "--no-upload")
    assert (refused.code, "code: input_forbidden" in refused.err) == (1, True)


def test_a_reference_is_handed_on_as_it_is(vidqueue: CommandLine) -> None:
    first = vidqueue("submit", "zoo", "--run-at", "2099-01-01T00:00").out.strip()
    reference = f"vq:jobs/{first}/text"
    assert vidqueue("submit", "transcode", reference, *LATER).json["input"]["video"] == reference


def test_submit_with_output_waits_and_leaves_the_whole_result(vidqueue: CommandLine, clip: Path) -> None:
    ran = vidqueue("submit", "transcode", str(clip), "--effort", "fast", "--quality", "low", "-o", "out.mp4")
    assert ran.code == 0, ran.err
    sha256 = hashlib.sha256((vidqueue.folder / "out.mp4").read_bytes()).hexdigest()
    assert f"sha256 {sha256}" in ran.err
    assert [path.name for path in vidqueue.folder.iterdir() if path.name.startswith(".")] == []


def test_result_writes_the_output_and_refuses_to_replace_a_file_unasked(vidqueue: CommandLine) -> None:
    job_id = vidqueue("submit", "zoo", "--wait").out.strip()
    fetched = vidqueue("result", job_id, "--json").json
    assert Path(vidqueue.folder / fetched["path"]).read_text() == "done\n"
    assert fetched["sha256"] == hashlib.sha256(b"done\n").hexdigest()
    assert vidqueue("result", job_id).code == 1
    (vidqueue.folder / "given.txt").write_text("old")
    assert vidqueue("result", job_id, "-o", "given.txt").code == 1
    assert (vidqueue.folder / "given.txt").read_text() == "old"
    assert vidqueue("result", job_id, "-o", "given.txt", "--force").code == 0
    assert (vidqueue.folder / "given.txt").read_text() == "done\n"
    assert vidqueue("result", job_id, "-o", "-").out == "done\n"
    assert vidqueue("result", job_id, "--name", "video").code == 4


def test_a_result_that_is_not_there_yet_is_75(vidqueue: CommandLine) -> None:
    job_id = vidqueue("submit", "zoo", "--run-at", "2099-01-01T00:00").out.strip()
    assert vidqueue("result", job_id).code == 75
    assert vidqueue("cancel", job_id).code == 0
    assert vidqueue("result", job_id).code == 4


def test_damaged_bytes_are_told_and_nothing_is_left(vidqueue: CommandLine, daemon: Daemon) -> None:
    job_id = vidqueue("submit", "zoo", "--wait").out.strip()
    # The row says one thing, the bytes on the disk another.
    (file,) = daemon.sql(f"SELECT file_id FROM vidqueue.outputs WHERE job_id = '{job_id}'")
    (stored,) = daemon.data_dir.glob(f"files/*/{file['file_id']}")
    stored.write_text("fake\n")
    ran = vidqueue("result", job_id, "-o", "out.txt")
    assert (ran.code, "damaged" in ran.err) == (1, True)
    assert list(vidqueue.folder.iterdir()) == []


def test_a_preview_and_an_early_output_of_a_running_job_are_downloaded(
    vidqueue: CommandLine, daemon: Daemon, tmp_path: Path
) -> None:
    marker = tmp_path / "on"
    showing = daemon.submit("zoo", act="show", marker=str(marker))
    publishing = daemon.submit("zoo", act="publish", marker=str(marker))
    try:
        until(lambda: daemon.http.get(f"/v1/jobs/{showing}/preview").status_code == 200, what="a preview")
        until(lambda: len(daemon.job(publishing)["outputs"]) == 2, what="two outputs")
        assert vidqueue("preview", showing, "-o", "now.jpg").code == 0
        assert (vidqueue.folder / "now.jpg").read_bytes().startswith(b"\xff\xd8\xff")
        assert vidqueue("preview", showing, "-o", "now.jpg").code != 0
        assert vidqueue("preview", showing, "-o", "now.jpg", "--force", "--json").json["size"] > 0
        assert vidqueue("result", publishing, "--name", "first", "-o", "-").out == "first\n"
    finally:
        marker.touch()
    assert daemon.ended(showing)["state"] == daemon.ended(publishing)["state"] == "succeeded"
    gone = vidqueue("preview", showing)
    assert (gone.code, "has no preview now" in gone.err) == (4, True), gone
