"""Times on the command line: ISO 8601, a time of day, a duration from now, `tonight`."""

from __future__ import annotations

import re
from datetime import UTC, datetime, time, timedelta

from vidqueue.cli.durations import seconds_of
from vidqueue.cli.exits import CommandError, Exit

TONIGHT = time(22)
_TIME_OF_DAY = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}))?", re.ASCII)


def moment_of(given: str, *, now: datetime | None = None) -> datetime:
    """Parse a time in one of the accepted notations; its zone is the local one unless it names another.

    Args:
        given: `2027-01-31T22:00`; `23:00`, the next one that is not past; `+2h`, from now; `tonight`, which is 22:00
            of today, or now if that is later.
        now: the present time, in the local zone.

    Raises:
        CommandError: it is in none of these notations.
    """
    now, text = now or datetime.now().astimezone(), given.strip()
    try:
        if text.lower() == "tonight":
            return max(now, datetime.combine(now.date(), TONIGHT).astimezone())
        if text.startswith("+"):
            return now + timedelta(seconds=seconds_of(text[1:]))
        if found := _TIME_OF_DAY.fullmatch(text):
            return _next(time(int(found[1]), int(found[2]), int(found[3] or 0)), now)
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError, CommandError):
        raise CommandError(
            f"{given!r} is not a time.", exit=Exit.USAGE, hint="Write 2027-01-31T22:00, 23:00, +2h or tonight."
        ) from None


def _next(clock: time, now: datetime) -> datetime:
    """Return the next such time of day. Clocks that are set back show it twice, clocks that are set forward never."""
    days = (now.date(), now.date() + timedelta(days=1))
    folds = [(fold, _local(datetime.combine(day, clock.replace(fold=fold)))) for day in days for fold in (0, 1)]
    # Where the clocks skip it, the first fold is the one that is not before its time.
    return min(moment for fold, moment in folds if moment >= now and (fold == 0 or moment.time() == clock))


def _local(moment: datetime) -> datetime:
    # Not `moment.astimezone()`: it takes the wrong offset for times that the clocks skip.
    return datetime.fromtimestamp(moment.timestamp(), UTC).astimezone()
