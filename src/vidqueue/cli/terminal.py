"""What a person or a script gets to see: data on stdout, everything about the way there on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from vidqueue.cli.exits import CommandError
from vidqueue.cli.options import Look

WIDTH = 400

STATE_STYLES = {
    "queued": "yellow",
    "running": "cyan",
    "succeeded": "green",
    "failed": "red",
    "canceled": "magenta",
}


class Screen:
    """The two streams of a command, as its flags want them."""

    def __init__(self, look: Look) -> None:
        # None leaves the decision to $NO_COLOR and to whether the stream is a terminal.
        plain = True if look.no_color else None
        self.json = look.json
        # Wide, so that rows stay whole where they are piped or searched; a narrow terminal breaks the lines itself.
        self.out = Console(no_color=plain, highlight=False, soft_wrap=True, width=WIDTH)
        self.err = Console(no_color=plain, highlight=False, soft_wrap=True, stderr=True)

    @property
    def live(self) -> bool:
        """Whether bars can be drawn."""
        return self.err.is_terminal and not self.err.is_dumb_terminal

    def say(self, text: str) -> None:
        """A line about what goes on, for people."""
        self.err.print(text, markup=False)

    def write(self, text: str) -> None:
        """A line of the answer."""
        self.out.print(text, markup=False)

    def object(self, value: Any) -> None:
        """One JSON object, on one line so that many of them are NDJSON."""
        sys.stdout.write(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n")

    def table(self, headings: Sequence[str], lines: Iterable[Sequence[str | Text]]) -> None:
        """A table without frames."""
        table = Table(box=None, pad_edge=False, header_style="bold")
        for heading in headings:
            table.add_column(heading, no_wrap=True)
        for line in lines:
            table.add_row(*line)
        self.out.print(table)


def tell_error(error: CommandError) -> None:
    """Say on stderr what happened, each fault, what to do, and the code."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(Text("error: ", style="bold red").append(error.message, style="not bold default"))
    for detail in error.details:
        console.print(f"  {detail}", markup=False)
    if error.hint:
        console.print(f"  {error.hint}", markup=False)
    if error.code:
        console.print(f"  code: {error.code}", markup=False)


def state_text(state: str) -> Text:
    """A state in its colour."""
    return Text(state, style=STATE_STYLES.get(state, ""))


def size_text(count: float | None) -> str:
    """Bytes as people say them, in powers of 1024."""
    if count is None:
        return ""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def duration_text(seconds: float | None) -> str:
    """Seconds as people say them: `8.2 s`, `3:07`, `1:02:09`."""
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def age_text(moment: str | None) -> str:
    """How long ago an RFC 3339 time was."""
    if not moment:
        return ""
    seconds = (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()
    return f"{duration_text(max(0, seconds))} ago" if seconds >= 0 else f"in {duration_text(-seconds)}"
