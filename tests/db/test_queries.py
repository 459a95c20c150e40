"""Every named query fits the migrated schema, and the schema holds the rules that the code holds."""

from __future__ import annotations

import re
from collections.abc import Iterator

import psycopg
import pytest

from tests.conftest import TEMPLATE, fresh
from tests.factory import Queue
from vidqueue.db import queries
from vidqueue.db.connections import SEARCH_PATH
from vidqueue.db.tables.jobs import JobRow
from vidqueue.job import TRANSITIONS, State

QUERIES = [(family, name) for family in queries.families() for name in queries.load(family)]


@pytest.fixture(scope="module")
def any_connection(any_server_url: str) -> Iterator[psycopg.Connection]:
    """A connection to one database for all queries, on each PostgreSQL of the machine: to prepare changes nothing."""
    for url in fresh(any_server_url, TEMPLATE):
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f"SET search_path = {SEARCH_PATH}".encode())
            yield connection


@pytest.mark.parametrize(("family", "name"), QUERIES, ids=[f"{family}.{name}" for family, name in QUERIES])
def test_every_named_query_prepares(any_connection: psycopg.Connection, family: str, name: str) -> None:
    columns_of(any_connection, family, name)


@pytest.mark.parametrize("name", [name for name in queries.load("jobs") if name == "get" or name.startswith("page")])
def test_the_columns_of_a_job_are_the_fields_of_its_row_in_their_order(
    any_connection: psycopg.Connection, name: str
) -> None:
    assert columns_of(any_connection, "jobs", name) == list(JobRow._fields)


def columns_of(connection: psycopg.Connection, family: str, name: str) -> list[str]:
    """The columns of a named query, which is prepared and not run."""
    names: dict[str, int] = {}
    text = re.sub(r"%\((\w+)\)s", lambda m: f"${names.setdefault(m[1], len(names) + 1)}", queries.load(family)[name])
    connection.execute(f"PREPARE checked AS {text}".encode())
    described = connection.pgconn.describe_prepared(b"checked")
    connection.execute("DEALLOCATE checked")
    return [(described.fname(column) or b"").decode() for column in range(described.nfields)]


FORBIDDEN = [(before, after) for before in State for after in State if after not in TRANSITIONS[before] | {before}]


@pytest.mark.parametrize(("before", "after"), FORBIDDEN)
async def test_the_database_allows_no_transition_that_the_code_does_not_know(
    any_queue: Queue, before: State, after: State
) -> None:
    job_id = await any_queue.submit()
    for state in [State.RUNNING, before] if before is not State.QUEUED else []:
        await any_queue.sql(SET_STATE[state], job_id)
    with pytest.raises(psycopg.errors.IntegrityError):
        await any_queue.sql(SET_STATE[after], job_id)


SET_STATE = {
    State.QUEUED: "UPDATE vidqueue.jobs SET state = 'queued', finished_at = NULL, fence = NULL WHERE id = %s",
    State.RUNNING: "UPDATE vidqueue.jobs SET state = 'running', fence = 1, finished_at = NULL WHERE id = %s",
    State.SUCCEEDED: "UPDATE vidqueue.jobs SET state = 'succeeded', fence = NULL, finished_at = now() WHERE id = %s",
    State.FAILED: "UPDATE vidqueue.jobs SET state = 'failed', fence = NULL, finished_at = now(), error_code = 'x', "
    "error_message = 'x' WHERE id = %s",
    State.CANCELED: "UPDATE vidqueue.jobs SET state = 'canceled', fence = NULL, finished_at = now() WHERE id = %s",
}


@pytest.mark.parametrize(
    "change",
    [
        "state = 'running'",
        "fence = 5",
        "finished_at = now()",
        "state = 'failed', finished_at = now()",
        "progress = 1.5",
        "failures = 4",
        "input = '[]'",
        "priority = 5000",
        "device = 'tpu'",
    ],
)
async def test_the_database_refuses_a_row_that_breaks_an_invariant(any_queue: Queue, change: str) -> None:
    job_id = await any_queue.submit()
    with pytest.raises(psycopg.errors.CheckViolation):
        await any_queue.sql(f"UPDATE vidqueue.jobs SET {change} WHERE id = %s", job_id)


# Of each column one value that its limit refuses.
BEYOND_LIMITS = {
    "state": "'odd'",
    "device": "'tpu'",
    "progress": "-0.1",
    "priority": "1001",
    "max_attempts": "101",
    "vram_mb": "-1",
    "timeout_s": "0",
    "stall_timeout_s": "31536001",
    "run_at": "'1900-01-01'",
    "expires_at": "'infinity'",
    "input": "'7'",
    "title": "repeat('x', 501)",
    "source": "repeat('x', 256)",
    "idempotency_key": "''",
    "tags": "ARRAY['a', NULL]",
    "waiting_for": "'Odd words'",
    "suspended_by": "'somebody', suspended_at = now()",
}


async def test_each_limit_of_a_column_bears_its_name(queue: Queue) -> None:
    job_id = await queue.submit()
    for column, value in BEYOND_LIMITS.items():
        with pytest.raises(psycopg.errors.CheckViolation) as refused:
            await queue.sql(f"UPDATE vidqueue.jobs SET {column} = {value} WHERE id = %s", job_id)
        assert refused.value.diag.constraint_name == f"jobs_{column}_check"


@pytest.mark.parametrize(
    "change",
    [
        "number = 0",
        "ended_at = now()",
        "outcome = 'canceled'",
        "ended_at = now(), outcome = 'odd'",
        "ended_at = now(), outcome = 'failed'",
        "ended_at = now(), outcome = 'succeeded', error_code = 'stalled'",
        "ended_at = now(), outcome = 'interrupted'",
        "ended_at = now(), outcome = 'waiting'",
    ],
)
async def test_the_database_refuses_an_attempt_that_breaks_an_invariant(queue: Queue, change: str) -> None:
    await queue.submit()
    await queue.dispatch(await queue.lane())
    with pytest.raises(psycopg.errors.CheckViolation):
        await queue.sql(f"UPDATE vidqueue.attempts SET {change}")


async def test_ids_are_uuid_version_7_and_rise(any_queue: Queue) -> None:
    ids = [await any_queue.submit() for _ in range(20)]
    assert {job_id.version for job_id in ids} == {7}
    assert len(set(ids)) == 20
