"""Time windows: rules such as `22:00-07:00`, `sat-sun` or `mon-fri 20:00-08:00`, read in a time zone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Literal

from vidqueue.ops import cron

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY = r"(?:mon|tue|wed|thu|fri|sat|sun)"
_RULE = re.compile(
    rf"(?P<days>{_DAY}(?:-{_DAY})?(?:,{_DAY}(?:-{_DAY})?){{0,6}})?"
    r"(?: ?(?P<start>[0-9]{2}:[0-9]{2})-(?P<end>[0-9]{2}:[0-9]{2}))?"
)
_DAY_MINUTES = 24 * 60
# A rule repeats after a week; a window may have begun the day before.
_LOOK_BACK, _LOOK_AHEAD = -1, 9


AtEnd = Literal["finish", "suspend"]


@dataclass(frozen=True, slots=True)
class Windows:
    """Time windows as rules in a time zone, and whether running work is finished or suspended at their end."""

    open: tuple[str, ...] = ()
    zone: str = "UTC"
    at_end: AtEnd = "finish"


@dataclass(frozen=True, slots=True)
class Window:
    """A time of the day on some days of the week. It belongs to the day on which it begins; minutes since midnight."""

    days: frozenset[int]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Opening:
    """Whether a window is open, and when that changes; None if it never does."""

    is_open: bool
    until: datetime | None


ALWAYS = Opening(True, None)


def parse(rule: str) -> Window:
    """Read a rule.

    Raises:
        ValueError: it is not valid.
    """
    found = _RULE.fullmatch(" ".join(rule.lower().split()))
    if found is None or not any(found.groups()):
        raise ValueError(f"{rule[:50]!r} is not a time window, such as 22:00-07:00, sat-sun or mon-fri 20:00-08:00")
    start, end = (_minutes(found[name], rule) for name in ("start", "end")) if found["start"] else (0, _DAY_MINUTES)
    if start == end:
        raise ValueError(f"{rule[:50]!r} begins and ends at the same time; 00:00-24:00 is the whole day")
    return Window(_days(found["days"]), start, end if end > start else end + _DAY_MINUTES)


def check(rules: Sequence[str]) -> list[str]:
    """Return valid rules as they were given.

    Raises:
        ValueError: one of them is not valid.
    """
    for rule in rules:
        parse(rule)
    return list(rules)


def look(rules: Sequence[str], zone: str, now: datetime) -> Opening:
    """Return whether one of the windows is open now. Without rules it always is."""
    if not rules:
        return ALWAYS
    spans = sorted(span for rule in rules for span in _spans(parse(rule), zone, now))
    open_until: datetime | None = None
    for begin, end in spans:
        if begin <= (open_until or now) < end:
            open_until = end
    if open_until is None:
        return Opening(False, min((begin for begin, _ in spans if begin > now), default=None))
    # A week without a gap has none.
    return Opening(True, open_until if open_until < now + timedelta(days=7) else None)


def _spans(window: Window, zone: str, now: datetime) -> list[tuple[datetime, datetime]]:
    today = now.astimezone(cron.zone(zone)).date()
    days = [today + timedelta(days=offset) for offset in range(_LOOK_BACK, _LOOK_AHEAD)]
    return [
        (_moment(day, window.start, zone), _moment(day, window.end, zone))
        for day in days
        if day.weekday() in window.days
    ]


def _moment(day: date, minutes: int, zone: str) -> datetime:
    """The moment at which the clocks of a zone show a time; one that they skip is as long after midnight as it says."""
    day += timedelta(days=minutes // _DAY_MINUTES)
    shown = time(minutes % _DAY_MINUTES // 60, minutes % 60)
    return datetime.combine(day, shown, tzinfo=cron.zone(zone)).astimezone(UTC)


def _minutes(text: str, rule: str) -> int:
    hours, minutes = map(int, text.split(":"))
    if minutes > 59 or hours * 60 + minutes > _DAY_MINUTES:
        raise ValueError(f"{rule[:50]!r} has a time that no clock shows")
    return hours * 60 + minutes


def _days(text: str | None) -> frozenset[int]:
    if text is None:
        return frozenset(range(7))
    days: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        begin, end = DAYS.index(first), DAYS.index(last or first)
        days |= {(begin + step) % 7 for step in range((end - begin) % 7 + 1)}
    return frozenset(days)
