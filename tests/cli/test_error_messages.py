"""What is said of a wrong command line: its own flags and files, no words of the parser or of HTTP, and what fits."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.cli.conftest import NOBODY, CommandLine
from vidqueue.cli import invocation, main
from vidqueue.cli.error_messages import describe_fault, from_problem

# Words of the parser, of pydantic and of HTTP, and a fault of nothing.
FOREIGN = re.compile(
    r"Value error|Input should|Field required|GET /|POST /|/v1/|\bbody\b|\bquery\b|[Tt]oken|╭|^\s*:", re.M
)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("stauts", ("no command 'stauts'", 'Did you mean "status"?')),
        ("submit trancsode in.mp4", ("no processor 'trancsode'", 'Did you mean "transcode"?')),
        ("submit holiday.mp4", ("no processor 'holiday.mp4'", "vidqueue submit transcode holiday.mp4")),
        ("submit transcode", ("No file was given.", "vidqueue submit transcode in.mp4")),
        ("submit transcode in.mp4 --qualty high", ("Unknown flag --qualty", 'Did you mean "--quality"?')),
        ("submit transcode in.mp4 --wiat", ("Unknown flag --wiat", 'Did you mean "--wait"?')),
        ("submit transcode in.mp4 --zzz", ("Unknown flag --zzz", "Write -- --zzz for a file of that name.")),
        ("submit transcode in.mp4 --quality best", ('"best"', '"low", "medium", "high"')),
        ("submit transcode in.mp4 --fps many", ('--fps takes a number, not "many".',)),
        ("submit transcode in.mp4 --width -5", ("width must be greater than or equal to 16",)),
        ("submit transcode in.mp4 --start-s 5 --end-s 2", ("  end_s must be larger than start_s",)),
        ("status", ("ID is missing.",)),
        ("list extra", ("Unexpected argument 'extra'.",)),
        ("list --stat queued", ("Unknown flag --stat", 'Did you mean "--state"?')),
        ("priority", ("No priority was given.",)),
        ("priority 01a2 high", ("'high' is not a priority",)),
        ("priority --al 5", ("Unknown flag --al", 'Did you mean "--all"?')),
        ("watch 01a2 --all", ("exclude each other",)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_mistake_is_told_in_the_words_of_the_command_line(
    words: str, said: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIDQUEUE_URL", NOBODY)
    assert main(words.split()) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    for part in said:
        assert part in err
    assert not FOREIGN.search(err)


def test_a_message_of_one_line_shows_its_traceback_to_those_who_ask(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What looks like a file that cannot be used may be a bug of the program."""

    def buggy(*words: object, **more: object) -> None:
        del words, more
        raise FileNotFoundError(2, "No such file or directory", "/a/folder")

    monkeypatch.setattr(invocation, "app", buggy)
    told = []
    for value in ("", "1"):
        monkeypatch.setenv("VIDQUEUE_DEBUG", value)
        assert main(["list"]) == 1
        told.append(capsys.readouterr().err)
    plain, debug = told
    assert plain == "error: /a/folder cannot be used: No such file or directory.\n"
    assert debug.startswith("Traceback")
    assert "in buggy" in debug
    assert debug.endswith(plain)


