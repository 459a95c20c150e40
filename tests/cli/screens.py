"""A terminal for the real program: a pty of a given width, and what a person sees on it in the end."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios

from tests.cli.conftest import CommandLine

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def on_a_terminal(vidqueue: CommandLine, *words: str, columns: int = 120, code: int = 0) -> str:
    """Everything that the program writes to a terminal of its own."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    variables = {name: value for name, value in vidqueue.variables.items() if name != "COLUMNS"}
    running = subprocess.Popen(
        vidqueue.command(*words), stdin=theirs, stdout=theirs, stderr=theirs, cwd=vidqueue.folder,
        env=variables | {"TERM": "xterm-256color"},
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    try:
        while chunk := os.read(ours, 65536):
            shown += chunk
    except OSError:
        pass  # how a terminal says that nobody writes to it any more
    os.close(ours)
    assert running.wait(timeout=60) == code, shown.decode()
    return shown.decode()


def last_frame(shown: str) -> str:
    """What is left on the terminal: the text after the last time that lines were drawn anew, without escapes."""
    return ESCAPE.sub("", shown.rpartition("\x1b[2K")[2]).replace("\r\n", "\n")
