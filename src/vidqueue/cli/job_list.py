"""Lists of jobs in files: JSON, NDJSON and CSV, read into the jobs of a batch as the daemon takes them."""

from __future__ import annotations

import csv
import glob
import io
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any

from vidqueue.cli.exits import CommandError, Exit

SUFFIXES = (".json", ".ndjson", ".jsonl", ".csv")
# Columns of a CSV file that say how to run the job; every other column is a parameter of the processor.
JOB_COLUMNS = (
    "processor", "name", "title", "tags", "priority", "run_at", "expires_at", "max_attempts", "timeout_s",
    "stall_timeout_s", "lane", "labels", "after", "keep_s", "cache", "forget_uploads",
)  # fmt: skip
STDIN = "-"


def is_list(source: str) -> bool:
    """Whether a source holds jobs, by its suffix; standard input always does."""
    return source == STDIN or PurePath(source).suffix.lower() in SUFFIXES


def read(source: str) -> tuple[str | None, list[dict[str, Any]]]:
    """The title, if the list has one, and the jobs of a list.

    Raises:
        CommandError: the file cannot be read or is not such a list.
    """
    text = text_of(source)
    suffix = PurePath(source).suffix.lower()
    try:
        if suffix == ".csv":
            return None, list(_from_csv(text))
        if suffix in (".ndjson", ".jsonl") or (source == STDIN and not _is_one_document(text)):
            return None, list(_from_lines(text))
        return _from_document(json.loads(text))
    except (ValueError, RecursionError, csv.Error) as error:
        raise CommandError(f"{source} is not a list of jobs: {error}", exit=Exit.USAGE) from None


def files_of(pattern: str) -> list[str]:
    """The files that a name or a pattern such as `*.mp4` stands for, sorted.

    Raises:
        CommandError: the pattern fits no file.
    """
    if Path(pattern).exists() or not glob.has_magic(pattern):
        return [pattern]
    found = sorted(one for one in glob.glob(pattern, recursive=True) if Path(one).is_file())  # noqa: PTH207
    if not found:
        raise CommandError(f"No file matches {pattern}.", code="input_not_found")
    return found


def text_of(source: str) -> str:
    """Return the text of a list, or of standard input for `-`.

    Raises:
        CommandError: it cannot be read, or is not UTF-8.
    """
    try:
        content = sys.stdin.buffer.read() if source == STDIN else Path(source).read_bytes()
        # A byte order mark is how spreadsheets begin a CSV file.
        return content.decode("utf-8-sig")
    except OSError as error:
        raise CommandError(f"{source} cannot be read: {error.strerror}.", code="input_not_found") from None
    except UnicodeDecodeError:
        raise CommandError(f"{source} is not UTF-8 text.", exit=Exit.USAGE) from None


def _is_one_document(text: str) -> bool:
    try:
        return isinstance(json.loads(text), list) or "jobs" in json.loads(text)
    except (ValueError, RecursionError):
        return False


def _from_document(document: Any) -> tuple[str | None, list[dict[str, Any]]]:
    title, jobs = None, document
    if isinstance(document, dict):
        if unknown := set(document) - {"title", "jobs"}:
            raise ValueError(f"it has unknown keys ({', '.join(sorted(unknown))}); `title` and `jobs` are known")
        title, jobs = document.get("title"), document.get("jobs")
    if not isinstance(jobs, list):
        raise ValueError("it must be an array of jobs, or an object with `jobs`")
    return title, [_job(job, f"job {index}") for index, job in enumerate(jobs)]


def _from_lines(text: str) -> Iterator[dict[str, Any]]:
    # Only a line feed ends a line: JSON strings may hold other characters that Python takes for line ends.
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield _job(json.loads(line), f"line {number}")
            except json.JSONDecodeError as error:
                raise ValueError(f"line {number}: {error}") from None


def _from_csv(text: str) -> Iterator[dict[str, Any]]:
    rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    twice = sorted(name for name, count in Counter(map(str.strip, rows.fieldnames or ())).items() if name and count > 1)
    if twice:
        raise ValueError(f"more than one column has the name {twice[0]!r}")
    for row in rows:
        if None in row or None in row.values():
            raise ValueError(f"line {rows.line_num} has another number of columns than the first line")
        given = {name.strip(): value for name, value in row.items() if value.strip()}
        job: dict[str, Any] = {name: value for name, value in given.items() if name in JOB_COLUMNS}
        for several in {"tags", "after", "labels"} & job.keys():
            job[several] = [one.strip() for one in job[several].split(";") if one.strip()]
        parameters = {
            name.removeprefix("input."): _cell(value) for name, value in given.items() if name not in JOB_COLUMNS
        }
        yield {**job, "input": parameters}


def _cell(value: str) -> Any:
    """A list or an object is written as JSON; numbers and booleans are converted by the processor's model."""
    if value.startswith(("[", "{")):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def _job(value: Any, place: str) -> dict[str, Any]:
    if not isinstance(value, dict) or not isinstance(value.get("input", {}), dict):
        raise ValueError(f"{place} is not a job, an object with `processor` and `input`")
    return value
