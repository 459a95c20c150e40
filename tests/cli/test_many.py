"""A folder of videos from one command: a job for each, named results, one table; nothing is overwritten."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import CommandLine
from tests.daemon import Daemon
from vidqueue.cli.terminal import interrupted_later
from vidqueue.media.sample import make_sample

# A tenth of a second of silence.
SOUND = (
    b"RIFF"
    + (36 + 1600).to_bytes(4, "little")
    + b"WAVEfmt \x10\0\0\0\1\0\1\0@\x1f\0\0\x80>\0\0\2\0\x10\0data\x40\6\0\0"
    + bytes(1600)
)
FAST = ("--effort", "fast", "--quality", "low")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    make_sample(path, seconds=1, size=(160, 90))
    return path


@pytest.fixture
def folder(tmp_path: Path, clip: Path, vidqueue: CommandLine) -> Path:
    """Mixed files with names that shells and programs trip over."""
    del vidqueue
    inside = tmp_path / "in"
    for name in ("a b.mp4", "-dash.mp4", "Ünï'q\"uote.mp4", "same.mov", "same.mp4", "trip/below.mp4"):
        (inside / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(clip, inside / name)
        # Each has bytes of its own, so that no two are one upload.
        with (inside / name).open("ab") as file:
            file.write(b"\0\0\0\x10free" + name.encode()[:8].ljust(8))
    (inside / "broken.mp4").write_bytes(b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom")
    (inside / "notes.txt").write_text("no video")
    (inside / "sound.wav").write_bytes(SOUND)
    (inside / ".hidden.mp4").write_bytes(b"hidden")
    return inside


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_becomes_named_results_in_a_tree_and_one_table(vidqueue: CommandLine, folder: Path) -> None:
    before = snapshot(folder)
    out = folder.parent / "out"
    ran = vidqueue("submit", "transcode", str(folder), "-r", "-o", f"{out}/", *FAST)
    assert ran.code == 3, ran.err  # one was broken
    assert set(snapshot(out)) == {
        "a b.mp4", "-dash.mp4", "Ünï'q\"uote.mp4", "same-mov.mp4", "same-mp4.mp4", "trip/below.mp4",
    }  # fmt: skip
    assert snapshot(folder) == before
    table = ran.out.splitlines()
    assert table[0].split() == ["NAME", "STATE", "RESULT"]
    assert len(table) == 9
    assert re.fullmatch(
        r"6 succeeded(?: \(\d with warnings\))?, (?:2 skipped|1 failed, 1 skipped|2 failed)", ran.err.splitlines()[-1]
    )
    # What the probe knows is no video keeps no other file from its job; one that is probed for long fails as a job.
    states = {line.split()[0]: line.split()[1] for line in table if line.startswith(("broken.mp4", "sound.wav"))}
    assert set(states) == {"broken.mp4", "sound.wav"}
    assert set(states.values()) <= {"skipped", "failed"}
    assert "notes.txt" not in ran.out
    assert "hidden" not in ran.out
    # A second night: nothing of the first is lost.
    again = vidqueue("submit", "transcode", str(folder), "-r", "-o", f"{out}/", *FAST)
    assert again.code == 1
    assert "already exists" in again.err
    assert "Use --skip-existing" in again.err
    assert "submitted" not in again.err


def test_the_same_command_does_only_the_new_files(vidqueue: CommandLine, folder: Path) -> None:
    vidqueue.folder = folder
    sources = ("a b.mp4", "trip/below.mp4")
    assert vidqueue("submit", "transcode", *sources, "-o", "out/", *FAST).code == 0
    made = snapshot(folder / "out")
    stored = vidqueue("files", "list", "--all", "--json").out
    again = vidqueue("submit", "transcode", *sources, "-o", "out/", "--skip-existing", *FAST)
    assert again.code == 0, again.err
    assert "skipped a b.mp4: out/a b.mp4 is there already" in again.err
    assert again.err.splitlines()[-1] == "2 already there"
    # Nothing was uploaded, nor counted as used now.
    assert vidqueue("files", "list", "--all", "--json").out == stored
    more = vidqueue("submit", "transcode", *sources, "same.mov", "-o", "out/", "--skip-existing", "--json", *FAST)
    assert more.code == 0, more.err
    ends = [line["skipped"] for line in more.lines if "skipped" in line]
    assert ends == ["already there", "already there", None]
    assert snapshot(folder / "out") == made | {"same.mp4": (folder / "out/same.mp4").read_bytes()}
    one = vidqueue("submit", "transcode", "a b.mp4", "-o", "out/a b.mp4", "--skip-existing")
    assert (one.code, one.err) == (0, "skipped: out/a b.mp4 is there already\n")
    # Beside its source, a file is never its own result.
    beside = vidqueue("submit", "extract-audio", "a b.mp4", "same.mp4", "--beside", "--suffix=", "--skip-existing")
    assert "already there" not in beside.err, beside.err
    for more_flags in (("-o", "out/", "--force"), ()):
        refused = vidqueue("submit", "transcode", *sources, "--skip-existing", *more_flags)
        assert (refused.code, "--skip-existing" in refused.err) == (2, True), refused.err


def test_the_shells_own_list_is_taken_with_names_that_begin_with_a_dash(
    vidqueue: CommandLine, folder: Path, daemon: Daemon
) -> None:
    vidqueue.folder = folder
    ran = vidqueue("submit", "transcode", "-dash.mp4", "a b.mp4", "--json", "--run-at", "2099-01-01T00:00")
    assert ran.code == 0, ran.err
    jobs = [line["job"] for line in ran.lines]
    assert [job["title"] for job in jobs] == ["-dash.mp4", "a b.mp4"]
    batches = {daemon.job(job["id"])["batch"] for job in jobs}
    assert len(batches) == 1
    assert None not in batches


def test_results_go_beside_their_sources_and_never_over_them(vidqueue: CommandLine, folder: Path) -> None:
    vidqueue.folder = folder
    before = snapshot(folder)
    ran = vidqueue("submit", "transcode", "a b.mp4", "trip/below.mp4", "--beside", "--suffix=-small", *FAST)
    assert ran.code == 0, ran.err
    assert snapshot(folder).keys() - before.keys() == {"a b-small.mp4", "trip/below-small.mp4"}
    assert {name: snapshot(folder)[name] for name in before} == before
    over = vidqueue("submit", "transcode", "a b.mp4", "trip/below.mp4", "--beside", "--suffix=", "--force", *FAST)
    assert over.code == 1
    assert "is an input of this command" in over.err
    assert {name: snapshot(folder)[name] for name in before} == before
    # The results are .mp4, whatever the source is: one that exists is noticed before anything is sent.
    (folder / "same-small.mp4").write_bytes(b"mine")
    taken = vidqueue("submit", "transcode", "same.mov", "--beside", "--suffix=-small", *FAST)
    assert taken.code == 1
    assert "same-small.mp4 already exists" in taken.err
    assert "submitted" not in taken.err
    # One file into a folder is no other thing than many.
    single = vidqueue("submit", "transcode", "a b.mp4", "-o", "made/", *FAST)
    assert single.code == 0, single.err
    assert (folder / "made/a b.mp4").stat().st_size > 0


def test_patterns_choose_and_a_list_gives_each_its_parameters(vidqueue: CommandLine, folder: Path) -> None:
    vidqueue.folder = folder
    later = ("--run-at", "2099-01-01T00:00", "--json")
    chosen = vidqueue("submit", "transcode", ".", "-r", "--include", "*.mp4", "--exclude", "broken*", *later)
    names = [line["name"] for line in chosen.lines]
    assert names == ["-dash.mp4", "a b.mp4", "same.mp4", "Ünï'q\"uote.mp4", "trip/below.mp4"]
    listed = b'a b.mp4\n\n{"video": "same.mov", "quality": "high"}\n'
    from_list = vidqueue("submit", "transcode", "--from", "-", "--quality", "low", *later, stdin=listed)
    assert [line["name"] for line in from_list.lines] == ["a b.mp4", "same.mov"]
    # What `find -print0` writes, where a name may hold the end of a line.
    shutil.copy(folder / "same.mp4", folder / "two\nlines.mp4")
    ended = vidqueue("submit", "transcode", "--from", "-", *later, stdin=b"a b.mp4\0./two\nlines.mp4\0")
    assert [line["name"] for line in ended.lines] == ["a b.mp4", "two\nlines.mp4"], ended.err
    wrong = vidqueue("submit", "transcode", "--from", "-", stdin=b'{"quality": "high"}\n')
    assert (wrong.code, "line 1 has no 'video'" in wrong.err) == (2, True)
    nothing = vidqueue("submit", "transcode", "trip", "--include", "*.mkv")
    assert (nothing.code, "There is no file to submit" in nothing.err) == (2, True)
    flag = vidqueue("submit", "transcode", "a b.mp4", "same.mp4", "--nonsense")
    assert (flag.code, "Unknown flag --nonsense" in flag.err) == (2, True)


def test_what_the_daemon_refuses_of_a_batch_keeps_nothing_else_from_its_job(
    vidqueue: CommandLine, clip: Path, daemon: Daemon
) -> None:
    # By path, so that only the daemon sees what they are.
    inside = daemon.data_dir.parent / "mixed"
    inside.mkdir()
    shutil.copy(clip, inside / "a.mp4")
    for name in ("b.wav", "c.wav"):
        (inside / name).write_bytes(SOUND)
    ran = vidqueue("submit", "transcode", str(inside), "--no-upload", "--run-at", "2099-01-01T00:00", "--json")
    assert ran.code == 3, ran.err
    assert [bool(line["skipped"]) for line in ran.lines] == [False, True, True]
    assert "sound only" in ran.lines[1]["skipped"]
    assert daemon.job(ran.lines[0]["job"]["id"])["input"]["video"] == str(inside / "a.mp4")
    # Another fault than that of a source is one of the command line.
    assert vidqueue("submit", "transcode", str(inside), "--no-upload", "--priority", "5000").code == 2


def test_what_cannot_be_read_is_skipped_with_a_line_and_keeps_nothing_else_from_its_job(
    vidqueue: CommandLine, folder: Path
) -> None:
    (folder / "gone.mp4").symlink_to("nowhere.mp4")
    later = ("--run-at", "2099-01-01T00:00", "--json", "--exclude", "broken*", "--exclude", "sound*")
    ran = vidqueue("submit", "transcode", str(folder), "-r", *later)
    assert ran.code == 3, ran.err
    skipped = {line["name"]: line["skipped"] for line in ran.lines if line["skipped"]}
    assert skipped == {"gone.mp4": f"{folder}/gone.mp4 cannot be read: No such file or directory."}
    assert len(ran.lines) == 7
    assert "skipped gone.mp4" in ran.err
    # A name that is not there at all is a slip of the pen.
    wrong = vidqueue("submit", "transcode", str(folder / "a b.mp4"), "nothing.mp4", *later)
    assert (wrong.code, "nothing.mp4 cannot be read" in wrong.err, wrong.out) == (1, True, "")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_folder_that_is_closed_is_told_beside_the_files(vidqueue: CommandLine, folder: Path) -> None:
    (folder / "same.mp4").chmod(0)
    (folder / "trip").chmod(0)
    try:
        ran = vidqueue("submit", "transcode", str(folder), "-r", "--run-at", "2099-01-01T00:00", "--json")
    finally:
        (folder / "trip").chmod(0o700)
    refused = {line["name"] for line in ran.lines if "Permission denied" in (line["skipped"] or "")}
    assert (ran.code, refused) == (3, {"same.mp4", "trip"})


def test_the_results_of_a_batch_are_fetched_later(vidqueue: CommandLine, folder: Path, daemon: Daemon) -> None:
    vidqueue.folder = folder
    ran = vidqueue(
        "submit",
        "transcode",
        ".",
        "-r",
        "--exclude",
        "broken*",
        "--exclude",
        "sound*",
        *FAST,
        "--tag",
        "night",
        "--wait",
        "--json",
    )
    assert ran.code == 0, ran.err
    ended = [line for line in ran.lines if "job" in line]
    batch = daemon.job(ended[-1]["job"]["id"])["batch"]
    fetched = vidqueue("result", "--batch", batch, "-o", "../later")
    assert fetched.code == 0, fetched.err
    assert "6 files written" in fetched.err
    assert (folder.parent / "later" / "trip" / "below.mp4").stat().st_size > 0
    before = snapshot(folder.parent / "later")
    assert {"same-mov.mp4", "same-mp4.mp4"} < before.keys(), "the names that submit gives"
    # Once more fetches what is missing; what is there stays, and is no fault.
    (folder.parent / "later" / "a b.mp4").unlink()
    again = vidqueue("result", "--tag", "night", "-o", "../later", "--name", "video")
    assert (again.code, "1 file written, 5 already there" in again.err) == (0, True), again.err
    assert snapshot(folder.parent / "later") == before
    (folder.parent / "later" / "a b.mp4").write_bytes(b"of somebody else")
    taken = vidqueue("result", "--tag", "night", "-o", "../later")
    assert (taken.code, "a b.mp4 already exists" in taken.err) == (1, True)
    # Not even with --force over the sources, whatever path leads to them.
    sources = snapshot(folder)
    over = vidqueue("result", "--tag", "night", "-o", f"{folder}/../in", "--force")
    assert (over.code, over.err.count("is an input of this command")) == (1, 4), over.err
    assert {name: snapshot(folder)[name] for name in sources} == sources
    assert vidqueue("result").code == 2


def test_ctrl_c_before_anything_is_submitted_says_so(vidqueue: CommandLine) -> None:
    pipe = vidqueue.folder / "pipe.mp4"
    os.mkfifo(pipe)
    for more in ((), ("-o", "out/")):
        sending = vidqueue.start("submit", "transcode", str(pipe), *more, stderr=subprocess.PIPE)
        with pipe.open("wb"):  # as soon as the program reads
            sending.send_signal(signal.SIGINT)
            _, err = sending.communicate(timeout=60)
        assert (sending.returncode, err.decode()) == (130, "Interrupted; no job was submitted.\n")


def test_ctrl_c_before_anything_is_submitted_leaves_nothing_of_what_was_sent(
    vidqueue: CommandLine, folder: Path
) -> None:
    vidqueue.folder = folder
    os.mkfifo(folder / "pipe.mp4")
    # One that was stored before by somebody else's command is not this one's to remove.
    assert vidqueue("submit", "transcode", "same.mov", "--run-at", "2099-01-01T00:00").code == 0
    before = vidqueue("files", "list", "--all").out
    for command in (("submit", "transcode"), ("batch", "--processor", "transcode")):
        sending = vidqueue.start(*command, "same.mov", "same.mp4", "a b.mp4", "pipe.mp4", stderr=subprocess.PIPE)
        with (folder / "pipe.mp4").open("wb"):
            sending.send_signal(signal.SIGINT)
            _, err = sending.communicate(timeout=60)
        assert (sending.returncode, err.decode()) == (130, "Interrupted; no job was submitted.\n")
        assert [line.split()[-1] for line in vidqueue("files", "list", "--all").out.splitlines()] == [
            line.split()[-1] for line in before.splitlines()
        ]


def test_ctrl_c_while_an_answer_is_awaited_comes_after_it() -> None:
    done = list[str]()

    def interrupted(times: int) -> None:
        with interrupted_later() as begin:
            begin()
            for _ in range(times):
                os.kill(os.getpid(), signal.SIGINT)
            done.append("answer")

    with pytest.raises(KeyboardInterrupt):
        interrupted(1)
    assert done == ["answer"]
    # A second one does not wait for a daemon that does not answer.
    with pytest.raises(KeyboardInterrupt):
        interrupted(2)
    assert done == ["answer"]
