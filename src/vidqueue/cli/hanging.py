"""Refuses files on a disk or network share that does not respond, where looking at them would wait for ever."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress

from vidqueue.cli.exits import CommandError

# For one file; the daemon waits as long for a file that it is to read.
PATIENCE_S = 10.0
# Looks at each path of a JSON list once, whether it is there or not, and says so with one byte.
LOOK = """
import json, os, sys
for path in json.load(sys.stdin):
    try:
        os.stat(path)
    except (OSError, ValueError):
        pass
    os.write(1, b".")
"""


def require_response(paths: Iterable[str]) -> None:
    """Look at each file once; whether it is there does not matter.

    Raises:
        CommandError: the file system of one does not respond.
    """
    asked = list(paths)
    if not asked:
        return
    # In a process of its own: one whose thread hangs in the kernel cannot be ended, not even by SIGKILL.
    command = [sys.executable, "-I", "-S", "-c", LOOK]
    child = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, process_group=0
    )
    try:
        _wait_for_each(child, asked)
    finally:
        child.kill()
        # It may hang: then it is left behind.
        with suppress(subprocess.TimeoutExpired):
            child.wait(0.2)


def _wait_for_each(child: subprocess.Popen[bytes], asked: list[str]) -> None:
    assert child.stdin is not None
    assert child.stdout is not None
    with child.stdin, child.stdout, suppress(BrokenPipeError):
        child.stdin.write(json.dumps(asked).encode())
        child.stdin.close()
        answers, looked = select.poll(), 0
        answers.register(child.stdout, select.POLLIN)
        while looked < len(asked):
            if not answers.poll(PATIENCE_S * 1000):
                raise CommandError(
                    f"{asked[looked]} did not respond within {PATIENCE_S:g} s.",
                    code="input_unreachable",
                    hint="Its disk or network share hangs; mount it again, or name a file elsewhere.",
                )
            if not (heard := os.read(child.stdout.fileno(), 65_536)):
                return
            looked += len(heard)
