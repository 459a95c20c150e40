"""The command line. `main` is the entry point; the other modules contain the commands.

Modules import only what a command needs, so that commands start quickly.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from cyclopts import CycloptsError

from vidqueue.cli.commands import app
from vidqueue.cli.error_messages import from_parser_error
from vidqueue.cli.exits import CommandError, Exit
from vidqueue.cli.terminal import console, tell_error


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code."""
    try:
        code = app(
            arguments,
            console=console(stderr=False, wraps=True),
            exit_on_error=False,
            print_error=False,
            result_action="return_value",
        )
        sys.stdout.flush()
    except CycloptsError as error:
        tell_error(from_parser_error(error))
        return Exit.USAGE
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
