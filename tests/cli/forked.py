"""Runs command lines as `subprocess.run` would, each in a fork of `forking.py`."""

from __future__ import annotations

import atexit
import functools
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from tests.cli.forking import LONGEST_REQUEST

TIMEOUT_S = 240


def run(words: Sequence[str], *, stdin: bytes, folder: Path, variables: Mapping[str, str]) -> tuple[int, bytes, bytes]:
    """The exit code, standard output and standard error of `python -m vidqueue` with these words."""
    request = _request(words, folder, variables)
    if len(request) > LONGEST_REQUEST or _of_interpreter(variables) != _of_interpreter(os.environ):
        done = subprocess.run(
            [sys.executable, "-m", "vidqueue", *words], input=stdin, capture_output=True, cwd=folder,
            env=dict(variables), timeout=TIMEOUT_S, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr
    return _in_fork(request, stdin)


def _request(words: Sequence[str], folder: Path, variables: Mapping[str, str]) -> bytes:
    return json.dumps({"words": words, "folder": str(folder), "variables": dict(variables)}).encode()


def on_terminal(
    words: Sequence[str], terminal: int, folder: Path, variables: Mapping[str, str]
) -> AbstractContextManager[Callable[[], int]]:
    """Start a command line on a terminal, whose end is closed here. The function waits for the exit code."""
    return _started(_request(words, folder, variables), (terminal,) * 3)


@contextmanager
def _started(request: bytes, streams: Sequence[int]) -> Iterator[Callable[[], int]]:
    ours, theirs = socket.socketpair()
    socket.send_fds(_server(), [request], [theirs.fileno(), *streams])
    theirs.close()
    for fd in set(streams):
        os.close(fd)
    with ours, ours.makefile() as answer:
        ours.settimeout(TIMEOUT_S)
        pid = int(answer.readline())

        def wait() -> int:
            try:
                return int(answer.readline())
            except TimeoutError:
                os.kill(pid, signal.SIGKILL)
                raise

        yield wait


def _of_interpreter(variables: Mapping[str, str]) -> dict[str, str]:
    """The variables that Python reads at its start, which a fork cannot have of its own."""
    return {
        name: value for name, value in variables.items() if name.startswith(("PYTHON", "LC_", "LANG", "MALLOC", "TZ"))
    }


def _in_fork(request: bytes, stdin: bytes) -> tuple[int, bytes, bytes]:
    (in_read, in_write), (out_read, out_write), (err_read, err_write) = os.pipe(), os.pipe(), os.pipe()
    with _started(request, (in_read, out_write, err_write)) as wait, ThreadPoolExecutor(3) as threads:
        threads.submit(_write, in_write, stdin)
        out, err = threads.submit(_read, out_read), threads.submit(_read, err_read)
        return wait(), out.result(), err.result()


def _read(fd: int) -> bytes:
    with os.fdopen(fd, "rb") as stream:
        return stream.read()


def _write(fd: int, data: bytes) -> None:
    with os.fdopen(fd, "wb") as stream:
        stream.write(data)


@functools.cache
def _server() -> socket.socket:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * LONGEST_REQUEST)
    with theirs:
        # Its streams are pipes like those of its forks, because Python looks at them when it starts.
        process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("forking.py")), str(theirs.fileno())],
            pass_fds=[theirs.fileno()], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd="/",
        )  # fmt: skip

    def end() -> None:
        ours.close()
        process.wait(10)

    atexit.register(end)
    return ours
