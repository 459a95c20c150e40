"""Forks itself for each command line of the tests; it is started as a script, with a socket.

A new interpreter spends a fifth of a second of CPU on the packages that every command imports. This process has
imported them, and nothing of vidqueue: a fork of it runs `python -m vidqueue` as a new interpreter would.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import runpy
import selectors
import socket
import sys

PACKAGES = ("cyclopts", "httpx2", "rich.console")
LONGEST_REQUEST = 100_000


def next_request(control: socket.socket) -> list[str] | None:
    """The words of a command line, in the process that is to run it; None when the tests have ended."""
    with selectors.DefaultSelector() as selector:
        selector.register(control, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is not control:
                    tell_end(key.fd, *key.data)
                    selector.unregister(key.fd)
                    os.close(key.fd)
                    continue
                data, fds, _, _ = socket.recv_fds(control, LONGEST_REQUEST, 4)
                if not data:
                    return None
                answer = socket.socket(fileno=fds[0])
                pid = os.fork()
                if pid == 0:
                    answer.close()
                    return become(json.loads(data), fds[1:])
                for fd in fds[1:]:
                    os.close(fd)
                selector.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, answer))
                say(answer, pid)


def tell_end(_: int, pid: int, answer: socket.socket) -> None:
    """Send the exit code, or the signal as a negative number."""
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with answer:
        say(answer, code)


def say(answer: socket.socket, number: int) -> None:
    """Send a number, unless the test has waited too long and has closed its end; the other tests go on."""
    with contextlib.suppress(BrokenPipeError):
        answer.sendall(b"%d\n" % number)


def become(request: dict[str, list[str] | dict[str, str] | str], streams: list[int]) -> list[str]:
    """Take the streams, the folder and the variables of the command line."""
    for number, fd in enumerate(streams):
        os.dup2(fd, number)
        os.close(fd)
    folder, variables, words = request["folder"], request["variables"], request["words"]
    assert isinstance(folder, str)
    assert isinstance(variables, dict)
    assert isinstance(words, list)
    # Python has decided by the streams of its start that it does not write to a terminal.
    sys.stdout.reconfigure(line_buffering=os.isatty(1))  # type: ignore[union-attr]
    os.chdir(folder)
    sys.path[0] = folder
    os.environ.clear()
    os.environ.update(variables)
    return words


def main() -> None:
    """Run command lines until the tests end."""
    for name in PACKAGES:
        importlib.import_module(name)
    gc.freeze()
    with socket.socket(fileno=int(sys.argv[1])) as control:
        words = next_request(control)
    if words is not None:
        sys.argv[1:] = words
        runpy.run_module("vidqueue", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
