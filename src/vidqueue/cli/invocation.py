"""Runs one command line: turns every error that a user can cause into a message and an exit code."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence

from cyclopts import CycloptsError

from vidqueue.cli.commands import app
from vidqueue.cli.error_messages import from_parser_error
from vidqueue.cli.exits import CommandError, Exit
from vidqueue.cli.terminal import console, tell_error, writing_stdout
from vidqueue.ops.data_folder import DataFolderError


def run(arguments: Sequence[str] | None) -> int:
    """Run one command line and return its exit code.

    With $VIDQUEUE_DEBUG an error that becomes a message is printed with its traceback first: an OSError that names a
    file may also be a bug of the program.
    """
    try:
        code = app(
            arguments,
            console=console(stderr=False, wraps=True),
            exit_on_error=False,
            print_error=False,
            result_action="return_value",
        )
        with writing_stdout():
            sys.stdout.flush()
    except BrokenPipeError:
        # The reader has seen enough, as in `vidqueue list | head`; Python must not complain at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.OK
    except (CycloptsError, CommandError, DataFolderError, OSError) as error:
        told = _told(error)
        if told is None:
            raise
        if os.environ.get("VIDQUEUE_DEBUG"):
            traceback.print_exception(error)
        tell_error(told)
        return told.exit
    return int(code or Exit.OK)


def _told(error: Exception) -> CommandError | None:
    """Return what to say about an error; None for a fault of the program."""
    match error:
        case CommandError():
            return error
        case CycloptsError():
            return from_parser_error(error)
        case DataFolderError():
            return CommandError.of(error, exit=Exit.CONFIG, hint="Choose another with --data-dir.")
        case OSError(filename=str() as name):
            return CommandError(f"{name} cannot be used: {error.strerror}.")
        case _:
            return None
