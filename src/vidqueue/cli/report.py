"""`vidqueue report`: usage, cost, waits, failures and lanes by hour, as table, CSV or JSON."""

from __future__ import annotations

import csv as csv_format
import re
import sys
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from cyclopts import Parameter

from vidqueue.cli.client import Client
from vidqueue.cli.exits import CommandError, Exit
from vidqueue.cli.options import DOOR, LOOK, Door, Look
from vidqueue.cli.terminal import Screen, duration_text, size_text, writing_stdout

_AGO = re.compile(r"(\d{1,6})([hdw])")
_UNITS = {"h": "hours", "d": "days", "w": "weeks"}


def report(
    name: Annotated[str | None, Parameter(name="NAME")] = None,
    *,
    since: str = "24h",
    until: str | None = None,
    limit: int = 1000,
    csv: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    door: Door = DOOR,
    look: Look = LOOK,
) -> int:
    """Show a report over a period of whole hours; without a name, list the reports.

    Args:
        name: The report.
        since: Beginning of the period: a time ago (12h, 7d, 4w), or a time such as 2026-11-25 or 2026-11-25T08:00Z.
        until: End of the period, in the same notation. The default is now.
        limit: Largest number of rows.
        csv: Write CSV.
        door: The daemon to talk to.
        look: The format of the output.
    """
    screen = Screen(look)
    with Client(door.url) as client:
        if name is None:
            rows = client.get("/v1/reports")["reports"]
        else:
            period = {"since": _time(since), "until": _time(until) if until else None, "limit": limit}
            rows = client.get(f"/v1/reports/{name}", **period)["rows"]
    if csv:
        _write_csv(rows)
    elif screen.json:
        for row in rows:
            screen.object(row)
    elif rows:
        screen.table([column.upper() for column in rows[0]], [[_text(*cell) for cell in row.items()] for row in rows])
    else:
        screen.say("No data in this period.")
    return Exit.OK


def _time(text: str) -> str:
    try:
        if found := _AGO.fullmatch(text.strip()):
            return (datetime.now(UTC) - timedelta(**{_UNITS[found[2]]: int(found[1])})).isoformat()
        # A time without a zone is one of this machine's clock.
        return datetime.fromisoformat(text).astimezone(UTC).isoformat()
    except (ValueError, OverflowError):
        hint = "Write 12h, 7d, 4w, 2026-11-25 or 2026-11-25T08:00Z."
        raise CommandError(f"{text!r} is not a time.", exit=Exit.USAGE, hint=hint) from None


def _write_csv(rows: list[dict[str, Any]]) -> None:
    writer = csv_format.writer(sys.stdout, lineterminator="\n")
    with writing_stdout():
        for row in rows[:1]:
            writer.writerow(row)
        writer.writerows(row.values() for row in rows)


def _text(column: str, value: Any) -> str:
    """A value as a person reads it, by the name of its column."""
    if value is None:
        return ""
    if column.endswith("_s"):
        return duration_text(value)
    if column.endswith("_bytes"):
        return size_text(value)
    if column in ("share", "median_error", "within_a_quarter"):
        return f"{value:.1%}"
    if column in ("hour", "last_at", "ended_at"):
        return f"{datetime.fromisoformat(value):%Y-%m-%d %H:%M}"
    return f"{value:.2f}" if isinstance(value, float) else str(value)
