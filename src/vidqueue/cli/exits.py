"""Exit codes, and the one exception by which a command ends early. The codes are a promise to scripts."""

from __future__ import annotations

from collections.abc import Sequence
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
    Exit.OK: "done",
    Exit.ERROR: "it did not work; stderr says why",
    Exit.USAGE: "the command line is wrong",
    Exit.JOB_FAILED: "the job failed",
    Exit.NOT_FOUND: "there is no such job, output or processor",
    Exit.JOB_CANCELED: "the job was canceled",
    Exit.UNAVAILABLE: "no daemon answers, or the daemon's database cannot serve",
    Exit.BUSY: "busy now; the same command may work in a moment",
    Exit.NOT_PERMITTED: "the API key is missing or not allowed to do this",
    Exit.CONFIG: "the configuration has faults",
    Exit.INTERRUPTED: "Ctrl-C; jobs that were submitted go on",
}


class CommandError(Exception):
    """Ends the command: what happened, what to do, and the exit code.

    Attributes:
        code: the daemon's stable error code, where the daemon refused.
        details: further faults, one a line.
    """

    def __init__(
        self,
        message: str,
        *,
        exit: Exit = Exit.ERROR,  # noqa: A002 - it is the word for it
        hint: str = "",
        code: str = "",
        details: Sequence[str] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.exit = exit
        self.hint = hint
        self.code = code
        self.details = tuple(details)

    @classmethod
    def of(cls, error: Exception, *, exit: Exit = Exit.ERROR, hint: str = "") -> CommandError:  # noqa: A002
        """From an error of our own, whose further lines become details."""
        first, *more = str(error).splitlines() or ["The database is too slow."]
        return cls(first, exit=exit, hint=hint, details=more)
