"""Terminals of 60, 80 and 140 columns: the state comes first, then the name, a bar last, and nothing is lost."""

from __future__ import annotations

import re

import pytest
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from tests.cli.conftest import CommandLine
from tests.cli.screens import ESCAPE, last_frame, on_a_terminal
from tests.daemon import Daemon
from vidqueue.cli.layout import lines_of, widths_of

LONG = "Urlaub in den Bergen, Teil 1 von 3 - 動画の長い名前, lange Fassung mit Ton.mp4"
COLUMNS = (60, 80, 140)


@pytest.fixture(scope="module")
def jobs(daemon: Daemon) -> list[str]:
    """Jobs with a short and a long name, and one that fails with a long message."""
    tags = {"tags": ["narrow"]}
    bodies = [
        {"processor": "zoo", "title": "a.mp4", **tags},
        {"processor": "zoo", "title": LONG, **tags},
        {"processor": "zoo", "title": "b.mp4", "input": {"act": "refuse"}, **tags},
    ]
    ids = [str(daemon.http.post("/v1/jobs", json=body).json()["id"]) for body in bodies]
    for job_id in ids:
        daemon.ended(job_id)
    return ids


def joined(shown: str) -> str:
    """The text with every gap and break between words as one space."""
    return re.sub(r"\s+", " ", shown)


def starts(shown: str) -> list[str]:
    """The lines on which a row begins: the others are indented."""
    return [line for line in shown.splitlines() if line and not line.startswith(" ")]


@pytest.mark.parametrize("columns", COLUMNS)
def test_a_list_shows_everything_at_every_width(vidqueue: CommandLine, jobs: list[str], columns: int) -> None:
    shown = ESCAPE.sub("", on_a_terminal(vidqueue, "list", "--tag", "narrow", columns=columns))
    assert max(map(cell_len, shown.splitlines())) <= columns
    heading, *rows = starts(shown)
    assert heading.split()[:2] == ["STATE", "NAME"]
    assert [row.split()[0] for row in rows] == ["failed", "succeeded", "succeeded"]
    assert [row.split()[1] for row in rows] == ["b.mp4", "Urlaub", "a.mp4"]
    for part in (*jobs, LONG, "unsupported_format The zoo refuses this."):
        assert part in joined(shown)


@pytest.mark.parametrize("columns", COLUMNS)
def test_bars_come_last_and_cut_no_name(vidqueue: CommandLine, jobs: list[str], columns: int) -> None:
    shown = last_frame(on_a_terminal(vidqueue, "watch", *jobs, columns=columns, code=3))
    assert max(map(cell_len, shown.splitlines())) <= columns
    assert [row.split()[:2] for row in starts(shown)] == [
        ["succeeded", "a.mp4"], ["succeeded", "Urlaub"], ["failed", "b.mp4"],
    ]  # fmt: skip
    bars = re.findall(r"[━─]+(?=\n)", shown)
    assert len(bars) == 3, "each bar ends its line"
    for part in (LONG, "unsupported_format The zoo refuses this."):
        assert part in joined(shown)


def test_no_color_means_no_escapes_at_all(vidqueue: CommandLine, jobs: list[str]) -> None:
    vidqueue.variables["NO_COLOR"] = "1"
    (vidqueue.folder / "clip.mp4").write_bytes(b"no clip")
    for words, code in (
        (["--help"], 0),
        (["list", "--tag", "narrow"], 0),
        (["watch", *jobs], 3),
        (["submit", "zoo", "--act", "read", "--media", "clip.mp4", "--wait"], 0),
        (["submit", "zoo", "--nonsense"], 2),
        (["status", "nonsense"], 4),
        (["processors", "zoo"], 0),
    ):
        shown = on_a_terminal(vidqueue, *words, columns=60, code=code)
        assert "\x1b" not in shown, words
        assert shown.strip(), words
    del vidqueue.variables["NO_COLOR"]
    for words, code in (
        (["list", "--no-color"], 0),
        (["watch", *jobs, "--no-color"], 3),
        (["status", "x", "--no-color"], 4),
    ):
        assert "\x1b" not in on_a_terminal(vidqueue, *words, columns=60, code=code), words


def test_rows_are_laid_out_without_losing_a_word() -> None:
    console = Console(width=30)
    words = ["state", "a name of several words", "verylongwordwithoutanygap" * 3, "", "end"]
    for width in (9, 12, 20, 30, 60, 200, None):
        row = [Text(word) for word in words]
        lines = [line.plain for line in lines_of(console, row, widths_of([row], width), width)]
        assert "".join("".join(lines).split()) == "".join("".join(words).split())
        assert width is None or max(map(len, lines)) <= width
    assert len(lines) == 1
