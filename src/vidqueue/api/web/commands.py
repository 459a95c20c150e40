"""The commands that would submit a job again: curl, the command line, SQL. They are texts for people to copy."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from typing import Any

from vidqueue.db.tables.jobs import JobRow


@dataclass(frozen=True, slots=True)
class Command:
    """A command, and what it is for."""

    name: str
    text: str


def of(job: JobRow, url: str) -> list[Command]:
    """Return the commands that submit the same work once more to the daemon at `url`."""
    asked: dict[str, Any] = {"processor": job.processor, "input": job.input}
    if job.title:
        asked["title"] = job.title
    if job.tags:
        asked["tags"] = job.tags
    if job.priority:
        asked["priority"] = job.priority
    body = json.dumps(asked, ensure_ascii=False)
    return [
        Command("curl", f"curl --json {shlex.quote(body)} {url}/v1/jobs"),
        Command("Command line", _command_line(job)),
        Command("SQL", _sql(job)),
    ]


def _command_line(job: JobRow) -> str:
    words = ["vidqueue", "submit", job.processor]
    for name, value in job.input.items():
        words += _flag(name, value)
    if job.title:
        words += ["--title", shlex.quote(job.title)]
    words += [f"--tag {shlex.quote(tag)}" for tag in job.tags]
    return " ".join(words)


def _flag(name: str, value: Any) -> list[str]:
    flag = f"--{name.replace('_', '-')}"
    match value:
        case None:
            return []
        case bool():
            return [flag if value else f"--no-{flag[2:]}"]
        case str():
            return [flag, shlex.quote(value)]
        case _:
            return [flag, shlex.quote(json.dumps(value, ensure_ascii=False))]


def _sql(job: JobRow) -> str:
    given = [_literal(job.processor), _literal(json.dumps(job.input, ensure_ascii=False))]
    if job.title:
        given.append(f"title => {_literal(job.title)}")
    if job.priority:
        given.append(f"priority => {job.priority}")
    return f"SELECT vidqueue.submit({', '.join(given)});"


def _literal(text: str) -> str:
    """A text as a literal of PostgreSQL, whatever standard_conforming_strings is."""
    quoted = text.replace("'", "''")
    return "E'" + quoted.replace("\\", "\\\\") + "'" if "\\" in quoted else f"'{quoted}'"
