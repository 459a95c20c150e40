"""Charts as SVG geometry: horizontal bars, and lines over the hours. The templates draw what these values say."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

# A chart with more than these cannot be read; the table below it has everything.
MOST_BARS, MOST_LINES = 12, 6
WIDTH, HEIGHT = 720.0, 200.0
HOUR = timedelta(hours=1)
# A part of a chart that can be looked at more closely; a period is divided in at most so many.
SHORTEST, MOST_PARTS = 6 * HOUR, 12


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: its label, its value, and its share of the longest one in percent."""

    label: str
    value: float
    share: float


@dataclass(frozen=True, slots=True)
class Line:
    """One line: its label, its newest value, and its points as SVG takes them; `dots` are hours without neighbours."""

    label: str
    newest: float
    paths: list[str]
    dots: list[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the time of a chart, and where it is drawn."""

    since: datetime
    until: datetime
    x: float
    width: float


@dataclass(frozen=True, slots=True)
class Around:
    """The periods of the same length before and after one (None if that is to come), and one three times as long."""

    before: tuple[datetime, datetime]
    after: tuple[datetime, datetime] | None
    wider: tuple[datetime, datetime]


@dataclass(frozen=True, slots=True)
class Lines:
    """Lines over the hours from `since` to `until`, up to `top`."""

    lines: list[Line]
    top: float
    since: datetime
    until: datetime
    left_out: int
    parts: list[Part]


def bars(values: Iterable[tuple[str, float]]) -> list[Bar]:
    """Return the longest bars, longest first."""
    found = sorted(((label, value) for label, value in values if value > 0), key=lambda one: -one[1])[:MOST_BARS]
    longest = found[0][1] if found else 1.0
    return [Bar(label, value, round(max(0.5, value / longest * 100), 2)) for label, value in found]


def lines(
    values: Iterable[tuple[str, datetime, float]],
    since: datetime,
    until: datetime,
    top: float | None,
    others: Iterable[str] = (),
) -> Lines:
    """Return a line for each label, those with the highest values if there are many; hours without a value are gaps.

    `others` are labels that the table has too, whether or not they have values here.
    """
    by_label: dict[str, list[tuple[datetime, float]]] = {}
    for label, hour, value in values:
        by_label.setdefault(label, []).append((hour, value))
    chosen = sorted(by_label, key=lambda label: -max(value for _, value in by_label[label]))[:MOST_LINES]
    highest = top or max((value for label in chosen for _, value in by_label[label]), default=0.0) or 1.0
    since = since.replace(minute=0, second=0, microsecond=0)
    hours = max(1.0, (until - since) / HOUR)
    drawn = [_line(label, sorted(by_label[label]), since, hours, highest) for label in sorted(chosen)]
    left_out = len({*by_label, *others}) - len(chosen)
    return Lines(drawn, highest, since, until, left_out, parts(since, until))


def parts(since: datetime, until: datetime) -> list[Part]:
    """Return the parts of a period that can be looked at more closely; none if it is short already."""
    length = max(SHORTEST, math.ceil((until - since) / MOST_PARTS / HOUR) * HOUR)
    if until - since <= length:
        return []
    found, begin = [], since
    while begin < until:
        end = min(begin + length, until)
        x = (begin - since) / (until - since) * WIDTH
        found.append(Part(begin, begin + length, round(x, 1), round((end - begin) / (until - since) * WIDTH, 1)))
        begin = end
    return found


def around(since: datetime, until: datetime, now: datetime) -> Around:
    """Return the periods that lead on from one."""
    length = until - since
    after = (until, until + length) if until < now - HOUR else None
    return Around((since - length, since), after, (since - length, min(until + length, now)))


def _line(label: str, points: list[tuple[datetime, float]], since: datetime, hours: float, top: float) -> Line:
    runs: list[list[tuple[float, float]]] = []
    before: datetime | None = None
    for hour, value in points:
        if before is None or hour - before > HOUR:
            runs.append([])
        x = ((hour - since) / HOUR + 0.5) / hours * WIDTH
        runs[-1].append((round(min(x, WIDTH), 1), round(HEIGHT - min(value / top, 1.0) * HEIGHT, 1)))
        before = hour
    paths = [" ".join(f"{x},{y}" for x, y in run) for run in runs if len(run) > 1]
    return Line(label, points[-1][1], paths, [run[0] for run in runs if len(run) == 1])
