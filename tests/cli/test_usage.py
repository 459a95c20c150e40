"""What needs no daemon: help, mistakes, configuration, and what is said when nobody answers."""

from __future__ import annotations

import json

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
