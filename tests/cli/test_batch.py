"""Batches from the command line: lists of jobs in three formats, many files, and what becomes of them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import CommandLine
from tests.daemon import Daemon
from vidqueue.cli.exits import CommandError
from vidqueue.cli.job_list import files_of, read
from vidqueue.media.sample import make_sample

ONE = '{"processor": "zoo", "title": "one", "tags": ["x", "y"]}'
LATER = "2099-01-01T00:00:00Z"


def jobs_of(daemon: Daemon, batch_id: str) -> list[dict[str, Any]]:
    jobs: list[dict[str, Any]] = daemon.http.get(f"/v1/jobs?batch={batch_id}").json()["jobs"]
    return sorted(jobs, key=lambda job: str(job["id"]))


@pytest.fixture
def clip(vidqueue: CommandLine) -> Path:
    path = vidqueue.folder / "a clip.mp4"
    make_sample(path, seconds=1, size=(64, 48))
    return path


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("jobs.json", f'[{ONE}, {{"processor": "zoo", "input": {{"act": "work"}}}}]'),
        ("jobs.json", f'{{"title": "both", "jobs": [{ONE}, {{"processor": "zoo"}}]}}'),
        ("jobs.ndjson", f'{ONE}\n\n{{"processor": "zoo"}}\n'),
        ("jobs.csv", "\ufeffprocessor,title,tags,seconds,priority\r\nzoo,one,x;y,0.1,\r\nzoo,,,,5\r\n"),
    ],
    ids=["array", "object", "lines", "csv"],
)  # fmt: skip
def test_every_format_makes_the_jobs_it_names(vidqueue: CommandLine, daemon: Daemon, name: str, text: str) -> None:
    (vidqueue.folder / name).write_text(text)
    ran = vidqueue("batch", name, "--wait", "--json")
    assert ran.code == 0, ran.err
    batch = ran.lines[-1]
    assert (batch["state"], batch["counts"]["succeeded"]) == ("succeeded", 2)
    first, second = jobs_of(daemon, batch["id"])
    assert (first["title"], first["tags"], second["title"]) == ("one", ["x", "y"], None)
    if name.endswith("csv"):
        assert (first["input"], second["priority"]) == ({"seconds": "0.1"}, 5)


def test_standard_input_takes_lines_and_flags_fill_in_what_the_list_does_not_say(
    vidqueue: CommandLine, daemon: Daemon
) -> None:
    lines = b'{"input": {"act": "work"}, "priority": 3}\n{"lane": "cpu1"}\n'
    ran = vidqueue(
        "batch", "-", "--processor", "zoo", "--seconds", "0.05", "--priority", "7", "--tag", "t", "--title", "mine",
        stdin=lines,
    )  # fmt: skip
    assert (ran.code, ran.err) == (0, "")
    first, second = jobs_of(daemon, ran.out.strip())
    assert (first["priority"], first["input"]) == (3, {"act": "work", "seconds": 0.05})
    assert (second["priority"], second["lane"], second["tags"]) == (7, "cpu1", ["t"])
    shown = vidqueue("batch", "status", ran.out.strip(), "--wait")
    assert (shown.code, "mine" in shown.out, "2 succeeded" in shown.out) == (0, True, True)


def test_a_pattern_makes_a_job_for_each_file_with_the_flags_of_the_processor(
    vidqueue: CommandLine, daemon: Daemon, clip: Path
) -> None:
    clip.with_name("b.mp4").write_bytes(clip.read_bytes())
    clip.with_name(os.fsdecode(b"c\xff.mp4")).write_bytes(clip.read_bytes())
    ran = vidqueue("batch", "--processor", "transcode", "*.mp4", "--quality", "low", "--effort", "fast", "--json")
    assert ran.code == 0, ran.err
    jobs = jobs_of(daemon, ran.json["id"])
    assert [job["title"] for job in jobs] == ["a clip.mp4", "b.mp4", "c\ufffd.mp4"]
    for job in jobs:
        assert job["input"] | {"video": ""} == {"video": "", "quality": "low", "effort": "fast"}
    assert vidqueue("batch", "status", ran.json["id"], "--wait").code == 0


def test_a_file_that_several_jobs_name_is_uploaded_once(vidqueue: CommandLine, daemon: Daemon, clip: Path) -> None:
    clip.with_name("link.mp4").symlink_to(clip.name)
    names = ["a clip.mp4", "./a clip.mp4", "link.mp4", str(clip)]
    jobs = [{"processor": "transcode", "run_at": LATER, "input": {"video": name}} for name in names]
    (vidqueue.folder / "jobs.json").write_text(json.dumps(jobs))
    ran = vidqueue("batch", "jobs.json")
    assert ran.code == 0, ran.err
    references = {job["input"]["video"] for job in jobs_of(daemon, ran.out.strip())}
    assert len(references) == 1
    assert vidqueue("batch", "cancel", ran.out.strip()).code == 0


def test_a_failed_job_ends_the_waiting_with_3_and_retry_runs_the_failed_ones_again(vidqueue: CommandLine) -> None:
    jobs = [{"processor": "zoo"}, {"processor": "zoo", "input": {"act": "refuse"}, "max_attempts": 1}]
    (vidqueue.folder / "jobs.json").write_text(json.dumps(jobs))
    ran = vidqueue("batch", "jobs.json", "--wait")
    assert ran.code == 3, ran.err
    batch_id = ran.err.split("submitted ")[1].split()[0]
    assert "1 succeeded, 1 failed" in ran.out
    again = vidqueue("batch", "retry", batch_id, "--wait", "--json")
    assert (again.code, again.lines[-1]["counts"]["failed"]) == (3, 1)
    assert vidqueue("batch", "status", "01890000-0000-7000-8000-000000000000").code == 4


@pytest.mark.parametrize(
    ("words", "text", "code", "said"),
    [
        (("jobs.json",), "[", 2, "is not a list of jobs"),
        (("jobs.json",), "[]", 2, "A batch has 1 to 1000 jobs; this one has 0."),
        (("jobs.json",), '[{"processor": "zoo"}, 7]', 2, "job 1 is not a job"),
        (("jobs.json",), '{"jbos": []}', 2, "unknown keys (jbos)"),
        (("jobs.json",), '[{"input": {}}]', 2, "/jobs/0: names no processor"),
        (("jobs.json",), '[{"processor": "zoo"}, {"processor": "zoo", "input": {"x": 1}}]', 2, "/jobs/1/input/x"),
        (("jobs.json",), '[{"processor": "transcode", "input": {"video": "missing.mp4"}}]', 1, "missing.mp4 cannot be"),
        (("jobs.json",), json.dumps([{"processor": "zoo"}] * 1001), 2, "this one has 1001"),
        (("jobs.json",), '[{"processor": "transcode", "input": {"video": "a\\u0000b"}}]', 1, r"'a\x00b' cannot be"),
        (("missing.ndjson",), "", 1, "missing.ndjson cannot be read"),
        (("clip.mp4",), "", 2, "is not a list of jobs"),
        (("--processor", "transcode", "*.mkv"), "", 1, "No file matches *.mkv."),
        (("--processor", "transcode", "jobs.json", "--qualty", "low"), "[]", 2, "--qualty"),
        (("--processor", "transcode", "jobs.json", "--quality", "best"), "[]", 2, "best"),
        (("--processor", "trancsode", "jobs.json"), "[]", 2, "no processor 'trancsode'"),
        (("jobs.json", "--quality", "low"), "[]", 2, "Unknown flag --quality."),
        ((), "", 2, "A batch has 1 to 1000 jobs; this one has 0."),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_before_anything_is_sent(
    alone: CommandLine, words: tuple[str, ...], text: str, code: int, said: str
) -> None:
    (alone.folder / "jobs.json").write_text(text)
    ran = alone("batch", *words)
    assert (ran.code, said in ran.err) == (code, True), ran.err
    assert "Traceback" not in ran.err


def test_faults_of_a_list_name_their_line(tmp_path: Path) -> None:
    for name, text, said in (
        ("a.ndjson", '{"processor": "zoo"}\n{"processor"\n', "line 2"),
        ("a.csv", "processor,seconds\nzoo,1,2\n", "line 2"),
        ("a.csv", 'processor\n"zoo\n', "is not a list of jobs"),
        ("a.csv", "processor,seconds, seconds\nzoo,1,2\n", "more than one column has the name 'seconds'"),
        ("deep.json", "[" * 100_000, "is not a list of jobs"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(CommandError, match=said):
            read(str(tmp_path / name))


def test_csv_cells_may_be_json_and_a_column_may_be_marked_as_a_parameter(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('processor,input.title,words,empty\nzoo,t,"[""a"", 1]",\n')
    assert read(str(tmp_path / "a.csv"))[1] == [{"processor": "zoo", "input": {"title": "t", "words": ["a", 1]}}]


def test_a_file_whose_name_looks_like_a_pattern_is_itself(tmp_path: Path) -> None:
    (tmp_path / "[a].mp4").touch()
    assert files_of(str(tmp_path / "[a].mp4")) == [str(tmp_path / "[a].mp4")]
