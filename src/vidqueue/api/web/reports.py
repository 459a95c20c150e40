"""The page of the reports: each with a chart, its table, and the same as CSV."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, model_validator
from starlette.requests import Request
from starlette.responses import Response

from vidqueue.api.http.context import scope_of, services_of
from vidqueue.api.v1.reports import as_csv
from vidqueue.api.web import charts, render
from vidqueue.db.tables import reports
from vidqueue.db.tables.reports import REPORTS, Period
from vidqueue.errors import VidqueueError
from vidqueue.jobs.selection import QueryTime

ROWS = 200
# What lines are drawn of: the hours of a month for some processors.
ROWS_OF_LINES = 10_000
LONGEST = timedelta(days=366)
ROWS_OF_CSV = 10_000
# What a chart shows: bars of a value by labels, or a line of a value over the hours for each label, up to `top`.
BARS: dict[str, tuple[tuple[str, ...], str]] = {
    "usage": (("owner", "processor"), "lane_s"),
    "cost": (("owner", "processor"), "cost"),
    "failures": (("error_code", "processor"), "attempts"),
    "slowest": (("title", "processor"), "lane_s"),
}
LINES: dict[str, tuple[tuple[str, ...], str, float | None]] = {
    "waits": (("processor",), "p95_s", None),
    "lanes": (("host", "lane"), "share", 1.0),
    "eta": (("processor",), "within_a_quarter", 1.0),
}
TITLES = {
    "usage": "Lane seconds", "cost": "Cost", "failures": "Failed attempts", "slowest": "Lane seconds",
    "waits": "Wait of 95 % of the jobs", "lanes": "Share of the hour at work",
    "eta": "Attempts within a quarter of the time expected",
}  # fmt: skip


class ReportsQuery(BaseModel):
    """Which report of how many days."""

    model_config = ConfigDict(extra="forbid")

    report: str = "usage"
    days: Literal["1", "7", "30"] = "1"
    since: QueryTime | None = None
    until: QueryTime | None = None

    @model_validator(mode="after")
    def _in_order(self) -> ReportsQuery:
        if (self.since is None) != (self.until is None):
            raise ValueError("since and until must be given together")
        if self.since and self.until and not timedelta(0) < self.until - self.since <= LONGEST:
            raise ValueError("until is a time after since, within a year of it")
        return self


async def show(request: Request, query: ReportsQuery) -> Response:
    """Show a report."""
    period = _period(request, query, ROWS)
    rows, of_lines = await _read(request, query.report, period)
    chart: dict[str, Any] = {"bars": None, "lines": None}
    if query.report in BARS:
        labels, value = BARS[query.report]
        chart["bars"] = charts.bars((_label(row, labels), float(row[value] or 0)) for row in rows)
    else:
        labels, value, top = LINES[query.report]
        points = ((_label(row, labels), row["hour"], float(row[value] or 0)) for row in of_lines)
        others = {_label(row, labels) for row in rows}
        chart["lines"] = charts.lines(points, period.since, period.until, top, others)
    return render.page(
        request,
        "reports.html",
        reports=REPORTS,
        chosen=query.report,
        days=query.days,
        rows=rows,
        full=len(rows) >= ROWS,
        range=_range(query),
        is_range=query.since is not None,
        since=period.since,
        until=period.until,
        around=charts.around(period.since, period.until, datetime.now(UTC)),
        title=TITLES[query.report],
        share=query.report in ("lanes", "eta"),
        money=query.report == "cost",
        seconds=value.endswith("_s"),
        **chart,
    )


async def download(request: Request, query: ReportsQuery) -> Response:
    """Send a report as CSV."""
    rows = await _rows(request, query.report, _period(request, query, ROWS_OF_CSV))
    headers = {"Content-Disposition": f'attachment; filename="{query.report}.csv"'}
    return Response(as_csv(rows), 200, headers, "text/csv; charset=utf-8")


def _period(request: Request, query: ReportsQuery, limit: int) -> Period:
    until = query.until or datetime.now(UTC)
    since = query.since or until - timedelta(days=int(query.days))
    return Period(since=since.astimezone(UTC), until=until.astimezone(UTC), owner=scope_of(request), limit=limit)


def _range(query: ReportsQuery) -> dict[str, str]:
    """Return the part of an address that names the period."""
    if query.since is None or query.until is None:
        return {"days": query.days}
    return {"since": query.since.isoformat(), "until": query.until.isoformat()}


async def _read(request: Request, name: str, period: Period) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the rows of the table, and those that lines are drawn of."""
    if name == "lanes":
        # The hours of all lanes of a large site are too many rows to choose among here.
        async with services_of(request).database.statement() as connection:
            return await reports.lanes_with_busiest(connection, period, lanes=charts.MOST_LINES)
    if name in LINES:
        period = replace(period, limit=ROWS_OF_LINES)
    rows = await _rows(request, name, period)
    return rows[:ROWS], rows


async def _rows(request: Request, name: str, period: Period) -> list[dict[str, Any]]:
    if name not in REPORTS:
        raise VidqueueError("not_found", f"There is no report {name[:64]!r}.", hint="Choose one on /reports.")
    async with services_of(request).database.statement() as connection:
        return await reports.read(connection, name, period)


def _label(row: dict[str, Any], columns: tuple[str, ...]) -> str:
    return " · ".join(str(row[name]) for name in columns if row[name])
