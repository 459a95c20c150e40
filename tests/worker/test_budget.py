"""What a job may cost: statements and commits, counted in the server's own log over a drain of jobs that do nothing."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import psycopg
import pytest

from tests.factory import Queue, eventually
from tests.statements import Counted, counted
from vidqueue.services import Services
from vidqueue.worker.guards import Drain
from vidqueue.worker.lanes import open_lanes

pytestmark = pytest.mark.usefixtures("no_orphans")

JOBS = 60
REST_S = 3.0
# A job's share of a drain with two lanes, what the daemon asks at rest taken off. These figures may only fall.
STATEMENTS_A_JOB = 2
COMMITS_A_JOB = 2


async def test_a_job_keeps_to_its_budget_of_statements_and_commits(
    queue: Queue, services: Services, server_log: Path
) -> None:
    url = services.database.url
    async with open_lanes(services, Drain()):
        await drained(url, 4)  # starts the executors
        with counted(url, server_log) as rest:
            await asyncio.sleep(REST_S)
        with counted(url, server_log) as drain:
            seconds = await drained(url, JOBS)
    statements = (drain.statements - rest.statements * seconds / REST_S) / JOBS
    commits = (drain.commits - rest.commits * seconds / REST_S) / JOBS
    assert await queue.violations() == []
    assert (statements <= STATEMENTS_A_JOB, commits <= COMMITS_A_JOB) == (True, True), (
        f"a job costs {statements:.1f} statements (budget {STATEMENTS_A_JOB}) and {commits:.1f} commits "
        f"(budget {COMMITS_A_JOB}):\n{drain.table(JOBS)}"
    )


async def drained(url: str, jobs: int) -> float:
    """Submit jobs that do nothing in one statement and wait for their end; the seconds it took.

    The session bears another name than the daemon's, so that it is not counted.
    """
    submit = """SELECT vidqueue.submit('zoo', '{"act": "work"}') FROM generate_series(1, %s)"""
    begun = time.monotonic()
    async with await psycopg.AsyncConnection.connect(url, autocommit=True, application_name="test") as connection:
        await connection.execute(submit, [jobs])

        async def done() -> bool:
            query = "SELECT NOT EXISTS (SELECT FROM vidqueue.jobs WHERE state <> 'succeeded')"
            return bool((await (await connection.execute(query)).fetchone() or [False])[0])

        await eventually(done, within_s=120)
    return time.monotonic() - begun


async def test_the_counter_counts_each_statement_and_each_transaction_once(database_url: str, server_log: Path) -> None:
    connect = psycopg.AsyncConnection.connect
    async with await connect(database_url, application_name="counted") as connection:
        with counted(database_url, server_log, "counted") as found:
            await three_transactions(connection)
    assert (found.statements, found.commits, found.rollbacks) == (9, 2, 1)
    assert found.texts["SELECT $1::int"] == 2
    assert found.running_ms["SELECT 1"] > 0
    assert found.table(1).count("SELECT") == 3
    assert Counted().table(1)


async def three_transactions(connection: psycopg.AsyncConnection) -> None:
    """Two that commit, the second by itself, and one that rolls back."""
    await connection.execute("SELECT 1")  # BEGIN, SELECT
    await connection.execute("SELECT %s::int", [1])
    await connection.execute("SELECT %s::int", [2])
    await connection.commit()  # COMMIT
    await connection.execute("SELECT 3")  # BEGIN, SELECT
    await connection.rollback()  # ROLLBACK
    await connection.set_autocommit(True)
    async with connection.pipeline():
        await connection.execute("SELECT 1")


async def test_an_update_of_a_job_or_of_an_attempt_runs_few_triggers_and_parses_no_condition(queue: Queue) -> None:
    """PostgreSQL parses the condition of a trigger anew at every statement, whether or not the trigger fires."""
    found = await queue.sql(
        """SELECT tgrelid::regclass::text AS "table", array_agg(tgname::text ORDER BY tgname) AS triggers,
                  count(tgqual) AS conditions
           FROM pg_trigger
           WHERE tgrelid IN ('vidqueue.jobs'::regclass, 'vidqueue.attempts'::regclass)
             AND NOT tgisinternal AND tgtype & 16 <> 0
           GROUP BY 1 ORDER BY 1"""
    )
    assert found == [
        {"table": "vidqueue.attempts", "triggers": ["follow"], "conditions": 0},
        {"table": "vidqueue.jobs", "triggers": ["follow", "record", "stamp"], "conditions": 0},
    ]


async def test_the_tables_that_every_job_writes_to_have_few_checks(queue: Queue) -> None:
    """PostgreSQL parses each CHECK anew at every statement, too; limits of single columns belong into `stamp_job`."""
    found = await queue.sql(
        """SELECT c.conrelid::regclass::text AS "table", count(*) AS checks FROM pg_constraint c
           WHERE c.contype = 'c' AND c.conrelid IN
               ('vidqueue.jobs'::regclass, 'vidqueue.attempts'::regclass, 'vidqueue.events'::regclass)
           GROUP BY 1 ORDER BY 1"""
    )
    assert {one["table"]: one["checks"] for one in found} == {
        "vidqueue.attempts": 1,
        "vidqueue.events": 1,
        "vidqueue.jobs": 5,
    }
