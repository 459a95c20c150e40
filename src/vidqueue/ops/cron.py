"""Cron expressions in a time zone: which ones are valid, and their next time, also over changes of the clocks.

A time that the clocks skip runs when they have been put forward, and one that they show twice runs the first time. An
expression for every hour (`*` or `*/n` as its hour) follows real time instead, and misses and repeats nothing.
"""

from __future__ import annotations

import re
from collections import deque
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from croniter import croniter

ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
# No zone changes its clocks by more.
LARGEST_CHANGE = timedelta(hours=3)
# Candidates that are looked at around a change of the clocks.
MOST_AROUND = 1000
_FIELD = re.compile(r"[0-9A-Za-z*/,#-]{1,60}")
_RANDOM = re.compile(r"(?<![A-Za-z])[hr](?![A-Za-z])", re.IGNORECASE)


@lru_cache(maxsize=256)
def zone(name: str) -> ZoneInfo:
    """Return a time zone.

    Raises:
        ValueError: there is none of this name.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"there is no time zone {name[:50]!r}; write one like Europe/Berlin or UTC") from None


def check(expression: str) -> str:
    """Return a cron expression of five fields, or the meaning of an alias like @daily.

    Raises:
        ValueError: it is not valid, or never comes.
    """
    given = " ".join(ALIASES.get(expression.strip().lower(), expression).split())
    fields = given.split(" ")
    # H and R are croniter's words for a time that differs from one look to the next.
    if len(fields) != 5 or not all(_FIELD.fullmatch(field) and not _RANDOM.search(field) for field in fields):
        raise ValueError("a cron expression has five fields (minute hour day month weekday), such as 0 3 * * *")
    try:
        croniter(given, datetime(2000, 1, 1, tzinfo=UTC), max_years_between_matches=8).get_next(datetime)
    except (ValueError, KeyError, IndexError) as error:  # croniter's own errors are ValueErrors
        raise ValueError(f"the cron expression is not valid: {error}") from None
    return given


def next_after(expression: str, timezone: str, moment: datetime) -> datetime:
    """Return the first time of a checked expression after a moment, in UTC."""
    tz, moment = zone(timezone), moment.astimezone(UTC)
    local = moment.astimezone(tz)
    found: datetime = croniter(expression, local.replace(tzinfo=None)).get_next(datetime)
    first = found.replace(tzinfo=tz).astimezone(UTC)
    if _steady(tz, moment) and _steady(tz, first) and first > moment:
        return first
    return _around_change(expression, tz, moment)


def among_last(expression: str, timezone: str, moment: datetime, count: int, *, since: datetime) -> datetime:
    """Return the earliest of the last `count` times up to a moment, or `since` if no more times are after that.

    It costs no more where there are many times in between.
    """
    tz = zone(timezone)
    # First in local time, which may be wrong by a change of the clocks; then exactly, from a little earlier.
    wall, times = (
        moment.astimezone(tz).replace(tzinfo=None),
        croniter(expression, moment.astimezone(tz).replace(tzinfo=None)),
    )
    for _ in range(count):
        wall = times.get_prev(datetime)
        if wall.replace(tzinfo=tz).astimezone(UTC) < since - LARGEST_CHANGE:
            return since
    begin = max(since, wall.replace(tzinfo=tz).astimezone(UTC) - LARGEST_CHANGE)
    last = deque([since] if begin == since else [], maxlen=count)
    while (begin := next_after(expression, timezone, begin)) <= moment:
        last.append(begin)
    return last[0] if last else since


def _steady(tz: ZoneInfo, moment: datetime) -> bool:
    before, after = moment - LARGEST_CHANGE, moment + LARGEST_CHANGE
    return before.astimezone(tz).utcoffset() == after.astimezone(tz).utcoffset()


def _around_change(expression: str, tz: ZoneInfo, moment: datetime) -> datetime:
    begin = (moment - LARGEST_CHANGE).astimezone(tz).replace(tzinfo=None)
    every_hour = expression.split(" ")[1].startswith("*")
    best: datetime | None = None
    times = croniter(expression, begin - timedelta(minutes=1))
    for _ in range(MOST_AROUND):
        wall: datetime = times.get_next(datetime)
        for instant in _instants(wall, tz, every_hour=every_hour):
            if instant > moment and (best is None or instant < best):
                best = instant
        if best is not None and wall > best.astimezone(tz).replace(tzinfo=None) + LARGEST_CHANGE:
            break
    assert best is not None
    return best


def _instants(wall: datetime, tz: ZoneInfo, *, every_hour: bool) -> list[datetime]:
    """Return when the clocks of a zone show a time: once as a rule, not at all or twice at a change."""
    first, second = (wall.replace(tzinfo=tz, fold=fold).astimezone(UTC) for fold in (0, 1))
    exists = first.astimezone(tz).replace(tzinfo=None) == wall
    if not exists:
        return [] if every_hour else [first]
    return [first, second] if every_hour and second != first else [first]
