"""What needs no daemon: help, mistakes, configuration, and what is said when nobody answers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import CommandLine
from tests.docs.reading import ROOT
from vidqueue.cli.commands import COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(alone: CommandLine, command: str) -> None:
    ran = alone(command, "--help")
    assert (ran.code, ran.err) == (0, "")
    assert f"Usage: vidqueue {command}" in ran.out


def test_a_misspelt_command_is_a_usage_error_that_suggests_the_right_one(alone: CommandLine) -> None:
    ran = alone("stauts")
    assert (ran.code, ran.out) == (2, "")
    assert 'Did you mean "status"?' in ran.err


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("--url", "Flags come after the command"), ("help", '"--help"?'), ("version", '"--version"?'),
        ("-v", '"--version"?'),
    ],
)  # fmt: skip
def test_what_other_programs_take_is_answered_with_what_to_write(alone: CommandLine, word: str, said: str) -> None:
    ran = alone(word, "http://127.0.0.1:9", "list")
    assert (ran.code, said in ran.err) == (2, True), ran.err


def test_a_misspelt_processor_is_a_usage_error_that_suggests_the_right_one(alone: CommandLine) -> None:
    ran = alone("submit", "trancsode", "in.mp4")
    assert ran.code == 2
    assert 'Did you mean "transcode"?' in ran.err


@pytest.mark.parametrize(
    "words",
    [
        ("status",),
        ("status", "x", "--colour"),
        ("submit", "transcode"),
        ("submit", "transcode", "in.mp4", "--quality", "best"),
        ("submit", "transcode", "in.mp4", "--fps", "many"),
        ("submit", "transcode", "in.mp4", "--fps", "-5"),
        ("submit", "transcode", "in.mp4", "--resolution", "240p", "--width", "640"),
        ("priority", "x", "high"),
        ("cancel",),
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_ends_with_2_and_says_why(alone: CommandLine, words: tuple[str, ...]) -> None:
    ran = alone(*words)
    assert ran.code == 2, ran.err
    assert ran.out == ""
    assert ran.err.strip()
    assert "Traceback" not in ran.err


def test_parameters_are_checked_by_the_model_before_anything_is_sent(alone: CommandLine) -> None:
    ran = alone("submit", "transcode", "in.mp4", "--start-s", "5", "--end-s", "2")
    assert ran.code == 2, "a daemon that does not answer would have been 69"
    assert "end_s must be larger than start_s" in ran.err
    assert "invalid_params" in ran.err


def test_the_flags_of_a_processor_tell_its_choices_defaults_and_descriptions(alone: CommandLine) -> None:
    shown = " ".join(alone("submit", "transcode", "--help", variables={"COLUMNS": "200"}).out.split())
    assert "--quality CHOICE low, medium or high: crf 28, 23 or 18 with x264." in shown
    assert "[choices: low, medium, high] [default: medium]" in shown
    assert "--faststart --no-faststart" in shown
    assert "[choices: mp4, mov, mkv, webm, webp, gif] [default: mp4]" in shown
    assert "[choices: h264, h265, av1, vp9, copy]" in shown


@pytest.mark.parametrize(
    "words",
    [("list",), ("status", "x"), ("watch", "x"), ("watch",), ("lanes",), ("processors",), ("cancel", "x")],
    ids=" ".join,
)
def test_69_and_what_to_do_when_no_daemon_answers(alone: CommandLine, words: tuple[str, ...]) -> None:
    ran = alone(*words)
    assert ran.code == 69
    assert "No daemon answers at http://127.0.0.1:9." in ran.err
    assert "vidqueue serve" in ran.err


def test_a_file_that_is_not_there_is_told_before_the_daemon_is_asked(alone: CommandLine) -> None:
    ran = alone("submit", "transcode", "missing.mp4")
    assert ran.code == 1
    assert "missing.mp4 cannot be read: No such file or directory." in ran.err
    assert "code: input_not_found" in ran.err


def test_an_address_that_is_none_is_a_usage_error(alone: CommandLine) -> None:
    assert alone("list", "--url", "http://[").code == 2


def test_help_has_no_escape_codes_where_there_is_no_terminal(alone: CommandLine) -> None:
    assert "\x1b" not in alone("--help").out


def test_every_fault_of_the_configuration_is_told_at_once_with_exit_code_78(alone: CommandLine) -> None:
    (alone.folder / "vidqueue.toml").write_text("[api]\nprot = 1\nport = 70000\n[lanes]\ncpu = 'many'\n")
    for words in (["config", "check"], ["serve"], ["db", "url"], ["doctor"]):
        ran = alone(*words)
        assert ran.code == 78, words
        for fault in ("did you mean 'api.port'?", "api.port: ", "lanes.cpu: "):
            assert fault in ran.err, words


def test_config_check_refuses_the_jobs_that_a_daemon_would_refuse(alone: CommandLine) -> None:
    watched = alone.folder / "watched"
    watched.mkdir()
    text = f"""
