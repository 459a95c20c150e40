"""`vidqueue try`, `vidqueue processors new`, and what becomes of a processor's words."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import CommandLine
from tests.daemon import until
from tests.sdk.conftest import Site, python
from vidqueue.testing import sample_video


def test_a_trial_needs_no_daemon_and_overwrites_nothing(talking: CommandLine, tmp_path: Path) -> None:
    sample_video(talking.folder / "in clip.mp4")
    for expected in ("in clip-poster.jpg", "in clip-poster-2.jpg"):
        ran = talking(
            "try", "thumbnails", "in clip.mp4", "--no-sheet", "--no-sprite", "--preview", "none", "-o", "made/x"
        )
        assert ran.code == 0, ran.err
        assert ran.out == f"made/x/{expected}\n"
        assert (talking.folder / "made" / "x" / expected).stat().st_size > 1000
    assert {path.name for path in (talking.folder / "made" / "x").iterdir()} == {
        "in clip-poster.jpg",
        "in clip-poster-2.jpg",
    }
    assert not (talking.folder / "unused").exists(), "there is no data folder"


def test_whatever_a_processor_says_is_a_line_of_its_log(talking: CommandLine) -> None:
    ran = talking("try", "talker")
    assert ran.code == 0, ran.err
    said = [line.strip() for line in ran.err.splitlines()]
    for line in (
        "info     imported", "info     printed words", "info     without an end",
        "warning  model: logged a warning", "info     logged an info", "info     of two lines",
        "info     from a child", "info     from the descriptor", "info     from the buffer",
    ):  # fmt: skip
        assert line in said, ran.err
    (warned,) = [line for line in said if "warned of something" in line and "UserWarning" in line]
    assert warned.startswith("warning ")
    assert "not this" not in ran.err


def test_a_bar_is_progress_where_the_processor_reports_nothing_better(talking: CommandLine) -> None:
    ran = talking("try", "talker", "--act", "bar")
    assert any(line.endswith("%  frames") for line in ran.err.splitlines()), ran.err
    assert ran.err.count("|") <= 4, "of a bar that is drawn again the last one is a line of the log"
    ran = talking("try", "talker", "--act", "bar_and_better")
    assert " 90%  mine" in ran.err
    assert not any(line.endswith("%  frames") for line in ran.err.splitlines()), ran.err


@pytest.mark.parametrize(
    ("act", "code", "words"),
    [
        ("fail", "processor_error", ["RuntimeError: it broke", "KeyError: 'inner'", "in _fail", "talker.py"]),
        ("refuse", "input_refused", ["It is too dark.", "Take a brighter one."]),
        ("abort", "executor_crashed", ["SIGABRT", "the last words"]),
        ("crash", "executor_crashed", ["SIGSEGV", "in _crash", "talker.py"]),
        ("exit", "processor_error", ["sys.exit(3)", "in _exit", "talker.py"]),
        ("exit_well", "processor_error", ["sys.exit()", "in _exit_well"]),
        ("hoard", "out_of_memory", ["The processor ran out of memory.", "hold less at a time", "in _hoard"]),
        ("stall", "stalled", ["no progress"]),
        ("stray", "bad_output", ["missing.txt was not written"]),
    ],
)
def test_a_trial_fails_as_the_job_would(talking: CommandLine, act: str, code: str, words: list[str]) -> None:
    ran = talking("try", "talker", "--act", act)
    assert ran.code == 3, ran.err
    assert f"code: {code}" in ran.err
    for word in words:
        assert word in ran.err
    if code != "executor_crashed":  # the stack of a crash is that of the whole process
        assert "vidqueue/worker/executor" not in ran.err, "frames of ours say nothing to its author"
    assert ran.err.count("RuntimeError: it broke\n") <= 2, "in the traceback, which is shown once, and in the message"
    assert "the attempt's log" not in ran.err
    assert list(talking.folder.iterdir()) == []


def test_a_trial_that_fails_leaves_a_folder_that_was_there(talking: CommandLine) -> None:
    (talking.folder / "mine").mkdir()
    for output in ("mine", "mine/new/newer"):
        assert talking("try", "talker", "--act", "refuse", "-o", output).code == 3
    assert [path.name for path in talking.folder.rglob("*")] == ["mine"]


def test_a_module_that_cannot_be_imported_is_shown_without_the_frames_of_the_import(
    talking: CommandLine, site: Site
) -> None:
    site.install("outer", "import inner\n", outer="outer:Outer")
    (site.folder / "inner.py").write_text("def broken(:\n")
    ran = talking("try", "outer")
    assert (ran.code, "SyntaxError" in ran.err, 'inner.py", line 1' in ran.err) == (1, True, True), ran.err
    assert 'outer.py", line 1' in ran.err, "who imports it"
    assert not any(word in ran.err for word in ("importlib", "registry.py", "_call_with_frames_removed")), ran.err


def test_the_help_shows_bounds_and_that_a_file_is_what_is_taken(talking: CommandLine) -> None:
    media, ran = talking("try", "thumbnails", "--help"), talking("try", "talker", "--help")
    assert "inputs.roots" not in media.out
    assert "A video: a file" in " ".join(media.out.replace("│", " ").split()), media.out
    said = " ".join(ran.out.replace("│", " ").split())
    assert "How loud. (> 0, <= 1)" in said
    assert "How often. (1..9)" in said


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        (["transcode", "missing.mp4"], 1, "missing.mp4 does not exist"),
        (["transcode", "https://example.com/a.mp4"], 2, "is not a file"),
        (["transcode", "clip.mp4", "--container", "webm", "--codec", "h264"], 2, "does not accept these parameters"),
        (["transcode", "clip.mp4", "--handbrake", "no preset"], 2, "--handbrake takes JSON"),
        (["nothing-of-the-kind"], 2, "nothing-of-the-kind"),
    ],
)
def test_a_trial_of_what_cannot_be_is_refused(talking: CommandLine, line: list[str], code: int, words: str) -> None:
    (talking.folder / "clip.mp4").write_bytes(b"x")
    ran = talking("try", *line)
    assert (ran.code, words in ran.err) == (code, True), ran.err


def test_ctrl_c_ends_a_trial_with_the_programs_it_has_started(talking: CommandLine) -> None:
    errors = talking.folder / "errors"
    with errors.open("wb") as stream:
        process = talking.start("try", "talker", "--act", "hold", stderr=stream)
    until(lambda: "ready" in errors.read_text() and _running("sleep 77"))
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 130, errors.read_text()
    until(lambda: not _running("sleep 77"))
    assert not (talking.folder / "talker-out").exists()


def _running(words: str) -> bool:
    listing = subprocess.run(["ps", "-ww", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    return words in listing.splitlines()


def test_a_new_processor_is_a_package_that_installs_and_whose_tests_pass(talking: CommandLine, site: Site) -> None:
    ran = talking("processors", "new", "less-colour")
    assert ran.code == 0, ran.err
    place = talking.folder / "less-colour"
    pip = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--target",
        str(site.folder),
        str(place),
    ]
    subprocess.run([sys.executable, *pip], check=True)
    tests = python(place, site.path, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert "2 passed" in tests.stdout, tests.stdout
    checked = python(place, site.path, "-m", "mypy", "--strict", "--cache-dir", str(site.folder / "cache"), "tests")
    assert checked.returncode == 0, checked.stdout
    sample_video(talking.folder / "in.mp4")
    tried = talking("try", "less-colour", "in.mp4", "--saturation", "0.5")
    assert tried.out == "less-colour-out/in-video.mp4\n", tried.err
    again = talking("processors", "new", "less-colour")
    assert (again.code, "already" in again.err) == (2, True)


@pytest.mark.parametrize("name", ["Blur", "blur_faces", "-x", "a--b", "../x", "transcode", ""])
def test_a_name_that_no_processor_can_have_is_refused(talking: CommandLine, name: str) -> None:
    ran = talking("processors", "new", "--", name)
    assert ran.code == 2, ran.err
    assert not list(talking.folder.iterdir())


def test_a_folder_with_something_in_it_is_left_alone(talking: CommandLine) -> None:
    (talking.folder / "mine").mkdir()
    (talking.folder / "mine" / "pyproject.toml").write_text("precious")
    ran = talking("processors", "new", "mine")
    assert ran.code == 1
    assert (talking.folder / "mine" / "pyproject.toml").read_text() == "precious"
