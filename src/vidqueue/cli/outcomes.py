"""What became of the sources of a command line: a table with the sizes, and the counts."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from rich.text import Text

from vidqueue.cli.client import Job
from vidqueue.cli.destinations import Places
from vidqueue.cli.exits import Exit
from vidqueue.cli.render import situation, state_of, warnings_of
from vidqueue.cli.terminal import Screen, count_text, size_text
from vidqueue.cli.watch import verdict
from vidqueue.job import State

THERE = "already there"


@dataclass(slots=True)
class Line:
    """What became of one source.

    Attributes:
        size: of the source in bytes when it was sent, if it is a file of this machine.
        result_size: of the file that was written, if it is one.
        remark: what is wrong with the source although its job succeeded.
        is_there: an earlier command has written the result, so that no job was submitted.
    """

    name: PurePosixPath
    value: str
    size: int | None = None
    job: Job | None = None
    skipped: str = ""
    paths: list[Path] = field(default_factory=list)
    unwritten: str = ""
    result_size: int | None = None
    remark: str = ""
    is_there: bool = False

    @property
    def warnings(self) -> list[str]:
        """The warnings of the job's outputs, and the remark."""
        outputs = (self.job or {}).get("outputs") or ()
        said = [str(one) for output in outputs for one in (output.get("facts") or {}).get("warnings") or ()]
        return [*said, *filter(None, [self.remark])]


def tell(screen: Screen, lines: Sequence[Line], *, strict: bool, waited: bool) -> Exit:
    """Write the table, and return the exit code: 3 if a job failed, a source was skipped, or a result not written.

    On a terminal, who has not waited is told how to go on.
    """
    if screen.json:
        for line in lines:
            screen.object(_as_json(line))
    else:
        _table(screen, lines)
        for words in filter(None, [sizes(lines), in_all(lines)]):
            screen.say(words)
        if not waited and screen.width and batches_of(lines):
            screen.say(how_to_watch(lines))
            screen.say(how_to_fetch(lines, None))
    jobs = [line.job for line in lines if line.job is not None]
    warned = strict and any(line.warnings for line in lines)
    if warned or any(line.skipped or line.unwritten for line in lines):
        return Exit.JOB_FAILED
    return verdict(jobs)


def _table(screen: Screen, lines: Sequence[Line]) -> None:
    if screen.width is None:
        # In a pipe the name comes first, because scripts search for it.
        screen.table(("NAME", "STATE", "RESULT"), [(str(line.name), _state(line), _result(line)) for line in lines])
        return
    more: list[tuple[str, Callable[[Line], str | Text], bool]] = [
        ("SIZE", _size, any(line.result_size is not None for line in lines)),
        ("WARNINGS", lambda line: " ".join(line.warnings), any(line.warnings for line in lines)),
    ]
    shown = [(heading, cell) for heading, cell, is_used in more if is_used]
    rows = [(_state(line), str(line.name), _result(line), *(cell(line) for _, cell in shown)) for line in lines]
    screen.table(("STATE", "NAME", "RESULT", *(heading for heading, _ in shown)), rows)


def in_all(lines: Sequence[Line]) -> str:
    """How many sources came to which end, such as `20 succeeded (3 with warnings), 2 failed, 5 skipped`."""
    states = Counter(_end(line) for line in lines)
    warned = sum(line.job is not None and bool(warnings_of(line.job) or line.remark) for line in lines)
    aside = {"succeeded": f" ({warned} with warnings)" if warned else ""}
    order = (*(state.value for state in State), "skipped", THERE)
    counts = [f"{states[state]} {state}{aside.get(state, '')}" for state in order if states[state]]
    lost = sum(bool(line.unwritten) for line in lines)
    return ", ".join([*counts, *([f"{count_text(lost, 'result')} not written"] if lost else [])])


def sizes(lines: Sequence[Line]) -> str:
    """How much smaller the results are than their sources, and how many are larger; empty if nothing was written."""
    pairs = [(line.size, line.result_size) for line in lines if line.size is not None and line.result_size is not None]
    if not pairs:
        return ""
    before, after = (sum(one) for one in zip(*pairs, strict=True))
    grown = sum(result > source for source, result in pairs)
    larger = f"; {grown} of {count_text(len(pairs), 'result')} larger than the source" if grown else ""
    return f"{size_text(before)} became {size_text(after)}{larger}"


def how_to_fetch(lines: Sequence[Line], places: Places | None) -> str:
    """Return a sentence with the command that fetches the results later."""
    folder = ["-o", f"{places.folder}/"] if places is not None and places.folder is not None else []
    choices = [["--batch", batch] for batch in batches_of(lines)] or [["--all"]]
    commands = [shlex.join(["vidqueue", "result", *one, *folder]) for one in choices]
    return f"Fetch the results with: {' && '.join(commands)}"


def how_to_watch(lines: Sequence[Line]) -> str:
    """Return a sentence with the command that watches the jobs, for who does not wait."""
    commands = [f"vidqueue watch --batch {batch}" for batch in batches_of(lines)]
    return f"Watch them with: {' && '.join(commands)}"


def batches_of(lines: Sequence[Line]) -> list[str]:
    """The ids of the batches that hold the jobs, each once: one batch has at most a thousand jobs."""
    return list(dict.fromkeys(str(line.job["batch"]) for line in lines if line.job and line.job.get("batch")))


def _end(line: Line) -> str:
    if line.is_there:
        return THERE
    return "skipped" if line.job is None else str(line.job["state"])


def _state(line: Line) -> Text:
    if line.is_there:
        return Text("skipped")
    return Text("skipped", style="yellow") if line.job is None else state_of(line.job)


def _result(line: Line) -> str:
    if line.is_there:
        return f"{line.paths[0]} is there already"
    if line.job is None:
        return line.skipped
    if line.unwritten:
        return f"{line.unwritten} The daemon keeps the result: vidqueue result {line.job['id']}"
    return ", ".join(map(str, line.paths)) or situation(line.job)


def _size(line: Line) -> Text:
    if line.result_size is None:
        return Text()
    if line.size is None:
        return Text(size_text(line.result_size))
    said = f"{size_text(line.size)} → {size_text(line.result_size)}"
    return Text(said, style="yellow" if line.result_size > line.size else "")


def _as_json(line: Line) -> dict[str, Any]:
    return {
        "source": line.value,
        "name": str(line.name),
        "skipped": line.skipped or (THERE if line.is_there else None),
        "job": line.job,
        "paths": [str(path) for path in line.paths],
        "not_written": line.unwritten or None,
        "remark": line.remark or None,
    }
