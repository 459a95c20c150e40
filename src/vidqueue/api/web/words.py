"""Jinja2 filters that write values for people: durations, sizes, times, states."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from markupsafe import Markup, escape

from vidqueue.wait_reasons import block, reason

NOTHING = "\N{EN DASH}"
MINUTE, HOUR, DAY = 60, 3600, 86_400


def duration(seconds: float | None) -> str:
    """Return seconds in the two largest units."""
    if seconds is None:
        return NOTHING
    if seconds < 10:
        return f"{max(0.0, seconds) * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < MINUTE:
        return f"{whole} s"
    for length, unit, below, part in ((DAY, "d", HOUR, "h"), (HOUR, "h", MINUTE, "min"), (MINUTE, "min", 1, "s")):
        if whole >= length:
            rest = whole % length // below
            return f"{whole // length} {unit} {rest} {part}" if rest else f"{whole // length} {unit}"
    raise AssertionError("a minute or more has a unit")


def rough(seconds: float) -> str:
    """Return seconds in the largest unit."""
    for length, unit in ((DAY, "d"), (HOUR, "h"), (MINUTE, "min")):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def ago(moment: datetime | None) -> str:
    """Return how long ago a time was, or when it will be."""
    if moment is None:
        return NOTHING
    seconds = (datetime.now(UTC) - moment).total_seconds()
    if abs(seconds) < 1:
        return "just now"
    return f"{rough(seconds)} ago" if seconds > 0 else f"in {rough(-seconds)}"


def clock(moment: datetime | None) -> str:
    """Return a time in UTC to the second."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" if moment else NOTHING


def size(count: float | None) -> str:
    """Return bytes in the unit that leaves one to three digits before the point."""
    if count is None:
        return NOTHING
    value = float(count)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000 or unit == "TB":
            return f"{value:.0f} {unit}" if value >= 100 or unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError("the last unit has no bound")


def number(count: float | None) -> str:
    """Return a number with its thousands apart."""
    return NOTHING if count is None else f"{count:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def percent(share: float | None) -> str:
    """Return a share of one in percent; what is not finished never reads 100 %."""
    return NOTHING if share is None else f"{int(share * 100)} %"


def plural(count: int, word: str) -> str:
    """Return a count with its word."""
    return f"{number(count)} {word}{'' if count == 1 else 's'}"


def heading(column: str) -> str:
    """Return the name of a report's column, whose unit its values have."""
    words = column.removesuffix("_bytes").removesuffix("_s").replace("_", " ")
    return words.upper() if words in ("gpu", "cpu") else words[:1].upper() + words[1:]


def label(state: str) -> str:
    """Return the name of a state."""
    return state.capitalize()


def wait(job: Any) -> str:
    """Return why a job waits, its position, and when it goes on or is done, as far as that is known."""
    told = [reason(job.wait_reason)]
    if job.position is not None:
        told.append(place(job))
    if job.opens_at is not None:
        told.append(f"{'open' if job.wait_reason == 'outside_window' else 'again'} {ago(job.opens_at)}")
    elif job.position is None and job.run_at > datetime.now(UTC):
        told.append(ago(job.run_at))
    if job.eta_s is not None:
        told.append(f"done in about {duration(job.eta_s)}")
    return " · ".join(told)


def place(job: Any) -> str:
    """Return the position of a waiting job in its line."""
    if job.position is None:
        return ""
    return f"after {number(job.position)} others" if job.position_is_bound else f"position {number(job.position)}"


def name_of(job: Any) -> str:
    """Return what a job is called: its title, the name of its source, or its processor with the end of its id."""
    return job.title or getattr(job, "source", None) or f"{job.processor} {str(job.id)[-8:]}"


def bulk_words(action: Any) -> str:
    """Return what a bulk action does, to how many jobs."""
    verb = f"set priority {action.priority} of" if action.verb == "priority" else action.verb
    jobs = "all jobs that match" if action.matched is None else plural(action.matched, "job")
    return f"{verb.capitalize()} {jobs}"


def query(values: dict[str, Any]) -> str:
    """Return a query string of the values that are set."""
    kept = {name: value for name, value in values.items() if value not in (None, "", [])}
    return f"?{urlencode(kept, doseq=True)}" if kept else ""


def ticks(text: str) -> Markup:
    """Return a text whose parts between backticks are code."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        return escape(text)
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if index % 2 else escape(part) for index, part in enumerate(parts)
    )


FILTERS: dict[str, Callable[..., str]] = {
    one.__name__: one
    for one in (
        duration,
        ago,
        clock,
        size,
        number,
        percent,
        plural,
        reason,
        block,
        label,
        heading,
        wait,
        name_of,
        bulk_words,
        query,
        ticks,
    )
}
