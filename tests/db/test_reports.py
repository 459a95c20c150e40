"""Reports tell what happened: a recorded history is counted by hand, and a reader sees the views and nothing else."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
import pytest_asyncio
from psycopg.rows import dict_row

from tests.factory import Queue
from vidqueue.db.pool import Database
from vidqueue.db.reader import ReaderError, make_reader
from vidqueue.db.tables import reports
from vidqueue.db.tables.reports import REPORTS, Period
from vidqueue.settings.sections import PricesSettings

PAGE = Path(__file__).parents[2] / "docs" / "reports.md"
HOUR = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=5)
READER = "reader_of_tests"


def at(minutes: float) -> datetime:
    return HOUR + timedelta(minutes=minutes)


# job, owner, processor, lane, began, ended (minutes), outcome, waited, cpu, bytes in, video, bytes out
HISTORY: list[tuple[str, str, str, str, float, float, str, float, float, int, float, int]] = [
    ("a", "ann", "zoo", "cpu0", 0, 10, "succeeded", 5, 500, 1000, 60, 400),
    ("b", "ann", "zoo", "cpu0", 10, 20, "failed", 10, 300, 2000, 0, 0),
    ("b", "ann", "zoo", "gpu0", 30, 90, "succeeded", 0, 600, 2000, 120, 700),
    ("c", "bob", "zoo", "gpu0", 90, 100, "failed", 20, 1, 50, 0, 0),
    ("d", "bob", "other", "cpu0", 50, 70, "canceled", 40, 2, 60, 30, 0),
]


@pytest_asyncio.fixture
async def recorded(any_queue: Queue) -> Queue:
    """The history, written through the real rows, at the times that it says."""
    lanes = {"cpu0": await any_queue.lane("cpu0"), "gpu0": await any_queue.lane("gpu0", "gpu", vram_mb=8000)}
    jobs: dict[str, UUID] = {}
    for number, (job, owner, processor, lane, began, ended, outcome, waited, *used) in enumerate(HISTORY, 1):
        if job not in jobs:
            jobs[job] = await any_queue.submit(owner=owner, input={"video": f"/srv/{job}.mp4"})
            await any_queue.sql("UPDATE vidqueue.jobs SET processor = %s WHERE id = %s", processor, jobs[job])
        count = len(await any_queue.sql("SELECT 1 FROM vidqueue.attempts WHERE job_id = %s", jobs[job])) + 1
        await any_queue.sql(
            """INSERT INTO vidqueue.attempts (job_id, number, fence, lane_id, lane, host, dispatched_at, started_at,
                   ended_at, lease_expires_at, outcome, error_code, error_message)
               VALUES (%s, %s, %s, %s, %s, 'testhost', %s, %s, %s, now(), %s, %s, %s)""",
            jobs[job], count, number, lanes[lane], lane, at(began), at(began), at(ended), outcome,
            "ffmpeg_failed" if outcome == "failed" else None, "It broke." if outcome == "failed" else None,
        )  # fmt: skip
        cpu_s, input_bytes, video_s, output_bytes = used
        await any_queue.sql(
            "INSERT INTO vidqueue.attempt_usage VALUES (%s, %s, %s, %s, %s, %s)",
            jobs[job], count, cpu_s, input_bytes, video_s, waited if count == 1 else None,
        )  # fmt: skip
        await any_queue.sql(
            "UPDATE vidqueue.jobs SET state = 'running', fence = 1, attempt = %s WHERE id = %s", count, jobs[job]
        )
        await any_queue.sql(
            """UPDATE vidqueue.jobs SET state = %s, fence = NULL, finished_at = %s, error_code = %s, error_message = %s
               WHERE id = %s""",
            *((outcome, at(ended)) if (job, outcome) != ("b", "failed") else ("queued", None)),
            *(("ffmpeg_failed", "It broke.") if outcome == "failed" else (None, None)), jobs[job],
        )  # fmt: skip
        if output_bytes:
            (file,) = await any_queue.sql(
                """INSERT INTO vidqueue.files (owner, name, media_type, size, sha256)
                   VALUES (%s, 'out.mp4', 'video/mp4', %s, repeat('0', 64)) RETURNING id""",
                owner, output_bytes,
            )  # fmt: skip
            await any_queue.sql(
                "INSERT INTO vidqueue.outputs VALUES (%s, 'video', %s, %s)", jobs[job], count, file["id"]
            )
    await any_queue.sql("SELECT setval('vidqueue.fences', 100)")
    return any_queue


async def told(queue: Queue, name: str, **more: Any) -> list[dict[str, Any]]:
    values: dict[str, Any] = {"since": HOUR, "until": datetime.now(UTC), "owner": None, "limit": 100}
    async with queue.database.statement() as connection:
        return await reports.read(connection, name, Period(**(values | more)))


def picked(rows: list[dict[str, Any]], *columns: str) -> list[tuple[Any, ...]]:
    return [tuple(row[column] for column in columns) for row in rows]


async def test_usage_equals_what_is_counted_by_hand(recorded: Queue) -> None:
    columns = (
        "owner",
        "processor",
        "jobs",
        "attempts",
        "lane_s",
        "gpu_s",
        "cpu_s",
        "video_s",
        "input_bytes",
        "output_bytes",
    )
    assert picked(await told(recorded, "usage"), *columns) == [
        ("ann", "zoo", 2, 3, 600 + 600 + 3600, 3600, 1400, 180, 3000, 1100),
        ("bob", "other", 1, 1, 1200, 0, 2, 30, 60, 0),
        ("bob", "zoo", 1, 1, 600, 600, 1, 0, 50, 0),
    ]
    # The second hour has what ended in it.
    assert picked(await told(recorded, "usage", since=at(60), owner="ann"), *columns) == [
        ("ann", "zoo", 1, 1, 3600, 3600, 600, 120, 2000, 700)
    ]
    assert await told(recorded, "usage", until=HOUR) == []


async def test_cost_is_usage_by_the_prices_of_the_configuration(recorded: Queue) -> None:
    prices = PricesSettings(currency="CHF", cpu_lane_hour=0.6, gpu_lane_hour=3, video_hour=60, output_gib=0)
    async with recorded.database.statement() as connection:
        await reports.set_prices(connection, prices)
    found = picked(await told(recorded, "cost"), "owner", "processor", "currency", "cost")
    # Ann: 20 minutes on a CPU lane, an hour on a GPU lane, three minutes of video.
    assert found[0] == ("ann", "zoo", "CHF", pytest.approx(0.2 + 3 + 3))
    assert {row[:2]: row[3] for row in found[1:]} == {
        ("bob", "zoo"): pytest.approx(0.5), ("bob", "other"): pytest.approx(0.2 + 0.5),
    }  # fmt: skip


async def test_waits_and_failures_equal_what_is_counted_by_hand(recorded: Queue) -> None:
    waits = picked(await told(recorded, "waits"), "hour", "processor", "jobs", "p50_s", "p95_s", "p99_s")
    assert waits == [
        (at(60), "other", 1, 40, 40, 40),
        (at(60), "zoo", 1, 20, 20, 20),
        (HOUR, "zoo", 2, 7.5, 9.75, 9.95),
    ]
    view = await recorded.sql("SELECT * FROM vidqueue_report.waits_hourly ORDER BY hour DESC, processor")
    assert [(*row[:3], *map(float, row[3:])) for row in map(tuple, map(dict.values, view))] == waits
    (failures,) = await told(recorded, "failures")
    columns = ("error_code", "processor", "attempts", "jobs_failed", "last_at", "last_message")
    assert picked([failures], *columns) == [("ffmpeg_failed", "zoo", 2, 1, at(100), "It broke.")]


async def test_an_attempt_fills_each_hour_of_its_lane_as_far_as_it_was_there(recorded: Queue) -> None:
    assert picked(await told(recorded, "lanes"), "hour", "lane", "busy_s", "share") == [
        (at(60), "cpu0", 600, pytest.approx(600 / 3600, abs=1e-4)),
        (at(60), "gpu0", 1800 + 600, pytest.approx(2400 / 3600, abs=1e-4)),
        (HOUR, "cpu0", 600 + 600 + 600, 0.5),
        (HOUR, "gpu0", 1800, 0.5),
    ]
    # One that still runs counts until now.
    lane = await recorded.lane("cpu1")
    await recorded.submit()
    ref = await recorded.dispatch(lane)
    assert ref is not None
    await recorded.begin(ref)
    await recorded.sql("UPDATE vidqueue.attempts SET started_at = now() - interval '90 minutes' WHERE ended_at IS NULL")
    mine = [row["busy_s"] for row in await told(recorded, "lanes") if row["lane"] == "cpu1"]
    assert sum(mine) == pytest.approx(5400, abs=5)


async def test_the_slowest_jobs_come_first_with_the_name_of_their_source(recorded: Queue) -> None:
    found = await told(recorded, "slowest", limit=2)
    assert picked(found, "source", "state", "lane_s", "video_s", "speed") == [
        ("b.mp4", "succeeded", 3600, 120, 0.033),
        ("d.mp4", "canceled", 1200, 30, 0.025),
    ]


async def test_slow_attempts_that_are_not_shown_do_not_hide_jobs_that_are(any_queue: Queue) -> None:
    """One job was given back 299 times after an hour each, which is longer than another job took."""
    lane = await any_queue.lane()
    for job, took, attempts in (
        (await any_queue.submit(owner="ann"), 3600, 300),
        (await any_queue.submit(owner="bob"), 60, 1),
    ):
        await any_queue.sql(
            """INSERT INTO vidqueue.attempts
                   (job_id, number, fence, lane_id, lane, host, dispatched_at, started_at, ended_at,
                    lease_expires_at, outcome)
               SELECT %s, n, nextval('vidqueue.fences'), %s, 'cpu0', 'testhost', %s, %s,
                      %s + make_interval(secs => CASE WHEN n = %s THEN 1 ELSE %s END), now(), 'succeeded'
               FROM generate_series(1, %s) n""",
            job, lane, HOUR, HOUR, HOUR, 300, took, attempts,
        )  # fmt: skip
        await any_queue.sql(
            "UPDATE vidqueue.jobs SET state = 'running', fence = 1, attempt = %s WHERE id = %s", attempts, job
        )
        await any_queue.sql(
            "UPDATE vidqueue.jobs SET state = 'succeeded', fence = NULL, finished_at = now() WHERE id = %s", job
        )
    assert picked(await told(any_queue, "slowest", limit=5), "owner", "lane_s") == [("bob", 60), ("ann", 1)]
    assert picked(await told(any_queue, "slowest", limit=1), "owner", "lane_s") == [("bob", 60)]
    assert picked(await told(any_queue, "slowest", limit=5, owner="ann"), "owner", "lane_s") == [("ann", 1)]


async def test_the_busiest_lanes_of_a_period_are_told_with_all_their_hours(recorded: Queue) -> None:
    period = Period(since=HOUR, until=datetime.now(UTC), owner=None, limit=100)
    async with recorded.database.statement() as connection:
        first, one = await reports.lanes_with_busiest(connection, replace(period, limit=1), lanes=1)
        _, both = await reports.lanes_with_busiest(connection, period, lanes=2)
    whole = await told(recorded, "lanes")
    # 70 minutes of work on gpu0, 50 on cpu0.
    assert one == [row for row in whole if row["lane"] == "gpu0"]
    assert both == whole
    assert first == whole[:1]


@pytest_asyncio.fixture
async def reader(recorded: Queue, any_database_url: str) -> AsyncIterator[psycopg.AsyncConnection[dict[str, Any]]]:
    """A connection of the role that one command makes."""
    assert await make_reader(any_database_url, READER, None)
    url = re.sub(r"//[^@/]*@", f"//{READER}@", any_database_url)
    try:
        async with await psycopg.AsyncConnection.connect(url, autocommit=True, row_factory=dict_row) as connection:
            yield connection
    finally:
        await recorded.sql(f"DROP OWNED BY {READER}")
        await recorded.sql(f"DROP ROLE {READER}")


async def test_a_reader_reads_every_view_and_nothing_else(
    reader: psycopg.AsyncConnection[dict[str, Any]], recorded: Queue, any_database_url: str
) -> None:
    views = await recorded.sql("SELECT viewname FROM pg_views WHERE schemaname = 'vidqueue_report'")
    for view in views:
        await reader.execute(f'SELECT * FROM vidqueue_report."{view["viewname"]}"'.encode())
    assert len(views) > 10
    for forbidden in (
        "SELECT * FROM vidqueue.jobs",
        "SELECT vidqueue.submit('zoo', '{}')",
        "SELECT * FROM procrastinate.procrastinate_jobs",
        "CREATE SCHEMA mine",
        "SET ROLE postgres",
    ):
        await reader.execute("SET default_transaction_read_only = off")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await reader.execute(forbidden.encode())
    granted = await recorded.sql(
        """SELECT c.oid::regclass AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
           WHERE c.relkind IN ('r', 'v', 'm', 'p') AND n.nspname NOT IN ('pg_catalog', 'information_schema')
             AND (n.nspname <> 'vidqueue_report' AND has_table_privilege(%s, c.oid, 'SELECT')
                  OR has_table_privilege(%s, c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE'))""",
        READER, READER,
    )  # fmt: skip
    assert granted == []
    # Views of a later version are the reader's too; a second call changes nothing.
    await recorded.sql("CREATE VIEW vidqueue_report.of_tomorrow AS SELECT 1 AS one")
    assert await (await reader.execute("SELECT * FROM vidqueue_report.of_tomorrow")).fetchall() == [{"one": 1}]
    assert not await make_reader(any_database_url, READER, "secret'--")


async def test_a_reader_that_a_superuser_made_reads_the_views_of_later_versions(
    any_database_url: str, any_queue: Queue
) -> None:
    await any_queue.sql("CREATE ROLE daemon_of_tests")
    await any_queue.sql("ALTER SCHEMA vidqueue_report OWNER TO daemon_of_tests")
    try:
        assert await make_reader(any_database_url, READER, None)
        found = await any_queue.sql(
            "SELECT defaclrole::regrole::text AS role, defaclacl::text AS grants FROM pg_default_acl"
        )
        assert found == [{"role": "daemon_of_tests", "grants": f"{{{READER}=r/daemon_of_tests}}"}]
    finally:
        await any_queue.sql("ALTER SCHEMA vidqueue_report OWNER TO postgres")
        for role in (READER, "daemon_of_tests"):
            await any_queue.sql(f"DROP OWNED BY {role}")
            await any_queue.sql(f"DROP ROLE {role}")


async def test_a_role_that_may_do_more_is_no_reader(any_database_url: str) -> None:
    for role in ("postgres", "pg_reader_of_tests"):
        with pytest.raises(ReaderError):
            await make_reader(any_database_url, role, None)


QUERIES = re.findall(r"```sql\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


async def test_every_query_of_the_page_runs_for_a_reader(reader: psycopg.AsyncConnection[dict[str, Any]]) -> None:
    assert len(QUERIES) >= 12
    empty = []
    for query in QUERIES:
        rows = await (await reader.execute(query.encode())).fetchall()
        empty += [] if rows else [query.split("\n", 1)[0]]
    # The history has nothing that waits, is paused or goes to a webhook.
    assert len(empty) <= 3, empty


def test_the_page_names_every_report() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert [name for name in REPORTS if f"| `{name}` |" not in text] == []


async def test_a_report_of_a_database_without_history_is_empty(any_database: Database) -> None:
    for name in REPORTS:
        assert await told(Queue(any_database), name) == []
