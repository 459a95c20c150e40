"""Where a result is written: refused before anything is sent, never over an input, never over a file that exists."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.cli.conftest import CommandLine
from tests.daemon import Daemon, until
from vidqueue.cli.exits import CommandError
from vidqueue.cli.target import Target, identity_of

KEPT = "The job succeeded and the daemon keeps its result. Get it with: "


@pytest.fixture
def source(alone: CommandLine) -> Path:
    """An input of this folder; no daemon answers, so whatever is refused was refused before anything was sent."""
    path = alone.folder / "in.mp4"
    path.write_bytes(b"precious")
    return path


def named(folder: Path, how: str) -> str:
    """Another name of in.mp4."""
    match how:
        case "symbolic":
            (folder / "other.mp4").symlink_to("in.mp4")
        case "hard":
            (folder / "other.mp4").hardlink_to(folder / "in.mp4")
        case "folder":
            (folder / "deep").symlink_to(folder)
            return "deep/in.mp4"
        case "dots":
            (folder / "deep").mkdir()
            return "deep/../in.mp4"
        case "absolute":
            return str(folder / "in.mp4")
        case _:
            return "in.mp4"
    return "other.mp4"


@pytest.mark.parametrize("how", ["same", "absolute", "symbolic", "hard", "folder", "dots"])
@pytest.mark.parametrize("extra", [(), ("--force",), ("--force", "--no-upload")], ids=" ".join)
def test_an_input_is_never_overwritten_whatever_it_is_called(
    alone: CommandLine, source: Path, how: str, extra: tuple[str, ...]
) -> None:
    name = named(alone.folder, how)
    ran = alone("submit", "transcode", "in.mp4", "-o", name, *extra)
    assert ran.code == 1
    assert f"{name} is an input of this command." in ran.err
    assert source.read_bytes() == b"precious"


def test_the_other_way_round_the_link_may_be_the_input(alone: CommandLine, source: Path) -> None:
    ran = alone("submit", "transcode", named(alone.folder, "hard"), "-o", "in.mp4", "--force")
    assert "in.mp4 is an input of this command." in ran.err
    assert source.read_bytes() == b"precious"


def test_standard_input_and_output_may_be_the_same_file_and_are_refused(alone: CommandLine, source: Path) -> None:
    with source.open("rb") as stdin:
        done = subprocess.run(
            alone.command("submit", "transcode", "-", "-o", "in.mp4", "--force"),
            stdin=stdin, capture_output=True, cwd=alone.folder, env=alone.variables, check=False,
        )  # fmt: skip
    assert b"in.mp4 is an input of this command." in done.stderr
    with source.open("ab") as stdout:
        done = subprocess.run(
            alone.command("submit", "transcode", "in.mp4", "-o", "-"),
            stdout=stdout, stderr=subprocess.PIPE, cwd=alone.folder, env=alone.variables, check=False,
        )  # fmt: skip
    assert b"Standard output is an input of this command." in done.stderr
    assert source.read_bytes() == b"precious"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("there.mp4", "there.mp4 already exists."),
        ("dangling.mp4", "dangling.mp4 already exists."),
        ("nodir/x.mp4", "The folder nodir does not exist."),
        ("there.mp4/x.mp4", "there.mp4 is not a folder."),
        ("there.mp4/", "there.mp4 is not a folder."),
        ("n" * 300, "File name too long."),
        ("loop", "Too many levels of symbolic links."),
        ("", "The name of the output file is empty."),
        ("pipe", "pipe is not a regular file."),
        ("/proc/x.mp4", "The folder /proc cannot be written to:"),
        ("sub", "sub cannot be written to"),
    ],
)
def test_a_target_that_cannot_be_written_is_refused_before_anything_is_sent(
    alone: CommandLine, source: Path, name: str, said: str
) -> None:
    folder = alone.folder
    (folder / "there.mp4").write_text("mine")
    (folder / "dangling.mp4").symlink_to("nowhere")
    (folder / "loop").symlink_to("loop")
    os.mkfifo(folder / "pipe")
    if name == "sub":
        (folder / "sub").symlink_to("/proc")
    before = sorted(folder.iterdir())
    ran = alone("submit", "transcode", "in.mp4", "-o", name)
    assert ran.code == 1, "a daemon that does not answer would have been 69"
    assert said in ran.err
    assert sorted(folder.iterdir()) == before
    assert (folder / "there.mp4").read_text() == "mine"


def test_a_folder_that_is_missing_is_made_if_it_ends_in_a_slash(alone: CommandLine, source: Path) -> None:
    assert alone("submit", "transcode", "in.mp4", "-o", "new/deep/").code == 69
    assert (alone.folder / "new/deep").is_dir()
    assert "Cannot create the folder /proc/new" in alone("submit", "transcode", "vq:files/0", "-o", "/proc/new/").err


def test_force_lets_an_existing_file_be_replaced_but_no_device(alone: CommandLine, source: Path) -> None:
    (alone.folder / "there.mp4").write_text("old")
    assert alone("submit", "transcode", "in.mp4", "-o", "there.mp4", "--force").code == 69
    assert "not a regular file" in alone("submit", "transcode", "in.mp4", "-o", "/dev/null", "--force").err
    assert (alone.folder / "there.mp4").read_text() == "old", "nothing is touched before the result is there"


def test_the_longest_name_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 251 + ".mp4")
    write(Target(str(path)), b"whole")
    assert path.read_bytes() == b"whole"


def write(
    target: Target, content: bytes, path: Path | None = None, meanwhile: Callable[[], object] = lambda: None
) -> None:
    target.check()
    with target.writing(path or target.file("unused")) as file:
        file.write(content)
        meanwhile()


def test_a_file_that_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    target = Target(str(tmp_path / "out.mp4"))
    with pytest.raises(CommandError, match="already exists"):
        write(target, b"new", meanwhile=partial((tmp_path / "out.mp4").write_bytes, b"appeared"))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"out.mp4": b"appeared"}


def test_publishing_does_not_replace_what_appeared_after_the_last_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place, links in (("with", True), ("without", False)):
        folder = tmp_path / place
        folder.mkdir()
        target = Target(str(folder / "out.mp4"))
        if not links:
            monkeypatch.setattr(os, "link", no_hard_links)
        # What the last look sees is not there yet.
        monkeypatch.setattr(Target, "_free", lambda self, path: path)
        with pytest.raises(CommandError, match="already exists"):
            write(target, b"new", folder / "out.mp4", meanwhile=partial((folder / "out.mp4").write_bytes, b"appeared"))
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"out.mp4": b"appeared"}


def no_hard_links(*_: object) -> None:
    raise PermissionError(1, "Operation not permitted")


def test_a_file_system_without_hard_links_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", no_hard_links)
    write(Target(str(tmp_path / "out.mp4")), b"whole")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"out.mp4": b"whole"}


def test_with_force_a_link_stays_a_link_and_an_input_that_took_the_place_meanwhile_is_kept(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "out.mp4").symlink_to("far/real.mp4")
    (tmp_path / "far" / "real.mp4").write_bytes(b"old")
    write(Target(str(tmp_path / "out.mp4"), force=True), b"new")
    assert (tmp_path / "out.mp4").is_symlink()
    assert (tmp_path / "far" / "real.mp4").read_bytes() == b"new"
    (tmp_path / "in.mp4").write_bytes(b"precious")
    known = identity_of(tmp_path / "in.mp4")
    assert known is not None
    target = Target(str(tmp_path / "second.mp4"), force=True, inputs=frozenset({known}))
    with pytest.raises(CommandError, match="is an input"):
        write(target, b"new", meanwhile=partial((tmp_path / "second.mp4").hardlink_to, tmp_path / "in.mp4"))
    assert (tmp_path / "in.mp4").read_bytes() == b"precious"


def test_when_writing_fails_after_the_job_the_message_has_the_command_that_gets_the_result(
    vidqueue: CommandLine, daemon: Daemon
) -> None:
    (vidqueue.folder / "odd 'folder").mkdir()
    title = "the target goes away"
    running = vidqueue.start(
        "submit", "zoo", "--act", "hang", "--seconds", "1", "--title", title, "-o", "odd 'folder/out.txt",
        stderr=subprocess.PIPE,
    )  # fmt: skip
    # The target was checked before the job was there.
    jobs = "/v1/jobs?limit=20"
    (job_id,) = until(lambda: [one["id"] for one in daemon.http.get(jobs).json()["jobs"] if one["title"] == title])
    (vidqueue.folder / "odd 'folder").rmdir()
    _, err = running.communicate(timeout=60)
    assert running.returncode == 1, err.decode()
    (line,) = [line for line in err.decode().splitlines() if KEPT in line]
    words = shlex.split(line.partition(KEPT)[2])
    assert words == ["vidqueue", "result", job_id, "-o", "odd 'folder/out.txt"]
    (vidqueue.folder / "odd 'folder").mkdir()
    assert vidqueue(*words[1:]).code == 0
    assert (vidqueue.folder / "odd 'folder" / "out.txt").read_text() == "done\n"


def test_result_refuses_an_existing_file_without_force_and_an_input_with_it(
    vidqueue: CommandLine, daemon: Daemon
) -> None:
    clip = vidqueue.folder / "in.mp4"
    clip.write_bytes(b"no video, but mine")
    uploaded = daemon.http.post("/v1/files?name=in.mp4", content=clip.read_bytes()).json()
    for reference in (f"vq:files/{uploaded['id']}", str(clip)):
        # A parameter that names the file is enough; the zoo does not read it.
        job_id = vidqueue("submit", "zoo", "--marker", reference, "--wait").out.strip()
        assert vidqueue("result", job_id, "-o", "in.mp4").code == 1
        ran = vidqueue("result", job_id, "-o", "in.mp4", "--force")
        assert (ran.code, "in.mp4 is an input" in ran.err) == (1, True)
        assert clip.read_bytes() == b"no video, but mine"
