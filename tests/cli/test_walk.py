"""The first hour of a person with files, on a real terminal of 60, 80 and 140 columns (see test_walk_work.py)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import CommandLine
from tests.cli.screens import typing_on_a_terminal
from tests.cli.test_narrow import joined
from tests.cli.walking import Terminal, widths
from tests.daemon import Daemon, until
from vidqueue.media.sample import make_sample

LATER = ("--run-at", "+8h", "--title", "-1 later")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("walk") / "clip.mp4"
    make_sample(path, seconds=1, size=(160, 90))
    return path


def unlike_others(clip: Path, mark: str) -> bytes:
    """The clip with bytes of its own, in a box that players skip: the daemon keeps equal files once."""
    return clip.read_bytes() + b"\0\0\0\x10free" + mark.encode()[:8].ljust(8)


@widths(quick=60)
def test_a_person_with_a_folder(vidqueue: CommandLine, daemon: Daemon, clip: Path, columns: int) -> None:
    terminal = Terminal(vidqueue, columns)
    inside = vidqueue.folder / "Videos"
    names = ("it's Ünï ✈.mp4", "-dash.mp4", "trip/same.mp4", "same.mp4")
    for name in names:
        (inside / name).parent.mkdir(parents=True, exist_ok=True)
        (inside / name).write_bytes(unlike_others(clip, f"{columns}{name}"))
    (inside / "broken.mp4").write_text("no video")
    (inside / "gone.mp4").symlink_to("nowhere")
    tag = f"walk{columns}"
    submit = ("submit", "transcode", "Videos", "-r", "--tag", tag, "--quality", "low", "--effort", "fast")
    # 1, 2, 3, 5, 7: one command, named results in a tree, one table, a reason for each that has none.
    shown = joined(terminal(*submit, "--resolution", "720p", "--forget-uploads", "-o", "small/", code=3))
    _, _, table = shown.rpartition(" STATE NAME RESULT ")
    for name in names:
        assert f"succeeded {name} small/{name}" in table
        assert (vidqueue.folder / "small" / name).stat().st_size > 0
    assert "skipped broken.mp4 " in table
    assert "skipped gone.mp4 " in table
    assert "small/ already exists" not in shown
    # 6: the copies of the daemon go with their last job, since that was asked for.
    assert {one["expires_with_jobs"] for one in daemon.sql(_UPLOADS.format(tag))} == {True}
    assert "same.mp4" in terminal.table("files", "list")
    # 2: nothing is overwritten, and what is there is not fetched again.
    assert "already exists" in terminal(*submit, "-o", "small/", code=1)
    assert "0 files written, 4 already there" in joined(terminal("result", "--tag", tag, "-o", "small/"))
    assert "is an input of this command" in joined(
        terminal("submit", "transcode", "Videos/same.mp4", "-o", "Videos/same.mp4", "--force", code=1)
    )
    # 1, 2: a list of files, and results beside their sources and of a whole batch, by the name of an output.
    (vidqueue.folder / "list.txt").write_text("Videos/trip/same.mp4\n")
    listed = ("submit", "transcode", "--from", "list.txt", "--no-cache", "--quality", "low", "--effort", "fast")
    assert "trip/same.small.mp4" in joined(terminal(*listed, "--beside", "--suffix", ".small"))
    batch = daemon.http.get("/v1/jobs", params={"tag": tag}).json()["jobs"][0]["batch"]
    fetched = joined(terminal("result", "--batch", batch, "--name", "video", "-o", f"again{columns}/"))
    assert "4 files written" in fetched
    # 3: the warning is seen, and --strict makes it count.
    wide = ("submit", "transcode", "--tag", f"strict{columns}", "--width", "1280", "--wait", "--strict")
    assert "with 1 warning" in joined(terminal(*wide, "--", "Videos/-dash.mp4", code=3))
    first = daemon.http.get("/v1/jobs", params={"tag": f"strict{columns}"}).json()["jobs"][0]
    told = joined(terminal("status", first["id"][-6:]))
    for words in ("succeeded with 1 warning", "is not enlarged to 1280x?", "encoded by libx264"):
        assert words in told


_UPLOADS = (
    "SELECT f.expires_with_jobs FROM vidqueue.files f JOIN vidqueue.job_files u ON u.file_id = f.id "
    "JOIN vidqueue.jobs j ON j.id = u.job_id WHERE '{}' = ANY (j.tags)"
)


@widths(quick=80)
def test_many_jobs_and_slips_of_the_pen(vidqueue: CommandLine, daemon: Daemon, clip: Path, columns: int) -> None:
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
    # 6: uploads are listed, shown and deleted.
    (vidqueue.folder / "one.mp4").write_bytes(unlike_others(clip, f"{columns}one"))
    submitted = terminal("submit", "transcode", "one.mp4", "--run-at", "+8h", "--json")
    job = json.loads(submitted[submitted.index("{") :])["id"]
    upload = daemon.job(job)["input"]["video"].removeprefix("vq:files/")
    assert "one.mp4" in terminal("files", "show", upload)
    assert "total" in terminal.table("files", "du")
    terminal("cancel", job)
    terminal("delete", job, "--with-uploads")
    assert upload not in terminal("files", "list")
    # 7: an enhance that asks for nothing is told, in a batch too.
    jobs = {"processor": "enhance", "input": {"video": "vq:files/01a216a4-9c3a-70f8-99b6-c8a3fb9342ff"}}
    (vidqueue.folder / "jobs.ndjson").write_text(json.dumps(jobs) + "\n")
    assert "Nothing is enhanced, because none of denoise" in joined(terminal("batch", "jobs.ndjson", code=1))


@widths(quick=140)
def test_a_daemon_that_says_where_it_listens_and_how_to_stop_it(
    vidqueue: CommandLine, daemon: Daemon, columns: int
) -> None:
    # 7: half a daemon on the same database will do.
    words = ("serve", "--role", "api", "--port", "0", "--database-url", daemon.database_url)
    with typing_on_a_terminal(vidqueue, *words, columns=columns) as (shown, press):
        until(lambda: b"vidqueue listens at http://127.0.0.1:" in shown(), what="it listens")
        assert b"Ctrl-C stops it" in shown()
        press(b"\x03")
    assert not [line for line in shown().splitlines() if b"Traceback" in line]
