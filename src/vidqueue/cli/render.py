"""Shows the progress of jobs: bars on a terminal, otherwise lines."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Protocol

from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from vidqueue.cli.client import FINAL, Job
from vidqueue.cli.terminal import Screen, duration_text, state_text
from vidqueue.sanitize import visible

LINE_EVERY_S = 10.0
_ORDER = {"running": 0, "queued": 1}


class Board(Protocol):
    """Displays the latest state of jobs."""

    def put(self, job: Job) -> None:
        """Display the current state of a job."""


@contextmanager
def board(screen: Screen) -> Iterator[Board]:
    """The kind of display that fits the screen, open during the block."""
    if screen.json:
        yield Feed(screen)
    elif screen.live:
        bars = Bars(height=screen.err.height)
        with Live(get_renderable=bars.render, console=screen.err, refresh_per_second=8, transient=False):
            yield bars
    else:
        yield Lines(screen)


class Feed:
    """Writes the job as one line of JSON at each change."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen

    def put(self, job: Job) -> None:
        """Write the job."""
        self._screen.object(job)
        self._screen.out.file.flush()


class Lines:
    """Writes a line at each change of state, and every ten seconds for a running job."""

    def __init__(self, screen: Screen, *, every_s: float = LINE_EVERY_S) -> None:
        self._screen = screen
        self._every_s = every_s
        self._told: dict[str, tuple[str, float]] = {}

    def put(self, job: Job) -> None:
        """Write a line if it is due."""
        state, told_at = self._told.get(job["id"], ("", 0.0))
        now = time.monotonic()
        if job["state"] == state and (state in FINAL or now - told_at < self._every_s):
            return
        self._told[job["id"]] = (job["state"], now)
        self._screen.say(f"{job['id']}  {name_of(job):<20}  {state_of(job).plain:<9}  {situation(job)}".rstrip())


class Bars:
    """Draws a row for each job: running jobs first, then waiting jobs, then the latest that ended."""

    def __init__(self, *, height: int) -> None:
        self._rows = max(3, height - 3)
        self._jobs: dict[str, Job] = {}

    def put(self, job: Job) -> None:
        """Keep the job for the next frame."""
        self._jobs[job["id"]] = job

    def render(self) -> Table:
        """The frame as it is now; rich asks for it from its own thread."""
        jobs = sorted(self._jobs.copy().values(), key=_place)
        table = Table.grid(padding=(0, 2))
        for _ in range(3):
            table.add_column(no_wrap=True)
        table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        for job in jobs[: self._rows]:
            table.add_row(*_row(job))
        if hidden := jobs[self._rows :]:
            ended = sum(job["state"] in FINAL for job in hidden)
            table.add_row(f"and {len(hidden) - ended} more to do, {ended} ended", "", "")
        return table


def situation(job: Job) -> str:
    """The situation of a job in a few words, such as its progress or its error."""
    match job["state"]:
        case "queued":
            place = f"place {job['position']}{'+' * bool(job.get('position_is_bound'))}" if job.get("position") else ""
            words = [place, f"({job['wait_reason']})" if job.get("wait_reason") else "", job.get("message") or ""]
        case "running":
            words = [f"{job.get('progress') or 0:.0%}", job.get("stage") or "", *_pace(job), job.get("lane") or ""]
        case "failed":
            error = job.get("error") or {}
            words = [error.get("code", ""), error.get("message", "")]
        case _:
            words = [ran_text(job)]
    return "  ".join(word for word in words if word)


def state_of(job: Job) -> Text:
    """The state of a job in its colour, with the number of warnings of its outputs."""
    warnings = warnings_of(job)
    said = f" with {warnings} warning{'s' * (warnings > 1)}" if warnings and job["state"] == "succeeded" else ""
    return state_text(job["state"]).append(said, style="yellow")


def warnings_of(job: Job) -> int:
    """With how many warnings a job succeeded."""
    return sum(len((output.get("facts") or {}).get("warnings") or ()) for output in job.get("outputs") or ())


def ran_text(job: Job) -> str:
    """How long a finished job took on its lane."""
    if not (job.get("started_at") and job.get("finished_at")):
        return ""
    ran = datetime.fromisoformat(job["finished_at"]) - datetime.fromisoformat(job["started_at"])
    return f"in {duration_text(ran.total_seconds())}"


def name_of(job: Job) -> str:
    """What a person calls a job: its title, else its processor and the end of its id, where ids differ most."""
    return str(job.get("title") or f"{job['processor']} …{job['id'][-6:]}")


def _pace(job: Job) -> list[str]:
    fps, eta = job.get("fps"), job.get("eta_s")
    return [f"{fps:.0f} fps" if fps else "", f"{duration_text(eta)} left" if eta else ""]


def _row(job: Job) -> tuple[Text | ProgressBar, ...]:
    fraction = 1.0 if job["state"] == "succeeded" else job.get("progress") or 0.0
    name = Text(visible(name_of(job)), overflow="ellipsis")
    name.truncate(40)
    bar = ProgressBar(total=1.0, completed=fraction, width=24)
    return name, state_of(job), bar, Text(visible(situation(job)))


def _place(job: Job) -> tuple[int, str]:
    return _ORDER.get(job["state"], 2), job["id"]
