"""What is probably a mistake in a request that the daemon takes: a time that is past, a lane that does not exist."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from vidqueue.cli.client import Client

# Times are written to the minute, so one of the present minute is meant as now.
SLACK = timedelta(minutes=1)


def doubts(client: Client, request: Mapping[str, Any]) -> Iterator[str]:
    """Yield a warning for each."""
    run_at = request.get("run_at")
    if run_at and datetime.fromisoformat(run_at) < datetime.now(UTC) - SLACK:
        yield f"{datetime.fromisoformat(run_at):%Y-%m-%d %H:%M} is past: the job begins as soon as a lane is free."
    lane = request.get("lane")
    if lane:
        known = sorted({str(one["name"]) for one in client.get("/v1/lanes")["lanes"]})
        if lane not in known:
            yield f"There is no lane {lane!r} now, and the job waits for it. There are: {', '.join(known) or 'none'}."
