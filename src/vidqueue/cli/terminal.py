"""What the commands print: data on stdout, everything else on stderr.

Titles, file names, log lines and messages come from other people. `sanitize.visible` takes the power over the terminal
out of them; whatever is printed for people passes through it. JSON is printed as it is.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from io import TextIOWrapper
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from vidqueue.cli.exits import CommandError
from vidqueue.cli.options import Look
from vidqueue.sanitize import visible

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
        self.out = _console(plain, stderr=False, width=WIDTH)
        self.err = _console(plain, stderr=True)

    @property
    def live(self) -> bool:
        """Whether bars can be drawn."""
        return self.err.is_terminal and not self.err.is_dumb_terminal

    def say(self, text: str) -> None:
        """A line about what goes on, for people."""
        self.err.print(Text(visible(text)))

    def write(self, *parts: str | Text) -> None:
        """A line of the answer; a part that is a Text keeps its style."""
        self.out.print(*map(_harmless, parts))

    def lines(self, text: str) -> None:
        """Lines of our own text, such as a file of the program; text of others goes to `write`."""
        for line in text.splitlines():
            self.write(line)

    def object(self, value: Any) -> None:
        """One JSON object, on one line so that many of them are NDJSON."""
        try:
            line = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
            line.encode(sys.stdout.encoding or "utf-8")
        except UnicodeEncodeError:
            # Halves of surrogate pairs, or a stream that is not UTF-8: JSON can say everything in ASCII.
            line = json.dumps(value, separators=(",", ":"))
        sys.stdout.write(line + "\n")

    def table(self, headings: Sequence[str], lines: Iterable[Sequence[str | Text]]) -> None:
        """A table without frames."""
        table = Table(box=None, pad_edge=False, header_style="bold")
        for heading in headings:
            table.add_column(heading, no_wrap=True)
        for line in lines:
            table.add_row(*map(_harmless, line))
        self.out.print(table)


def tell_error(error: CommandError) -> None:
    """Say on stderr what happened, each fault, what to do, and the code."""
    console = _console(None, stderr=True)
    console.print(Text("error: ", style="bold red").append(visible(error.message), style="not bold default"))
    code = f"code: {error.code}" if error.code else ""
    for line in filter(None, [*error.details, error.hint, code]):
        console.print(Text(f"  {visible(line)}"))


def warn(text: str) -> None:
    """Say on stderr what does not stop the command but should be known."""
    _console(None, stderr=True).print(Text("warning: ", style="bold yellow").append(visible(text), style="default"))


def _console(plain: bool | None, *, stderr: bool, width: int | None = None) -> Console:
    """A console that takes nothing in a text for markup, for the name of an emoji, or for something to highlight."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # what the terminal cannot show must not end the command
    return Console(
        no_color=plain, stderr=stderr, width=width, highlight=False, soft_wrap=True, markup=False, emoji=False
    )


def _harmless(part: str | Text) -> str | Text:
    return part if isinstance(part, Text) else Text(visible(part))


def state_text(state: str) -> Text:
    """A state in its colour."""
    return Text(visible(state), style=STATE_STYLES.get(state, ""))


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