[inputs]
roots = ["{watched}"]
[[schedules]]
name = "nightly"
cron = "0 3 * * *"
job = {{processor = "transcode", input = {{video = "/a.mp4", quality = "draft"}}}}
[[schedules]]
name = "odd"
cron = "0 3 * * *"
job = {{processor = "nothing"}}
[[watch_folders]]
name = "in"
path = "{watched}"
job = {{processor = "transcode", input = {{quality = "draft"}}}}
"""
    (alone.folder / "vidqueue.toml").write_text(text)
    ran = alone("config", "check")
    assert ran.code == 78, ran.out
    for fault in ("schedules: nightly: ", "schedules: odd: ", "watch_folders: in: "):
        assert fault in ran.err, ran.err
    (alone.folder / "vidqueue.toml").write_text(text.replace("draft", "high").replace("nothing", "verify"))
    assert "watch_folders" not in alone("config", "check").err


def test_config_show_tells_the_origin_of_each_value_and_hides_the_password(alone: CommandLine) -> None:
    (alone.folder / "vidqueue.toml").write_text("[api]\nport = 1234\n")
    variables = {"VIDQUEUE_DATABASE__URL": "postgresql://me:secret@db/x", "VIDQUEUE_LANES__CPU": "3"}
    shown = alone("config", "show", "--origin", "--json", variables=variables).json
    assert shown["api.port"] == {"value": 1234, "origin": "vidqueue.toml"}
    assert shown["lanes.cpu"] == {"value": 3, "origin": "VIDQUEUE_LANES__CPU"}
    assert shown["log.level"] == {"value": "info", "origin": "default"}
    assert "me:secret" not in json.dumps(shown)
    assert "me:secret" not in alone("config", "show", variables=variables).out


def test_db_url_prints_the_configured_address_whole_and_else_the_embedded_one(alone: CommandLine) -> None:
    given = "postgresql://me:secret@db/x"
    assert alone("db", "url", variables={"VIDQUEUE_DATABASE__URL": given}).out == f"{given}\n"
    assert alone("db", "url").out.startswith("postgresql://postgres@/postgres?host=")


def test_a_quick_command_loads_neither_torch_nor_cv2_nor_the_database(alone: CommandLine) -> None:
    import subprocess

    code = (
        "import sys; from vidqueue.cli import main; main(['status', 'x']); main(['list']);"
        "print([name for name in ('torch', 'cv2', 'psycopg', 'pydantic_settings', 'starlette') if name in sys.modules])"
    )
    done = subprocess.run(
        [*alone.command()[:1], "-c", code], env=alone.variables, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("words", [("result", "x", "-o", "--jsno"), ("submit", "transcode", "--qualty")], ids=" ".join)
def test_a_misspelt_flag_is_not_taken_for_a_file(alone: CommandLine, words: tuple[str, ...]) -> None:
    ran = alone(*words)
    assert ran.code == 2
    assert words[-1] in ran.err


def test_config_example_prints_the_file_of_the_repository(alone: CommandLine) -> None:
    assert alone("config", "example").out == (ROOT / "config.example.toml").read_text(encoding="utf-8")


# Ends the import of the parser as Ctrl-C would that is pressed while modules are loaded.
INTERRUPTED_IMPORT = """
import sys
class Finder:
    def find_spec(self, name, *others):
        if name == "cyclopts":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Finder())
from vidqueue.cli import main
sys.exit(main(["list"]))
"""


def test_ctrl_c_while_the_program_loads_ends_it_without_a_word() -> None:
    ran = subprocess.run([sys.executable, "-c", INTERRUPTED_IMPORT], capture_output=True, check=False)
    assert (ran.returncode, ran.stderr) == (130, b"")


@pytest.mark.parametrize("words", [("config", "example"), ("submit", "transcode", "--help"), ("completion", "zsh")])
def test_a_full_disk_behind_standard_output_is_told(alone: CommandLine, words: tuple[str, ...]) -> None:
    with Path("/dev/full").open("wb") as full:
        running = alone.start(*words, stdout=full, stderr=subprocess.PIPE)
        _, err = running.communicate(timeout=60)
    assert (running.returncode, err) == (1, b"error: Standard output cannot be written: No space left on device.\n")


def test_standard_streams_may_be_closed(alone: CommandLine) -> None:
    closed = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *alone.command("config", "example")]
    assert subprocess.run(closed, env=alone.variables, cwd=alone.folder, check=False).returncode == 0


def test_a_data_folder_that_cannot_be_made_is_told(alone: CommandLine) -> None:
    # Not even root makes a folder there.
    for words in (("serve", "--port", "0"), ("db", "migrate"), ("db", "dump", "out.tar")):
        ran = alone(*words, "--data-dir", "/proc/vidqueue")
        assert (ran.code, "Traceback" in ran.err) == (78, False), ran.err
        assert "/proc/vidqueue cannot be the data folder: No such file or directory." in ran.err


def test_every_file_that_cannot_be_read_is_named_at_once_and_a_device_is_none(alone: CommandLine) -> None:
    ran = alone("submit", "transcode", "a.mp4", "b.mp4", "-o", "out/")
    assert (ran.code, ran.err.splitlines()[0]) == (1, "error: 2 files cannot be read.")
    assert "a.mp4 cannot be read: No such file or directory." in ran.err
    assert "b.mp4 cannot be read: No such file or directory." in ran.err
    ran = alone("submit", "transcode", "/dev/zero")
    assert (ran.code, "/dev/zero is a device, not a file." in ran.err) == (1, True)


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "list.txt cannot be read: No such file or directory."), (b"\xff\xfe", "list.txt is not UTF-8 text.")],
)
def test_a_list_that_cannot_be_read_is_told_in_words(alone: CommandLine, content: bytes | None, said: str) -> None:
    if content is not None:
        (alone.folder / "list.txt").write_bytes(content)
    ran = alone("submit", "transcode", "--from", "list.txt")
    assert ran.err.splitlines()[0] == f"error: {said}"
