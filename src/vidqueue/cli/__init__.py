"""The command line. `main` is the entry point; the other modules contain the commands.

Modules import only what a command needs, so that commands start quickly.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from cyclopts import CycloptsError

from vidqueue.cli.commands import app
from vidqueue.cli.exits import CommandError, Exit
from vidqueue.cli.terminal import tell_error


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code."""
    try:
        code = app(arguments, exit_on_error=False, result_action="return_value")
        sys.stdout.flush()
    except CycloptsError:
        return Exit.USAGE  # the parser has said what is wrong
    except CommandError as error:
        tell_error(error)
        return error.exit
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except BrokenPipeError:
        # The reader has seen enough, as in `vidqueue list | head`; Python must not complain at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.OK
    return int(code or Exit.OK)
