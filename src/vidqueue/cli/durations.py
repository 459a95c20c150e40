"""Durations on the command line."""

from __future__ import annotations

import re

from vidqueue.cli.exits import CommandError, Exit

_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)\s*(s|sec|m|min|h|d)?", re.ASCII)
_SECONDS = {"": 1, "s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}


def seconds_of(duration: str, *, may_be_zero: bool = False) -> float:
    """Return the seconds of a duration such as `90s`, `30m`, `2h` or `1d`.

    Raises:
        CommandError: it is not a duration, or it is zero where that is not allowed.
    """
    found = _DURATION.fullmatch(duration.strip().lower())
    if found is None or (float(found[1]) == 0 and not may_be_zero):
        raise CommandError(f"{duration!r} is not a duration.", exit=Exit.USAGE, hint="Write 90s, 30m, 2h or 1d.")
    return float(found[1]) * _SECONDS[found[2] or ""]
