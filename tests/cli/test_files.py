"""Bytes between the command line and the daemon: uploads, standard input, paths, and downloads that are whole."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import CommandLine
from tests.daemon import Daemon, until
from vidqueue.cli.transfer import RESUMABLE_FROM
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
    # The name of the source tells jobs apart wherever they are shown.
    (queued,) = daemon.sql(f"SELECT data FROM vidqueue.events WHERE job_id = '{job['id']}'")
    assert (job["source"], queued["data"]["source"]) == ("near.mp4", "near.mp4")
    assert vidqueue("status", job["id"]).out.splitlines()[0].endswith("near.mp4")
    refused = vidqueue("submit", "transcode", "/etc/hostname", "--no-upload")
    assert (refused.code, "code: input_forbidden" in refused.err) == (1, True)


def test_files_inside_of_other_parameters_are_uploaded_too(
    vidqueue: CommandLine, daemon: Daemon, clip: Path, tmp_path: Path
) -> None:
    clips = [{"media": str(clip), "end_s": 0.5}, {"text": "The end"}, {"media": str(clip)}]
    voice = [{"media": str(clip)}]
    told = ("--clips", json.dumps(clips), "--voice", json.dumps(voice))
    job = vidqueue("submit", "export", *told, *LATER).json
    first, _, second = job["input"]["clips"]
    assert file_of(daemon, first["media"])["name"] == clip.name
    assert first["media"] == second["media"] == job["input"]["voice"][0]["media"]
    missing = vidqueue("submit", "export", "--clips", '[{"media": "not-here.mp4"}]')
    assert (missing.code, "not-here.mp4 cannot be read" in missing.err) == (1, True)
    (tmp_path / "jobs.json").write_text(json.dumps([{"processor": "export", "input": {"clips": clips}}]))
    batch = vidqueue("batch", str(tmp_path / "jobs.json"), "--json").json
    made = daemon.http.get(f"/v1/jobs/{batch['jobs'][0]}").json()
    assert file_of(daemon, made["input"]["clips"][0]["media"])["name"] == clip.name


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


def test_a_result_in_a_folder_has_the_name_of_its_source_and_takes_no_place_of_another_file(
    vidqueue: CommandLine, clip: Path
) -> None:
    shutil.copy(clip, vidqueue.folder / "it's in.mp4")
    before = clip.read_bytes()
    job_id = vidqueue("submit", "transcode", "it's in.mp4", "--wait", "--quality", "low").out.strip()
    assert vidqueue("result", job_id, "-o", "made/", "--json").json["path"] == "made/it's in.mp4"
    for force in ((), ("--force",)):
        path = vidqueue("result", job_id, "--json", *force).json["path"]
        assert path == f"{job_id[-12:]}-video.mp4", "the source itself has that name here"
    assert (vidqueue.folder / "it's in.mp4").read_bytes() == before


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
    whole = stored.read_bytes()
    stored.write_text("fake\n")
    ran = vidqueue("result", job_id, "-o", "out.txt")
    stored.write_bytes(whole)  # backups of this daemon are compared with their rows
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
    assert daemon.ended(publishing)["state"] == "succeeded"
    names = [output["name"] for output in daemon.job(publishing)["outputs"]]
    assert len(names) > 2
    assert vidqueue("result", publishing, "-o", "all/", "--json").code == 0
    written = sorted(path.name for path in (vidqueue.folder / "all").iterdir())
    assert written == sorted(f"on-{name}.txt" for name in names), "the marker is its source"
    assert vidqueue("result", publishing, "-o", "all/").code == 0, "what is there is no fault"
    assert sorted(path.name for path in (vidqueue.folder / "all").iterdir()) == written
    assert daemon.ended(showing)["state"] == daemon.ended(publishing)["state"] == "succeeded"
    gone = vidqueue("preview", showing)
    assert (gone.code, "has no preview now" in gone.err) == (4, True), gone


def test_a_large_file_is_read_in_place_where_the_daemon_sees_it_and_else_copied(
    vidqueue: CommandLine, daemon: Daemon
) -> None:
    near, far = daemon.data_dir.parent / "large.bin", vidqueue.folder / "large.bin"
    for path in (near, far):
        with path.open("wb") as file:
            file.truncate(64 << 20)
    words = ("submit", "zoo", "--act", "read", *LATER)
    ran = vidqueue(*words, "--media", str(near))
    assert ran.json["input"]["media"] == str(near)
    assert "large.bin is read in place" in ran.err
    copied = vidqueue(*words, "--media", str(far))
    assert copied.json["input"]["media"].startswith("vq:files/")
    assert f"It is read in place if {far.parent} is in inputs.roots." in copied.err
    # Behind the same path there may be another machine, with another file.
    facts = near.stat()
    same = {"path": str(near), "size": facts.st_size, "inode": facts.st_ino, "modified_ns": facts.st_mtime_ns}
    for change, readable in (({}, True), ({"inode": facts.st_ino + 1}, False), ({"modified_ns": 1}, False)):
        answer = daemon.http.post("/v1/inputs/check", json=same | change).json()
        assert answer["readable"] is readable
    assert daemon.http.post("/v1/inputs/check", json=same | {"path": "/etc/hostname"}).json()["readable"] is False
    assert vidqueue("cancel", ran.json["id"], copied.json["id"]).code == 0
    assert vidqueue("delete", copied.json["id"], "--with-uploads").code == 0


def test_a_file_that_the_probe_cannot_read_is_refused_at_once_and_not_kept(
    vidqueue: CommandLine, daemon: Daemon
) -> None:
    (vidqueue.folder / "broken.mp4").write_bytes(b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom")
    before = daemon.http.get("/v1/files").json()
    ran = vidqueue("submit", "transcode", "broken.mp4", *LATER)
    assert (ran.code, ran.out) == (1, "")
    assert "code: " in ran.err
    assert daemon.http.get("/v1/files").json() == before
    # A processor that takes any file takes this one.
    assert vidqueue("submit", "zoo", "--act", "read", "--media", "broken.mp4", *LATER).code == 0
    # Nor is it accepted for having been stored before, and what others stored stays.
    kept = daemon.http.get("/v1/files").json()
    again = vidqueue("submit", "transcode", "broken.mp4", *LATER)
    assert (again.code, again.err) == (1, ran.err)
    left = [(one["id"], one["facts"]) for one in daemon.http.get("/v1/files").json()["files"]]
    assert left == [(one["id"], one["facts"]) for one in kept["files"]]


def test_a_large_file_that_the_probe_cannot_read_is_refused_too(vidqueue: CommandLine, daemon: Daemon) -> None:
    with (vidqueue.folder / "large.mp4").open("wb") as large:
        large.write(b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom")
        large.truncate(RESUMABLE_FROM)
    before = daemon.http.get("/v1/files").json()
    ran = vidqueue("submit", "transcode", "large.mp4", *LATER)
    assert (ran.code, ran.out, "code: " in ran.err) == (1, "", True)
    assert daemon.http.get("/v1/files").json() == before


def test_files_whose_names_are_not_utf8_are_submitted_too(vidqueue: CommandLine, daemon: Daemon, clip: Path) -> None:
    odd = os.fsdecode(b"odd\xff.mp4")
    (vidqueue.folder / "odd").mkdir()
    shutil.copy(clip, vidqueue.folder / "odd" / odd)
    alone = vidqueue("submit", "transcode", f"odd/{odd}", *LATER)
    among = vidqueue("submit", "transcode", "odd", *LATER)
    assert (alone.code, among.code) == (0, 0), alone.err + among.err
    jobs = [daemon.job(str(alone.json["id"])), daemon.job(str(among.lines[0]["job"]["id"]))]
    assert {job["title"] for job in jobs} == {"odd\N{REPLACEMENT CHARACTER}.mp4"}
    in_place = vidqueue("submit", "transcode", f"odd/{odd}", "--no-upload", *LATER)
    assert (in_place.code, "can only be uploaded" in in_place.err) == (1, True)
    assert vidqueue("cancel", *(str(job["id"]) for job in jobs)).code == 0


def test_uploads_are_listed_shown_and_deleted_with_their_last_job(
    vidqueue: CommandLine, daemon: Daemon, clip: Path
) -> None:
    for name in ("one.mp4", "other.mp4"):
        # Bytes that no other test has uploaded.
        (vidqueue.folder / name).write_bytes(clip.read_bytes() + b"\0\0\0\x14free" + name.encode().ljust(12))
    first, second = (vidqueue("submit", "transcode", name, *LATER).json for name in ("one.mp4", "other.mp4"))
    reference = first["input"]["video"]
    again = str(vidqueue("submit", "transcode", reference, *LATER).json["id"])
    file_id = reference.removeprefix("vq:files/")
    listed = vidqueue("files", "list", "--all", "--json").lines
    assert {second["input"]["video"].removeprefix("vq:files/"), file_id} <= {file["id"] for file in listed}
    assert "other.mp4" in vidqueue("files", "list").out
    shown = vidqueue("files", "show", reference).out
    assert str(file_of(daemon, reference)["sha256"]) in shown
    assert "320x180, h264" in shown
    assert vidqueue("files", "show", f"…{file_id[-6:]}").out.startswith(file_id)
    assert vidqueue("files", "show", file_id[:28], "--json").json["id"] == file_id
    nobody = vidqueue("files", "delete", "00000000")
    assert (nobody.code, "None of the newest 2000 uploads has an id" in nobody.err) == (4, True)
    kinds = {line["kind"]: line["bytes"] for line in vidqueue("files", "du", "--json").lines}
    assert kinds["uploads"] >= clip.stat().st_size
    needed = vidqueue("files", "delete", file_id[-7:])
    assert (needed.code, "unfinished job" in needed.err) == (1, True)
    assert vidqueue("cancel", first["id"], again).code == 0
    assert vidqueue("delete", first["id"], "--with-uploads").code == 0
    assert file_of(daemon, reference)["id"] == file_id, "another job names it still"
    assert vidqueue("delete", again, "--with-uploads").code == 0
    assert daemon.http.get(f"/v1/files/{file_id}").status_code == 404
    assert vidqueue("cancel", second["id"]).code == 0
    assert vidqueue("files", "delete", "--unused", "--yes").code == 0
    assert daemon.http.get(f"/v1/{second['input']['video'].removeprefix('vq:')}").status_code == 404
