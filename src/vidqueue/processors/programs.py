"""Runs an external program for a processor: its lines go to the log, its progress is read, a cancel kills all of it."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import selectors
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from vidqueue.errors import CanceledError, VidqueueError
from vidqueue.ops import active_time
from vidqueue.processors.lines import LineSplitter, PrintedLine, bar_of
from vidqueue.processors.words import Words, texts_of
from vidqueue.progress import Progress

TICK_S = 0.1
# Between SIGTERM and SIGKILL. A lane kills a canceled executor a second after it was told.
GRACE_S = 0.5
TAIL = 30
_HINTS = {
    errno.EACCES: "Make the file executable (chmod +x), or run it by its interpreter, such as [sys.executable, path].",
    errno.ENOEXEC: "Begin the file with the line of its interpreter, such as #!/usr/bin/env python3.",
}

# What reads progress from a line: a pattern with one group (per cent) or two groups (a part and a whole), or a function
# that returns a `Progress`, a share from 0 to 1, or None.
ProgressParser = str | re.Pattern[str] | Callable[[str], Progress | float | None]


@dataclass(frozen=True, slots=True)
class Ran:
    """How a program ended: its exit code, negative for a signal, and its last lines."""

    returncode: int
    tail: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Listener:
    """Where the lines and the progress of a program go, and what ends it."""

    on_line: Callable[[str], None]
    on_progress: Callable[[Progress], None]
    is_canceled: Callable[[], bool]


def run(
    command: Words,
    listener: Listener,
    *,
    progress: ProgressParser | None = None,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    timeout_s: float | None = None,
    interrupt: signal.Signals = signal.SIGTERM,
    grace_s: float = GRACE_S,
) -> Ran:
    """Run a program to its end, in a process group of its own; `interrupt` ends it, and SIGKILL `grace_s` later.

    Raises:
        VidqueueError: `program_missing` if it cannot be started, `timed_out`.
        CanceledError: the job was canceled, and the program is dead.
    """
    words = texts_of(command)
    try:
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=cwd,
            env={**os.environ, **(environment or {})}, start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        # Its file name is that of the program, or of the working folder.
        said = f"{error.filename or words[0]} cannot be started: {error.strerror}."
        if cwd is not None and str(error.filename) == str(cwd):
            said = f"The working folder {cwd} of {words[0]} cannot be entered: {error.strerror}."
        raise VidqueueError("program_missing", said, hint=_HINTS.get(error.errno or 0)) from None
    read, tail = progress_reader(progress), deque[str](maxlen=TAIL)
    deadline = active_time.now() + timeout_s if timeout_s else None
    try:
        for line in _lines(process, listener, deadline):
            if (seen := read(line.text)) is not None:
                listener.on_progress(seen)
            elif line.text.strip() and not line.redrawn:
                tail.append(line.text)
                listener.on_line(line.text)
    finally:
        _end(process, interrupt, grace_s)
    return Ran(process.returncode, tuple(tail))


def failure_of(command: Words, ran: Ran) -> VidqueueError:
    """The error of a program that has failed: its exit code or the signal that ended it, and its last line."""
    last = f": {ran.tail[-1]}" if ran.tail else ""
    how = f"ended with {ran.returncode}" if ran.returncode >= 0 else f"was ended by {_signal_name(-ran.returncode)}"
    killed = ran.returncode == -signal.SIGKILL
    hint = "Another process has killed it; the kernel does that when memory runs out." if killed else None
    return VidqueueError("program_failed", f"{Path(texts_of(command)[0]).name} {how}{last}.", hint=hint)


def _signal_name(number: int) -> str:
    return signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"


def progress_reader(parser: ProgressParser | None) -> Callable[[str], Progress | None]:
    """The function that reads progress from a line; without a parser it knows bars such as those of tqdm."""
    if parser is None:
        return bar_of
    if callable(parser):
        return lambda line: _as_progress(parser(line))
    pattern = re.compile(parser)
    return lambda line: _matched(pattern.search(line))


def _as_progress(seen: Progress | float | None) -> Progress | None:
    return Progress(float(seen)) if isinstance(seen, int | float) else seen


def _matched(found: re.Match[str] | None) -> Progress | None:
    try:
        numbers = [float(group) for group in found.groups() if group is not None] if found else []
    except ValueError:
        return None
    if not numbers:
        return None
    whole = numbers[1] if len(numbers) > 1 else 100.0
    return Progress(min(max(numbers[0] / whole, 0.0), 1.0)) if whole > 0 else None


def _lines(process: subprocess.Popen[bytes], listener: Listener, deadline: float | None) -> Iterator[PrintedLine]:
    """Yield lines until the program has ended; a child that it leaves with its output open is not waited for."""
    assert process.stdout is not None
    splitter = LineSplitter()
    descriptor = process.stdout.fileno()
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        while True:
            if listener.is_canceled():
                raise CanceledError
            if deadline is not None and active_time.now() > deadline:
                raise VidqueueError("timed_out", "The program ran longer than it may.")
            ended = _has_ended(process)
            if selector.select(0 if ended else TICK_S):
                block = os.read(descriptor, 65536)
                if not block and ended:
                    break
                if not block:  # it has closed its output and works on
                    selector.unregister(descriptor)
                yield from splitter.feed(block)
            elif ended:
                break
    yield from splitter.rest()


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """True if the program has ended. It is not reaped, so that its number still names its group and no other."""
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _end(process: subprocess.Popen[bytes], interrupt: signal.Signals, grace_s: float) -> None:
    """End the program's whole group: politely if the program runs, and by SIGKILL whatever is left; reap it."""
    if not _has_ended(process):
        _signal(process, interrupt)
        deadline = active_time.now() + grace_s
        while not _has_ended(process) and active_time.now() < deadline:
            time.sleep(0.01)
    _signal(process, signal.SIGKILL)
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
