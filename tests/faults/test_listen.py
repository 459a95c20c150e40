"""The LISTEN connection is cut: events are caught up by number, and lanes get new work all the same."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime

import pytest

from tests.daemon import promised, until
from tests.faults.conftest import Start
from tests.listener import Listener
from tests.postgres import Postgres

pytestmark = pytest.mark.slow

# The listener reads the event log and asks `SELECT 1` now and then.
LISTENERS = "(query ILIKE 'listen%' OR query = 'SELECT 1' OR query LIKE '%FROM vidqueue.events%WHERE number > %')"


def test_cut_listeners_come_back_and_nobody_misses_an_event(
    postgres: Postgres, start: Start, figure: Callable[[str, float], None]
) -> None:
    daemon = start("data", VIDQUEUE_DATABASE__URL=postgres.url)
    client = Listener(daemon)
    ids = [daemon.submit(act="work", seconds=0.2) for _ in range(10)]
    first = _first_heard(client)
    longest_s = 0.0
    for _ in range(5):
        cut = until(lambda: postgres.backends(LISTENERS), what="the event feed listens")
        daemon.sql(f"SELECT pg_terminate_backend(pid) FROM unnest(ARRAY{cut}) AS pid")
        asked_at = time.time()
        ids.append(daemon.submit(act="work"))
        until(lambda: daemon.job(ids[-1])["started_at"], what="the new job begins")
        if len(ids) == 11:  # the first ten are in its way
            for job_id in ids[:10]:
                daemon.ended(job_id)
            continue
        began = datetime.fromisoformat(daemon.job(ids[-1])["started_at"]).timestamp()
        longest_s = max(longest_s, began - asked_at)
    figure("longest wait for a new job's start, in s", longest_s)
    assert longest_s < promised(2)
    for job_id in ids:
        assert daemon.ended(job_id)["state"] == "succeeded"
        until(lambda: client.kinds(job_id)[-1:] == ["succeeded"], what="its end is heard")  # noqa: B023
    told = [row["number"] for row in daemon.sql("SELECT number FROM vidqueue.events ORDER BY number")]
    heard = [event["number"] for event in client.heard]
    assert heard == [number for number in told if number >= first]
    client.hang_up()
    assert daemon.violations() == []
    assert daemon.stop() == 0


def _first_heard(client: Listener) -> int:
    until(lambda: client.heard, what="the stream has begun")
    return int(client.heard[0]["number"])