def test_the_folder_of_a_new_processor_is_not_taken_for_a_video(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`processors new` writes a folder of the name of the processor."""
    monkeypatch.setenv("VIDQUEUE_URL", NOBODY)
    monkeypatch.chdir(tmp_path)
    assert main(["processors", "new", "sepia"]) == 0
    assert main(["submit", "sepia", "in.mp4"]) == 2
    assert "pip install -e sepia" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("pointer", "detail", "said"),
    [
        ("/priority", "Input should be less than or equal to 1000", "--priority must be less than or equal to 1000"),
        (
            "?limit",
            "Input should be a valid integer, unable to parse",
            "--limit must be a valid integer, unable to parse",
        ),
        ("/tags/0", "String should have at least 1 character", "--tag must not be empty"),
        ("/timeout_s", "Field required", "--timeout is required"),
        ("/after/0", "String should match pattern '^[0-9a-f]{8}$'", "--after is not valid"),
        ("/input/text", "String should match pattern '^[a-z]*$'", "text must match ^[a-z]*$"),
        ("/input/box", "Input should be a valid dictionary or instance of Box", "box must be an object"),
        ("/input/video", "is not there", "video: is not there"),
        ("/jobs/3/input/codec", "Field required", "job 3, codec is required"),
        ("", "end_s must be larger", "end_s must be larger"),
        ("/delay_s", "Input should be less than or equal to 3600", "--delay must be less than or equal to 3600"),
        ("/open/0", "'25:00-26:00' has a time that no clock shows", "'25:00-26:00' has a time that no clock shows"),
    ],
)
def test_a_fault_names_the_flag(pointer: str, detail: str, said: str) -> None:
    assert describe_fault(pointer, detail) == said


def test_a_refusal_of_the_daemon_says_each_thing_once() -> None:
    told = {
        "detail": "The URL has no host.",
        "hint": "Give one.",
        "errors": [{"pointer": "/input/video", "detail": "The URL has no host."}],
    }
    assert from_problem(400, told, "/v1/jobs") == ("The URL has no host.", [], "Give one.")
    gone = {
        "code": "not_found",
        "detail": "There is nothing at /v1/jobs/x.",
        "hint": "GET /openapi.json lists every address.",
    }
    wrong = {
        "code": "invalid_params",
        "detail": "transcode does not accept these parameters. /input: it is no preset",
        "errors": [{"pointer": "/input", "detail": "it is no preset"}],
    }
    assert from_problem(422, wrong, "/v1/jobs") == (
        "transcode does not accept these parameters.", ["it is no preset"], ""
    )  # fmt: skip
    of_batch = {
        "code": "input_not_found",
        "detail": "Nothing of the batch was queued. /jobs/1/input/video: There is no file x.",
        "errors": [{"pointer": "/jobs/1/input/video", "detail": "There is no file x."}],
    }
    assert from_problem(422, of_batch, "/v1/batches") == (
        "Nothing of the batch was queued.", ["job 1, video: There is no file x."], ""
    )  # fmt: skip
    absent = {**gone, "detail": "There is nothing at /v1/bulk-actions/x/undo."}
    assert from_problem(404, absent, "/v1/bulk-actions/x/undo")[0] == "There is no bulk action 'x'."
    message, details, hint = from_problem(404, gone, "/v1/jobs/x/cancel")
    assert (message, details) == ("There is no job 'x'.", [])
    assert "GET" not in hint


def test_two_dashes_end_the_flags_and_a_title_may_begin_with_one(vidqueue: CommandLine) -> None:
    for name in ("-dash.txt", "--wait"):
        (vidqueue.folder / name).write_text("text")
    job = vidqueue(
        "submit", "zoo", "--act", "read", "--title", "-1 title", "--tag", "-t", "--json", "--", "-dash.txt"
    ).json
    assert (job["title"], job["tags"], job["source"]) == ("-1 title", ["-t"], "-dash.txt")
    waiting = vidqueue("submit", "zoo", "--act", "read", "--run-at", "2099-01-01T00:00", "--json", "--", "--wait").json
    assert (waiting["title"], waiting["state"]) == ("--wait", "queued")
    missing = vidqueue("submit", "transcode", "--", "--missing.mp4")
    assert (missing.code, "--missing.mp4 cannot be read" in missing.err) == (1, True)
    # Many jobs at once: the one that waits, by its tag.
    assert vidqueue("priority", waiting["id"], "-7").code == 0
    changed = vidqueue("priority", "9", "--processor", "zoo", "--state", "queued", "--yes", "--json")
    assert {job["id"]: job["priority"] for job in changed.lines}[waiting["id"]] == 9
    assert vidqueue("watch", "--tag", "-t", "--json").code == 0
    assert vidqueue("cancel", waiting["id"]).code == 0
