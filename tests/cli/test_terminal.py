"""Titles, names, messages and log lines come from other people: none of them may control the operator's terminal."""

from __future__ import annotations

import json
import re

import pytest

from tests.cli.conftest import CommandLine
from tests.cli.screens import on_a_terminal
from tests.daemon import Daemon
from vidqueue.cli.exits import CommandError, Exit
from vidqueue.cli.options import Look
from vidqueue.cli.render import Bars, Lines
from vidqueue.cli.terminal import Screen, tell_error
from vidqueue.sanitize import visible

# Sets the title of the window, clears the screen, forges a line, moves the cursor, reorders, is markup of rich.
HOSTILE = (
    "[red]a[/red] [/] :smile: \x1b]0;owned\x07 \x1b[2J \x9b31m\nforged  succeeded\r "
    "\x08\x7f\x85 \u2028 \u202egpj.exe \u2066 \ud800"
)
HARMFUL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def test_what_controls_a_terminal_becomes_visible_and_everything_else_stays() -> None:
    assert visible("\x1b]0;x\x07a\nb\tc\x9b\u202e\ud800") == r"\x1b]0;x\x07a\nb c\x9b\u202e\ud800"
    for text in ("plain", "ein kürzerer clip", "動画 👩‍👩‍👧", "[red] :smile: \\"):
        assert visible(text) == text
    every = "".join(map(chr, range(0x3000)))
    assert not HARMFUL.search(visible(every))
    assert "\n" not in visible(every)


def job(**known: object) -> dict[str, object]:
    return {"id": "01890000-0000-7000-8000-00000000beef", "processor": HOSTILE, "state": "running", **known}


def test_nothing_that_is_printed_for_people_controls_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen(Look())
    screen.say(HOSTILE)
    screen.write(HOSTILE)
    screen.table(("A",), [(HOSTILE,)])
    tell_error(CommandError(HOSTILE, hint=HOSTILE, code=HOSTILE, details=[HOSTILE]))
    Lines(screen).put(job(title=HOSTILE, stage=HOSTILE, message=HOSTILE, lane=HOSTILE))
    bars = Bars(screen.err)
    bars.put(job(title=HOSTILE, stage=HOSTILE))
    bars.put(job(id="x", title=HOSTILE, state="failed", error={"code": HOSTILE, "message": HOSTILE}))
    screen.out.print(bars.render())
    told = "".join(capsys.readouterr())
    assert not HARMFUL.search(told)
    assert told.count("[red]a[/red] [/] :smile:") >= 10
    assert not [line for line in told.splitlines() if line.startswith("forged")]


def test_json_says_everything_even_what_cannot_be_encoded(capsys: pytest.CaptureFixture[str]) -> None:
    Screen(Look(json=True)).object({"title": HOSTILE})
    told = capsys.readouterr().out
    assert json.loads(told) == {"title": HOSTILE}
    assert not HARMFUL.search(told)


def test_json_says_what_controls_a_terminal_with_escapes_and_everything_else_as_it_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    title = "é 動画 \x9b2J \u202e \x7f \u2029 \t"
    Screen(Look(json=True)).object({"title": title})
    told = capsys.readouterr().out
    assert told == '{"title":"é 動画 \\u009b2J \\u202e \\u007f \\u2029 \\t"}\n'
    assert json.loads(told) == {"title": title}


@pytest.mark.parametrize(
    "words",
    [
        ("status", "a\nb"), ("status", "é\x1b[2J"), ("logs", "0198\r"), ("cancel", "a\nb"), ("files", "show", "a\nb"),
        ("watch", "a\x9b"), ("pause", "--lane", "\x1b[2J"), ("status", "\udcff"),
    ],
)  # fmt: skip
def test_an_id_with_characters_that_no_id_has_is_one_that_is_not_there(
    vidqueue: CommandLine, words: tuple[str, ...]
) -> None:
    ran = vidqueue(*words)
    assert (ran.code, ran.out) == (Exit.NOT_FOUND, "")
    assert ran.err.startswith("error: ")
    assert not HARMFUL.search(ran.err)


def test_words_that_are_no_text_are_refused_with_a_message(vidqueue: CommandLine) -> None:
    ran = vidqueue("list", "--tag", "\udcff")
    assert (ran.code, ran.out) == (Exit.USAGE, "")
    assert "is not valid text (UTF-8)" in ran.err


def test_a_hostile_title_is_harmless_in_every_command_on_a_real_terminal(vidqueue: CommandLine, daemon: Daemon) -> None:
    title = HOSTILE.replace("\ud800", "").replace("\x00", "")[:150]
    body = {"processor": "zoo", "title": title, "tags": ["hostile"]}
    answer = daemon.http.post("/v1/jobs", json=body)
    assert answer.status_code == 202, answer.text
    job_id = answer.json()["id"]
    daemon.ended(job_id)
    for words in (["list", "--tag", "hostile"], ["status", job_id], ["watch", job_id]):
        shown = on_a_terminal(vidqueue, *words)
        assert "\x1b]0;" not in shown
        assert "\x1b[2J" not in shown
        assert "\x9b" not in shown
        assert "\u202e" not in shown
        assert "[red]" in shown, words
    assert vidqueue("status", job_id, "--json").json["title"] == title
    # A terminal that cannot show a character gets an escape, and no traceback.
    latin = vidqueue("list", "--tag", "hostile", variables={"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"})
    assert latin.code == 0, latin.err
