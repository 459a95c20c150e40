"""Shows the progress of jobs: bars on a terminal, otherwise lines."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from vidqueue.cli.client import FINAL, Job
from vidqueue.cli.layout import lines_of, widths_of
from vidqueue.cli.terminal import Screen, age_text, count_text, duration_text, state_text
from vidqueue.sanitize import visible
from vidqueue.wait_reasons import reason

LINE_EVERY_S = 10.0
# The widths of bars for terminals of at least a width.
BAR_WIDTHS = {100: 24, 0: 12}
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
        bars = Bars(screen.err)
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
        words = [f"{state_of(job).plain:<9}", name_of(job), situation(job), job["id"]]
        self._screen.say("  ".join(word for word in words if word))


class Bars:
    """Draws a progress bar for each job: running jobs first, then waiting jobs, then the latest finished ones."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._jobs: dict[str, Job] = {}

    def put(self, job: Job) -> None:
        """Keep the job for the next frame."""
        self._jobs[job["id"]] = job

    def render(self) -> Group:
        """The frame as it is now; rich asks for it from its own thread."""
        width, height = self._console.width, max(3, self._console.height - 3)
        jobs = sorted(self._jobs.copy().values(), key=_place)
        rows = [_row(job, width) for job in jobs[:height]]
        widths = widths_of(rows, width)
        frame: list[Text] = []
        shown = 0
        for row in rows:
            lines = list(lines_of(self._console, row, widths, width))
            if frame and len(frame) + len(lines) > height:
                break
            frame += lines
            shown += 1
        if hidden := jobs[shown:]:
            ended = sum(job["state"] in FINAL for job in hidden)
            frame.append(Text(f"and {len(hidden)} more, of which {ended} ended"))
        return Group(*frame)


def situation(job: Job) -> str:
    """The situation of a job in a few words, such as its progress or its error."""
    match job["state"]:
        case "queued":
            place = f"place {job['position']}{'+' * bool(job.get('position_is_bound'))}" if job.get("position") else ""
            words = [place, _reason(job), job.get("message") or ""]
        case "running":
            pace = _suspended(job) if job.get("suspended_at") else _pace(job)
            words = [f"{job.get('progress') or 0:.0%}", job.get("stage") or "", *pace, job.get("lane") or ""]
        case "failed":
            error = job.get("error") or {}
            words = [error.get("code", ""), error.get("message", "")]
        case _:
            words = [ran_text(job), "cached" if job.get("cached") else ""]
    return "  ".join(word for word in words if word)


def _suspended(job: Job) -> list[str]:
    # The end of a suspended job cannot be estimated.
    return ["the window of its lane has ended"] if job.get("suspended_by") == "window" else []


def _reason(job: Job) -> str:
    code = job.get("wait_reason")
    if not code:
        return ""
    if code == "scheduled" and job.get("run_at"):
        return f"begins {age_text(job['run_at'])}"
    opens = f", again {age_text(job['opens_at'])}" if job.get("opens_at") else ""
    return f"{reason(code)}{opens}"


def state_of(job: Job) -> Text:
    """The state of a job in its colour, with the number of warnings of its outputs."""
    warnings = warnings_of(job)
    said = f" with {count_text(warnings, 'warning')}" if warnings and job["state"] == "succeeded" else ""
    if job.get("suspended_at"):
        return state_text("suspended")
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
    """Return the display name of a job: title and source, else its processor and the end of its id."""
    title, source = job.get("title") or "", job.get("source") or ""
    # The name of an upload is kept without control characters, such as the end of a line.
    if title and source and source not in "".join(filter(str.isprintable, title)):
        return f"{title} ({source})"
    return str(title or source or f"{job['processor']} …{job['id'][-6:]}")


def _pace(job: Job) -> list[str]:
    fps, eta = job.get("fps"), job.get("eta_s")
    return [f"{fps:.0f} fps" if fps else "", f"{duration_text(eta)} left" if eta else ""]


def _row(job: Job, width: int) -> tuple[Text, ...]:
    bar = _bar(job, next(bar for least, bar in BAR_WIDTHS.items() if width >= least))
    return state_of(job), Text(visible(name_of(job))), Text(visible(situation(job))), bar


def _bar(job: Job, width: int) -> Text:
    fraction = 1.0 if job["state"] == "succeeded" else min(1.0, max(0.0, job.get("progress") or 0.0))
    done = round(fraction * width)
    return Text.assemble(("━" * done, "cyan"), ("─" * (width - done), "bright_black"))


def _place(job: Job) -> tuple[int, str]:
    return _ORDER.get(job["state"], 2), job["id"]
