"""Reports over the hours of a period; they read the views that anybody may read."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from vidqueue.db.pool import Connection, execute, row, rows
from vidqueue.settings.sections import PricesSettings

# What each report tells; its query has the same name.
REPORTS = {
    "usage": "What each owner used of each processor: jobs, lane, GPU and CPU seconds, seconds of video, bytes.",
    "cost": "What the usage of each owner costs, by the prices of the configuration.",
    "waits": "How long jobs waited, by hour: median, 95 % and 99 %.",
    "failures": "Attempts that failed, by error code.",
    "lanes": "Share of each hour in which a lane was at work, whoever's job it had.",
    "slowest": "Jobs whose last attempt took longest.",
    "eta": "How far the expected times of attempts were off, as a share of what they took, by hour and processor.",
}
# They tell nothing of anybody's jobs, and so are the same for everybody.
OF_ALL = frozenset({"lanes", "eta"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """The hours from that of `since` up to `until`, of one owner or of all."""

    since: datetime
    until: datetime
    owner: str | None
    limit: int


async def read(connection: Connection, name: str, period: Period) -> list[dict[str, Any]]:
    """Return the rows of a report in `REPORTS`; what it reads grows with the period and not with the queue."""
    values: dict[str, Any] = {"since": period.since, "until": period.until, "limit": period.limit}
    if name not in OF_ALL:
        values["owner"] = period.owner
    return await rows(connection, "reports", name, **values)


async def lanes_with_busiest(
    connection: Connection, period: Period, *, lanes: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the rows of the report `lanes`, and all hours of so many lanes, those with the most work in the period."""
    values = {"since": period.since, "until": period.until, "limit": period.limit, "lanes": lanes}
    parts: tuple[list[dict[str, Any]], list[dict[str, Any]]] = ([], [])
    for one in await rows(connection, "reports", "lanes_with_busiest", **values):
        parts[0 if one.pop("is_first") else 1].append(one)
    return parts


async def settle_usage(connection: Connection) -> bool:
    """Aggregate the usage of one past hour for reports; False if none is left, or another daemon is doing it."""
    found = await row(connection, "reports", "settle_usage")
    assert found is not None
    return bool(found["settled"])


async def set_prices(connection: Connection, prices: PricesSettings) -> None:
    """Write the prices of the configuration, which the views multiply usage by."""
    await execute(connection, "reports", "set_prices", **prices.model_dump())
