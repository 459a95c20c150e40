"""Reports over HTTP, as JSON or CSV."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from vidqueue.api.http.context import scope_of, services_of
from vidqueue.api.http.endpoint import JSON, Answer, Endpoint, json_answer
from vidqueue.db.tables import reports
from vidqueue.db.tables.reports import REPORTS, Period
from vidqueue.errors import VidqueueError

CSV = "text/csv"
DEFAULT_PERIOD = timedelta(days=1)


class ReportQuery(BaseModel):
    """The period of a report, in whole hours."""

    model_config = ConfigDict(extra="forbid")

    since: AwareDatetime | None = Field(
        None, description="From the hour of this time; the default is a day before `until`."
    )
    until: AwareDatetime | None = Field(None, description="Before this time; the default is now.")
    limit: int = Field(1000, ge=1, le=10_000, description="Most rows.")


class ReportAbout(BaseModel):
    """A report that can be read."""

    name: str
    about: str
    url: str


class ReportList(BaseModel):
    """All reports."""

    reports: list[ReportAbout]


class Report(BaseModel):
    """A report."""

    name: str
    since: datetime
    until: datetime
    rows: list[dict[str, Any]] = Field(description="The columns are those of `vidqueue report NAME`; `_s` are seconds.")


async def list_reports(request: Request) -> Response:
    """List the reports."""
    del request
    listed = [ReportAbout(name=name, about=about, url=f"/v1/reports/{name}") for name, about in REPORTS.items()]
    return json_answer(ReportList(reports=listed))


async def get_report(request: Request, name: str, query: ReportQuery) -> Response:
    """Read a report; what it costs depends on its period. `Accept: text/csv` answers a table."""
    if name not in REPORTS:
        raise VidqueueError("not_found", f"There is no report {name!r}.", hint="GET /v1/reports lists the reports.")
    until = query.until or datetime.now(UTC)
    since = query.since or until - DEFAULT_PERIOD
    period = Period(since=since, until=until, owner=scope_of(request), limit=query.limit)
    async with services_of(request).database.statement() as connection:
        rows = await reports.read(connection, name, period)
    if CSV in request.headers.get("accept", ""):
        return Response(as_csv(rows), media_type=f"{CSV}; charset=utf-8")
    return json_answer(Report(name=name, since=since, until=until, rows=rows))


def as_csv(rows: list[dict[str, Any]]) -> str:
    """Return the rows of a report as CSV with a header."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    # An empty report has no columns to name.
    for row in rows[:1]:
        writer.writerow(row)
    writer.writerows([_cell(value) for value in row.values()] for row in rows)
    return text.getvalue()


def _cell(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/v1/reports",
        handler=list_reports,
        tag="machine",
        answers={200: Answer("The reports.", {JSON: ReportList})},
    ),
    Endpoint(
        method="GET",
        path="/v1/reports/{name}",
        handler=get_report,
        tag="machine",
        answers={200: Answer("The report.", {JSON: Report, CSV: None})},
    ),
)
