"""A terminal for the real program: a pty of a given width, and what a person sees on it in the end."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial

from tests.cli import forked
from tests.cli.conftest import CommandLine

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def on_a_terminal(vidqueue: CommandLine, *words: str, columns: int = 120, code: int = 0) -> str:
    """Everything that the program writes to a terminal of its own."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    variables = {name: value for name, value in vidqueue.variables.items() if name != "COLUMNS"}
    shown = b""
    with forked.on_terminal(words, theirs, vidqueue.folder, variables | {"TERM": "xterm-256color"}) as ended:
        with suppress(OSError):  # how a terminal says that nobody writes to it any more
            while chunk := os.read(ours, 65536):
                shown += chunk
        os.close(ours)
        assert ended() == code, shown.decode()
    return shown.decode()


@contextmanager
def typing_on_a_terminal(
    vidqueue: CommandLine, *words: str, columns: int
) -> Iterator[tuple[Callable[[], bytes], Callable[[bytes], object]]]:
    """The program on a terminal that it controls: what it has shown so far, and a keyboard. It must end with 0."""
    shown = bytearray()
    pid, ours = pty.fork()
    if pid == 0:
        os.chdir(vidqueue.folder)
        os.execvpe(sys.executable, vidqueue.command(*words), vidqueue.variables | {"TERM": "xterm-256color"})
    fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))

    def read() -> None:
        with suppress(OSError):
            while chunk := os.read(ours, 65536):
                shown.extend(chunk)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield lambda: bytes(shown), partial(os.write, ours)
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        raise
    finally:
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        reader.join(60)
        os.close(ours)
    assert code == 0, shown.decode()


def last_frame(shown: str) -> str:
    """What is left on the terminal: the text after the last time that lines were drawn anew, without escapes."""
    return ESCAPE.sub("", shown.rpartition("\x1b[2K")[2]).replace("\r\n", "\n")
