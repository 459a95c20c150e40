"""Time windows as a week of hours: a grid that people fill in, and rules such as `mon-fri 22:00-07:00` made of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vidqueue.ops import windows
from vidqueue.ops.windows import DAYS

HOURS = 24
Cell = tuple[int, int]
EVERY: frozenset[Cell] = frozenset((day, hour) for day in range(len(DAYS)) for hour in range(HOURS))


@dataclass(frozen=True, slots=True)
class Span:
    """Part of a day in which a window is open, in minutes since midnight."""

    day: int
    start: int
    end: int


def spans(rules: Sequence[str]) -> list[Span]:
    """Return the parts of each day in which a window is open, for a drawing; the whole week without rules."""
    if not rules:
        return [Span(day, 0, HOURS * 60) for day in range(len(DAYS))]
    found = []
    for window in map(windows.parse, rules):
        for day in window.days:
            found.append(Span(day, window.start, min(window.end, HOURS * 60)))
            if window.end > HOURS * 60:
                found.append(Span((day + 1) % len(DAYS), 0, window.end - HOURS * 60))
    return sorted(found, key=lambda span: (span.day, span.start))


def cells(rules: Sequence[str]) -> frozenset[Cell]:
    """Return the hours in which a window is open from beginning to end."""
    minutes = _minutes(rules)
    return frozenset(
        (day, hour) for day, hour in EVERY if all((day, hour * 60 + minute) in minutes for minute in range(60))
    )


def is_whole_hours(rules: Sequence[str]) -> bool:
    """True if no window begins or ends within an hour."""
    return len(_minutes(rules)) == 60 * len(cells(rules))


def _minutes(rules: Sequence[str]) -> set[tuple[int, int]]:
    return {(span.day, minute) for span in spans(rules) for minute in range(span.start, span.end)}


def rules(chosen: Iterable[Cell]) -> list[str]:
    """Return the rules that open these hours and no others; none if that is every hour."""
    wanted = frozenset(chosen)
    if wanted == EVERY:
        return []
    runs = _runs(wanted)
    days: dict[tuple[int, int], list[int]] = {}
    for day, start, end in runs:
        days.setdefault((start, end), []).append(day)
    return [_rule(on, start, end) for (start, end), on in days.items()]


def _runs(wanted: frozenset[Cell]) -> list[tuple[int, int, int]]:
    """Hours in a row, as day, start and end. One that goes on after midnight is one run if a rule can say that."""
    of_day = {day: _runs_of_day({hour for on, hour in wanted if on == day}) for day in range(len(DAYS))}
    found = []
    for day, runs in of_day.items():
        following = of_day[(day + 1) % len(DAYS)]
        for start, end in runs:
            if start == 0 and end < HOURS and _reaches_over(of_day[(day - 1) % len(DAYS)], end):
                continue
            if end == HOURS and following and following[0][0] == 0 and following[0][1] < start:
                found.append((day, start, following[0][1]))
            else:
                found.append((day, start, end))
    return found


def _reaches_over(before: list[tuple[int, int]], end: int) -> bool:
    """True if the last run of the day before goes on until `end`."""
    return bool(before) and before[-1][1] == HOURS and end < before[-1][0]


def _runs_of_day(hours: set[int]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for hour in sorted(hours):
        if found and found[-1][1] == hour:
            found[-1] = (found[-1][0], hour + 1)
        else:
            found.append((hour, hour + 1))
    return found


def _rule(days: list[int], start: int, end: int) -> str:
    hours = "" if (start, end) == (0, HOURS) else f"{start:02}:00-{end:02}:00"
    return " ".join(part for part in ("" if len(days) == len(DAYS) and hours else _days(days), hours) if part)


def _days(days: list[int]) -> str:
    parts: list[list[int]] = []
    for day in sorted(days):
        if parts and parts[-1][-1] == day - 1:
            parts[-1].append(day)
        else:
            parts.append([day])
    return ",".join(DAYS[part[0]] if len(part) == 1 else f"{DAYS[part[0]]}-{DAYS[part[-1]]}" for part in parts)
