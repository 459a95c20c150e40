"""What the commands print: data on stdout, everything else on stderr.

Titles, file names, log lines and messages come from other people. `sanitize.visible` takes the power over the terminal
out of them; whatever is printed for people passes through it. In JSON its escapes do.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from io import TextIOWrapper
from typing import Any

from rich.console import Console
from rich.text import Text

from vidqueue.cli.exits import CommandError
from vidqueue.cli.layout import lines_of, widths_of
from vidqueue.cli.options import Look
from vidqueue.sanitize import visible, visible_json

NO_COLOR = "NO_COLOR"

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
        if look.no_color:
            # Errors and the help use it too; they do not know the flags of the command.
            os.environ[NO_COLOR] = "1"
        self.json = look.json
        self.out = console(stderr=False)
        self.err = console(stderr=True)

    @property
    def live(self) -> bool:
        """Whether bars can be drawn; they need escape sequences that move the cursor."""
        return self.err.is_terminal and not self.err.is_dumb_terminal and not is_plain()

    @property
    def width(self) -> int | None:
        """The width of the terminal of standard output; None for a pipe, in which rows are not wrapped."""
        return self.out.width if self.out.is_terminal else None

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
            line = visible_json(json.dumps(value, ensure_ascii=False, separators=(",", ":")))
            line.encode(sys.stdout.encoding or "utf-8")
        except UnicodeEncodeError:
            # Halves of surrogate pairs, or a stream that is not UTF-8: JSON can say everything in ASCII.
            line = json.dumps(value, separators=(",", ":"))
        with writing_stdout():
            sys.stdout.write(line + "\n")

    def table(self, headings: Sequence[str], lines: Iterable[Sequence[str | Text]], *, empty: str = "") -> None:
        """Print a table without frames, or the sentence `empty` where there is no row.

        Rows that are wider than the terminal continue on further lines.
        """
        heading = [Text(visible(name), style="bold") for name in headings]
        rows = [heading, *([_harmless(cell) for cell in line] for line in lines)]
        if len(rows) == 1 and empty:
            self.say(empty)
            return
        widths = widths_of(rows, self.width)
        for row in rows:
            for part in lines_of(self.out, row, widths, self.width):
                self.out.print(part)


@contextmanager
def told_when_interrupted(screen: Screen, text: str) -> Iterator[None]:
    """Say what Ctrl-C in the block means for the jobs, and end the command."""
    try:
        yield
    except KeyboardInterrupt:
        screen.say(text)
        raise


@contextmanager
def interrupted_later() -> Iterator[Callable[[], None]]:
    """Yield a function after whose call Ctrl-C acts at the end of the block; a second Ctrl-C acts at once."""
    came = False

    def note(number: int, frame: object) -> None:
        nonlocal came
        if came:
            raise KeyboardInterrupt
        came = True

    def begin() -> None:
        signal.signal(signal.SIGINT, note)

    before = signal.getsignal(signal.SIGINT)
    try:
        yield begin
    finally:
        signal.signal(signal.SIGINT, before)
    if came:
        raise KeyboardInterrupt


@contextmanager
def writing_stdout() -> Iterator[None]:
    """Write to standard output in the block.

    Raises:
        BrokenPipeError: the reader has gone.
        CommandError: it cannot be written, such as to a full disk.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        # What is left in the buffer must not fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise CommandError(f"Standard output cannot be written: {error.strerror}.") from None


class _Output(Console):
    """A console on standard output."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Print, and raise CommandError where that is not possible."""
        with writing_stdout():
            super().print(*objects, **options)


def is_plain() -> bool:
    """True if nothing may be written but text: no colors, and no other escape sequences (https://no-color.org)."""
    return bool(os.environ.get(NO_COLOR))


def tell_error(error: CommandError) -> None:
    """Say on stderr what happened, each fault, what to do, and the code."""
    err = console(stderr=True)
    err.print(Text("error: ", style="bold red").append(visible(error.message), style="not bold default"))
    code = f"code: {error.code}" if error.code else ""
    for line in filter(None, [*error.details, error.hint, code]):
        err.print(Text(f"  {visible(line)}"))


def warn(text: str) -> None:
    """Say on stderr what does not stop the command but should be known."""
    console(stderr=True).print(Text("warning: ", style="bold yellow").append(visible(text), style="default"))


def console(*, stderr: bool, wraps: bool = False) -> Console:
    """A console that takes nothing in a text for markup, for the name of an emoji, or for something to highlight.

    One that does not wrap leaves long lines to the terminal, so that a command that is shown can be copied.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # what the terminal cannot show must not end the command
    return (Console if stderr else _Output)(
        # rich's own no_color leaves the escapes for bold and dim.
        color_system=None if is_plain() else "auto",
        stderr=stderr,
        highlight=False,
        soft_wrap=not wraps,
        markup=False,
        emoji=False,
    )


def _harmless(part: str | Text) -> Text:
    return part if isinstance(part, Text) else Text(visible(part))


def state_text(state: str) -> Text:
    """A state in its colour."""
    return Text(visible(state), style=STATE_STYLES.get(state, ""))


def count_text(count: int, thing: str) -> str:
    """A number of things, such as `1 job` or `3 jobs`."""
    return f"{count} {thing}{'' if count == 1 else 's'}"


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
