"""Exit codes, and the exception that ends a command with one. Scripts rely on the codes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum


class Exit(IntEnum):
    """What a command's exit code means; 69 and above follow sysexits.h."""

    OK = 0
    ERROR = 1
    USAGE = 2
    JOB_FAILED = 3
    NOT_FOUND = 4
    JOB_CANCELED = 5
    UNAVAILABLE = 69
    BUSY = 75
    NOT_PERMITTED = 77
    CONFIG = 78
    INTERRUPTED = 130


MEANINGS: dict[Exit, str] = {
    Exit.OK: "success",
    Exit.ERROR: "error; stderr says why",
    Exit.USAGE: "invalid command line",
    Exit.JOB_FAILED: "the job failed",
    Exit.NOT_FOUND: "there is no such job, output or processor",
    Exit.JOB_CANCELED: "the job was canceled",
    Exit.UNAVAILABLE: "no daemon answers, or its database is not usable",
    Exit.BUSY: "busy; try the same command again later",
    Exit.NOT_PERMITTED: "the API key is missing or not allowed to do this",
    Exit.CONFIG: "the configuration is invalid",
    Exit.INTERRUPTED: "interrupted with Ctrl-C; submitted jobs continue",
}


class CommandError(Exception):
    """Ends the command with a message, a hint and an exit code.

    Attributes:
        code: the daemon's stable error code, where the daemon refused.
        details: further lines of the message, such as one for each error.
        faults: the errors of fields of a request by JSON pointer, if the daemon named them.
    """

    def __init__(
        self,
        message: str,
        *,
        exit: Exit = Exit.ERROR,  # noqa: A002 - it is the word for it
        hint: str = "",
        code: str = "",
        details: Sequence[str] = (),
        faults: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.exit = exit
        self.hint = hint
        self.code = code
        self.details = tuple(details)
        self.faults = faults or {}

    @classmethod
    def of(cls, error: Exception, *, exit: Exit = Exit.ERROR, hint: str = "") -> CommandError:  # noqa: A002
        """From an error of our own, whose further lines become details."""
        first, *more = str(error).splitlines() or ["The database is too slow."]
        return cls(first, exit=exit, hint=hint, details=more)
