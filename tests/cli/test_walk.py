"""The first hour on a real terminal, of 60, 80 and 140 columns: a person with files, a developer, an operator."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.cells import cell_len

from tests.cli.conftest import CommandLine
from tests.cli.screens import ESCAPE, on_a_terminal
from tests.cli.test_narrow import joined
from tests.daemon import Daemon
from vidqueue.media.sample import make_sample

COLUMNS = (60, 80, 140)


def widths(quick: int | None) -> pytest.MarkDecorator:
    """Each width, of which one is no test of `make test-long` alone."""
    marks = {columns: () if columns == quick else (pytest.mark.long,) for columns in COLUMNS}
    return pytest.mark.parametrize("columns", [pytest.param(columns, marks=marks[columns]) for columns in COLUMNS])


LATER = ("--run-at", "tonight", "--title", "-1 later")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("walk") / "clip.mp4"
    make_sample(path, seconds=1, size=(160, 90))
    return path


class Terminal:
    """A terminal of one width; what is on it in the end, and that no table is wider than it."""

    def __init__(self, vidqueue: CommandLine, columns: int) -> None:
        self.vidqueue, self.columns = vidqueue, columns

    def __call__(self, *words: str, code: int = 0) -> str:
        shown = on_a_terminal(self.vidqueue, *words, columns=self.columns, code=code)
        return ESCAPE.sub("", shown).replace("\r\n", "\n")

    def table(self, *words: str, code: int = 0) -> str:
        shown = self(*words, code=code)
        assert max(map(cell_len, shown.splitlines())) <= self.columns, shown
        return shown


@widths(quick=60)
def test_a_person_with_a_folder(vidqueue: CommandLine, daemon: Daemon, clip: Path, columns: int) -> None:
    terminal = Terminal(vidqueue, columns)
    inside = vidqueue.folder / "Videos"
    names = ("it's Ünï ✈.mp4", "-dash.mp4", "trip/same.mp4", "same.mp4")
    for name in names:
        (inside / name).parent.mkdir(parents=True, exist_ok=True)
        (inside / name).write_bytes(clip.read_bytes() + b"\0\0\0\x10free" + f"{columns}{name}".encode()[:8].ljust(8))
    (inside / "broken.mp4").write_text("no video")
    (inside / "gone.mp4").symlink_to("nowhere")
    tag = f"walk{columns}"
    submit = ("submit", "transcode", "Videos", "-r", "--tag", tag, "--quality", "low", "--effort", "fast")
    # 1, 2, 3, 5, 7: one command, named results in a tree, one table, a reason for each that has none.
    shown = joined(terminal(*submit, "--resolution", "720p", "--forget-uploads", "-o", "small/", code=3))
    _, _, table = shown.rpartition(" STATE NAME RESULT ")
    for name in names:
        assert f"succeeded with 1 warning {name} small/{name}" in table
        assert (vidqueue.folder / "small" / name).stat().st_size > 0
    assert "skipped broken.mp4 " in table
    assert "skipped gone.mp4 " in table
    assert "small/ already exists" not in shown
    # 6: the copies of the daemon go with their last job, since that was asked for.
    assert {one["leaves"] for one in daemon.sql(_UPLOADS.format(tag))} == {True}
    assert "same.mp4" in terminal.table("files", "list")
    # 2: nothing is overwritten, and what is there is not fetched again.
    assert "already exists" in terminal(*submit, "-o", "small/", code=1)
    assert "0 files written, 4 already there" in joined(terminal("result", "--tag", tag, "-o", "small/"))
    assert "is an input of this command" in joined(
        terminal("submit", "transcode", "Videos/same.mp4", "-o", "Videos/same.mp4", "--force", code=1)
    )
    # 3: the warning is seen, and --strict makes it count.
    first = daemon.http.get("/v1/jobs", params={"tag": tag}).json()["jobs"][0]
    assert "succeeded with 1 warning" in terminal("status", first["id"][-6:])
    assert "is not enlarged to 720p" in joined(terminal("status", first["id"][-6:]))
    small = ("submit", "transcode", "--tag", "strict", "--resolution", "720p", "--wait", "--strict")
    assert "with 1 warning" in joined(terminal(*small, "--", "Videos/-dash.mp4", code=3))


_UPLOADS = (
    "SELECT f.leaves FROM vidqueue.files f JOIN vidqueue.job_files u ON u.file_id = f.id "
    "JOIN vidqueue.jobs j ON j.id = u.job_id WHERE '{}' = ANY (j.tags)"
)


@widths(quick=80)
def test_many_jobs_and_slips_of_the_pen(vidqueue: CommandLine, daemon: Daemon, columns: int) -> None:
    terminal = Terminal(vidqueue, columns)
    tag = f"many{columns}"
    job_id = terminal("submit", "zoo", *LATER, "--tag", tag).split()[0]
    # 4: by a piece of the id, by what they are, with words of the command line.
    assert joined(terminal("priority", job_id[-6:], "7")).startswith(job_id)
    assert "-1 later" in terminal.table("list", "--tag", tag)
    assert job_id in joined(terminal("cancel", "--tag", tag, "--yes"))
    assert daemon.job(job_id)["state"] == "canceled"
    for words, said in (
        (("submit", "transcoed", "x.mp4"), "transcode"),
        (("submit", "zoo", "--titel", "x"), "--title"),
        (("cancle", "x"), "cancel"),
        (("submit", "zoo", "--run-at", "soonish"), "tonight"),
    ):
        shown = joined(terminal(*words, code=2))
        assert said in shown
        assert not {"GET", "POST", "Value error", "/v1/"} & set(shown.split()), shown
    # 7: an enhance that asks for nothing is told, in a batch too.
    jobs = {"processor": "enhance", "input": {"video": "vq:files/01a216a4-9c3a-70f8-99b6-c8a3fb9342ff"}}
    (vidqueue.folder / "jobs.ndjson").write_text(json.dumps(jobs) + "\n")
    assert "Nothing is enhanced, because none of denoise" in joined(terminal("batch", "jobs.ndjson", code=1))


@widths(quick=None)
def test_a_developer_and_an_operator(vidqueue: CommandLine, daemon: Daemon, clip: Path, columns: int) -> None:
    terminal = Terminal(vidqueue, columns)
    # 9: a processor in this terminal, and the beginning of one's own.
    (vidqueue.folder / "in clip.mp4").write_bytes(clip.read_bytes())
    assert "thumbnails-out/" in terminal("try", "thumbnails", "in clip.mp4", "--no-sheet", "--no-sprite")
    assert "pip install -e" in joined(terminal("processors", "new", "mine"))
    # 10: what a processor prints, and the traceback of its failure.
    failed = terminal("submit", "zoo", "--act", "raise", "--max-attempts", "1", "--wait", code=3)
    assert "vidqueue logs" in failed
    job_id = failed.split("vidqueue logs ")[1].split("`")[0]
    assert "Traceback (most recent call last)" in terminal("logs", job_id[-6:])
    # 11, 12: a backup of the daemon at work, how much is stored, and who used how much.
    dumped = terminal("db", "dump", "night.tar", "--without-files", "--data-dir", str(daemon.data_dir))
    assert "night.tar: the database" in joined(dumped)
    assert "total" in terminal.table("files", "du")
    assert "zoo" in terminal.table("report", "usage")
