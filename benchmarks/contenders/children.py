"""Starts a contender's own process, which waits for a word before it works, and the servers of other queues."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
# The peers have an environment of their own; `make bench` makes it.
PEERS = ROOT / ".venv-bench" / "bin" / "python"


class SkippedError(Exception):
    """A contender cannot be measured here; the message says why."""


@contextmanager
def child(
    module: str, *arguments: str, python: str = sys.executable, **environment: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A module as a process of its own, stopped at the end of the block; it has said `ready` when the block begins."""
    command = [python, "-m", module, *arguments]
    variables = os.environ | environment
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=variables) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line == b"ready\n", f"{' '.join(command)} said {line!r}"
            yield process
        finally:
            process.terminate()


def let_go(process: subprocess.Popen[bytes]) -> None:
    """Tell a child that waits in `ready()` to begin."""
    assert process.stdin is not None
    process.stdin.write(b"go\n")
    process.stdin.flush()


def ask(process: subprocess.Popen[bytes], *words: object) -> str:
    """Send a line to a child and return the line it answers."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(" ".join(map(str, words)).encode() + b"\n")
    process.stdin.flush()
    answer = process.stdout.readline().decode().strip()
    assert answer, f"{process.args!r} ended when asked to {words[0]}"
    return answer


def ready() -> None:
    """Said by the child: everything is imported and connected. Returns once the parent lets it go."""
    print("ready", flush=True)
    sys.stdin.readline()


@contextmanager
def server(command: list[str], log: Path, answers: Callable[[], bool], **environment: str) -> Iterator[int]:
    """A server that runs during the block, with nothing of it left behind; its process id."""
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=os.environ | environment)
    try:
        deadline = time.monotonic() + 90
        while not answers():
            if process.poll() is not None or time.monotonic() > deadline:
                raise SkippedError(f"{command[0]} does not start: {log.read_text()[-300:]}")
            time.sleep(0.2)
        yield process.pid
    finally:
        process.terminate()
        process.wait(timeout=60)
