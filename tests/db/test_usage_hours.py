"""Usage by hour is kept once the hour is over, and says what a count of all attempts says."""

from __future__ import annotations

from typing import Any

from tests.db.test_reports import HOUR, at, picked, recorded, told
from tests.factory import Queue
from vidqueue.db.tables import reports
from vidqueue.jobs.retention import settle_usage

__all__ = ["recorded"]


LANE_WORK = "SELECT ended_hour, hour, lane, sum(busy_s)::float8 AS busy_s FROM {} GROUP BY 1, 2, 3"
# What is read, what is counted attempt by attempt, and the columns.
SOURCES = {
    "vidqueue_report.usage_hourly": (
        "vidqueue.usage_counted",
        "hour, owner, processor, jobs, attempts, lane_s, gpu_s, cpu_s, video_s, input_bytes, output_bytes",
    ),
    "vidqueue.waits_by_hour": ("vidqueue.waits_counted", "hour, processor, owner, jobs, p50_s, p95_s, p99_s"),
    "vidqueue_report.eta_calibration": (
        "vidqueue.eta_counted",
        "hour, processor, attempts, median_error, within_a_quarter",
    ),
    f"({LANE_WORK.format('vidqueue.lane_work_by_hour')}) h": (
        f"({LANE_WORK.format('vidqueue_report.lane_work')}) h",
        "ended_hour, hour, lane, busy_s",
    ),
}


async def same_as_counted(queue: Queue) -> list[tuple[Any, ...]]:
    """What the views say, if a count of every attempt says the same."""
    said = []
    for view, (counted, names) in SOURCES.items():
        one, other = [
            [tuple(row.values()) for row in await queue.sql(f"SELECT {names} FROM {source} ORDER BY 1, 2, 3")]
            for source in (view, counted)
        ]
        assert one == other, view
        said += one
    return said


async def kept(queue: Queue) -> int:
    ((count,),) = [row.values() for row in await queue.sql("SELECT count(*) FROM vidqueue.usage_hours")]
    return int(count)


async def test_hours_that_are_over_are_counted_once_and_say_the_same(recorded: Queue) -> None:
    await recorded.sql("UPDATE vidqueue.attempt_usage SET expected_s = 700")
    before = await same_as_counted(recorded)
    assert await kept(recorded) == 0
    assert await settle_usage(recorded.database) == 2
    assert await kept(recorded) == 4
    assert await same_as_counted(recorded) == before
    assert await settle_usage(recorded.database) == 0
    columns = ("owner", "processor", "jobs", "attempts", "lane_s", "output_bytes")
    assert picked(await told(recorded, "usage"), *columns)[0] == ("ann", "zoo", 2, 3, 600 + 600 + 3600, 1100)


CHANGES = {
    # A job that ended in the first hour is tried again: its attempt there was not the last one.
    "retry": "UPDATE vidqueue.jobs SET state = 'queued', finished_at = NULL WHERE owner = 'bob' AND state = 'failed'",
    "delete": "DELETE FROM vidqueue.jobs WHERE owner = 'bob'",
    "delete one's outputs": "DELETE FROM vidqueue.outputs",
    "told late": "UPDATE vidqueue.attempt_usage SET cpu_s = cpu_s + 7, video_s = 99",
    "ended in the past": """INSERT INTO vidqueue.attempts
        (job_id, number, fence, lane_id, lane, host, dispatched_at, started_at, ended_at, lease_expires_at, outcome)
        SELECT job_id, 9, 99, lane_id, lane, host, started_at, started_at, ended_at, ended_at, 'canceled'
        FROM vidqueue.attempts ORDER BY ended_at LIMIT 1""",
    "ended at another time": "UPDATE vidqueue.attempts SET ended_at = ended_at + interval '1 hour'",
}  # fmt: skip


async def test_what_changes_in_an_hour_that_was_counted_is_seen_at_once_and_counted_again(recorded: Queue) -> None:
    await settle_usage(recorded.database)
    for what, change in CHANGES.items():
        before = await same_as_counted(recorded)
        await recorded.sql(change)
        assert await same_as_counted(recorded) != before, what
        assert await settle_usage(recorded.database) > 0, what
        await same_as_counted(recorded)
        assert await recorded.sql("SELECT 1 AS stale FROM vidqueue.usage_stale") == [], what
    # The one that was given back ends without another attempt, hours later.
    job = await recorded.submit(owner="eve")
    assert await recorded.dispatch(await recorded.lane("cpu9"))
    await recorded.sql(
        """WITH back AS (UPDATE vidqueue.jobs SET state = 'queued', fence = NULL, lane = NULL WHERE id = %s
                         RETURNING id)
           UPDATE vidqueue.attempts a SET started_at = %s, ended_at = %s, outcome = 'interrupted', reason = 'x'
           FROM back WHERE a.job_id = back.id""",
        job, HOUR, at(5),
    )  # fmt: skip
    await settle_usage(recorded.database)
    before = await same_as_counted(recorded)
    await recorded.sql("UPDATE vidqueue.jobs SET state = 'canceled', finished_at = now() WHERE id = %s", job)
    assert await same_as_counted(recorded) != before


async def test_what_is_committed_while_its_hour_is_counted_is_not_lost(recorded: Queue) -> None:
    await settle_usage(recorded.database)
    await recorded.sql("UPDATE vidqueue.attempt_usage SET cpu_s = 1")
    async with recorded.database.transaction() as late:
        await late.execute("UPDATE vidqueue.attempt_usage SET cpu_s = 1000")
        await settle_usage(recorded.database)
        await same_as_counted(recorded)
    (found,) = await recorded.sql("SELECT sum(cpu_s) AS cpu_s FROM vidqueue_report.usage_hourly")
    assert found["cpu_s"] == 5000
    await same_as_counted(recorded)


async def test_an_hour_is_not_over_while_a_transaction_of_it_goes_on(any_queue: Queue) -> None:
    await any_queue.submit()
    ref = await any_queue.dispatch(await any_queue.lane())
    assert ref is not None
    await any_queue.begin(ref)
    await any_queue.sql(
        """UPDATE vidqueue.attempts SET started_at = now() - interval '9 hours', outcome = 'interrupted', reason = 'x',
                                        ended_at = now() - interval '14 minutes'"""
    )
    await settle_usage(any_queue.database)
    (found,) = await any_queue.sql(
        "SELECT upto <= vidqueue.hour_of(now() - interval '15 minutes') AS early FROM vidqueue.usage_settled"
    )
    assert found["early"]
    async with any_queue.database.transaction() as one, any_queue.database.transaction() as two:
        await one.execute("SELECT pg_advisory_xact_lock(30328, 0)")
        assert not await reports.settle_usage(two)
    await same_as_counted(any_queue)
