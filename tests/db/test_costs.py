"""No question reads more because the queue or its history is long.

Each named reading query is planned without regard to its values, as PostgreSQL does after some calls, and run on a
database with some ten thousand rows. It may not scan a table that grows, and may read only so many rows and pages.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
import pytest_asyncio
from psycopg.types.json import Jsonb

from tests.conftest import TEMPLATE, in_database
from vidqueue.db import queries

FINISHED, WAITING = 12_000, 3_000
# STEPS are rows of all nodes of a plan: a join may go over a list of a thousand once, but not once for each job.
ROWS, PAGES, STEPS = 3_500, 1_500, 25_000
GROWS = {
    "jobs",
    "events",
    "attempts",
    "attempt_logs",
    "files",
    "outputs",
    "job_tags",
    "job_files",
    "job_hours",
    "usage_hours",
    "wait_hours",
    "eta_hours",
    "lane_work_hours",
}
FILL = Path(__file__).parents[2] / "benchmarks" / "fill.sql"
# What reads history, and says so where it is asked for.
READS_HISTORY = {
    ("retention", "bytes_here"), ("files", "count_of_node"), ("files", "usage"), ("system", "miscounted"),
    ("system", "violations_of_jobs"), ("system", "violations_between_jobs"),
}  # fmt: skip
# They look for no rows, or by id only, and want values of their own or no savepoint.
OTHERS = {
    ("files", "delete_many"), ("lanes", "offer"), ("reports", "set_prices"), ("schedules", "change"),
    ("system", "export_snapshot"),
}  # fmt: skip

LONG_AGO, NOW = datetime(2000, 1, 1, tzinfo=UTC), datetime.now(UTC)
VALUES: dict[str, Any] = {
    "owner": "local", "processor": "rare", "tag": "nightly", "states": ["failed", "queued"], "limit": 50,
    "before": UUID(int=(1 << 128) - 1), "from": UUID(int=0), "created_after": LONG_AGO, "created_before": NOW,
    "number": 0, "name": "video", "node": UUID("00000000-0000-7000-8000-00000000000b"), "key": "k",
    "after_id": UUID(int=0),
    "keep": FINISHED - 300, "lease_s": 30, "machine": "m", "with_offline": True, "since": NOW, "attempt": 1,
    "jobs_days": 90, "logs_days": 30, "events_days": 30, "uploads_days": 30, "jobs": 1000, "patience_s": 30,
    "process": "p", "count": 3, "fence": 1, "names": ["video"], "sha256": "0" * 64, "url_sha256": "0" * 64,
    "hash": "0" * 64,
    "host": "testhost", "state": "pending", "text": "broke", "now": NOW, "folder": "inbox", "after_path": "",
    "kind": "music", "kinds": ["music", "material"],
}  # fmt: skip
NEW_JOB = {"processor": "rare", "device": "cpu", "input": {}, "tags": [], "vram_mb": 0}
# The same word for other things, by the family of the queries.
OF_FAMILY: dict[str, dict[str, Any]] = {
    "retention": {"before": NOW - timedelta(days=29), "after": LONG_AGO},
    "files": {"after": UUID(int=0)},
    "attempts": {"after": 0},
    "jobs": {"after": UUID(int=0), "jobs": Jsonb([NEW_JOB | {"priority": priority} for priority in (0, 0, 5)])},
    "system": {"after": UUID(int=0)},
    "lanes": {
        "job": Jsonb({"processor": "rare", "device": "cpu", "unmet": 0, "attempt": 0, "vram_mb": 0, "owner": "local"})
    },
    # As many events as a process reads at a time.
    "metrics": {"number": 38_000, "upto": 39_000},
    # The hours of a day.
    "reports": {"since": NOW - timedelta(days=1), "until": NOW, "lanes": 6},
}


def asking() -> Iterator[tuple[str, str]]:
    """Every query that looks for rows, to return, change or delete them; inserts look for none but their place."""
    for family in queries.families():
        for name, text in queries.load(family).items():
            inserts = re.search(r"\bINSERT\b|vidqueue\.accept\w*\(", re.sub(r"--.*", "", text))
            if not inserts or "position" in text:
                yield family, name


@pytest_asyncio.fixture(scope="module", loop_scope="session", params=["analyzed", "filled since it was analyzed"])
async def filled_url(any_server_url: str, request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """A database with history, on each PostgreSQL, whose statistics may still be those of a nearly empty one."""
    is_analyzed = request.param == "analyzed"
    name = f"test_{uuid4().hex[:12]}"
    async with await psycopg.AsyncConnection.connect(any_server_url, autocommit=True) as connection:
        await connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{TEMPLATE}"'.encode())
    url = in_database(any_server_url, name)
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        cursor = psycopg.AsyncClientCursor(connection)
        if not is_analyzed:
            await cursor.execute(FILL.read_bytes(), {"finished": 9, "waiting": 0})
            await connection.execute("VACUUM ANALYZE")
            for table in sorted(GROWS):
                await connection.execute(f"ALTER TABLE vidqueue.{table} SET (autovacuum_enabled = off)".encode())
        await cursor.execute(FILL.read_bytes(), {"finished": FINISHED, "waiting": WAITING})
        # As the daemon does it, an hour at a time.
        for kept, counted in (("usage", "usage"), ("wait", "waits"), ("eta", "eta")):
            text = f"INSERT INTO vidqueue.{kept}_hours SELECT * FROM vidqueue.{counted}_counted WHERE hour < now()"
            await connection.execute(text.encode())
        await connection.execute(
            "INSERT INTO vidqueue.lane_work_hours SELECT * FROM vidqueue.lane_work_counted WHERE ended_hour < now()"
        )
        await connection.execute("UPDATE vidqueue.usage_settled SET upto = vidqueue.hour_of(now())")
        if is_analyzed:
            await connection.execute("VACUUM ANALYZE")
    yield url
    async with await psycopg.AsyncConnection.connect(any_server_url, autocommit=True) as connection:
        await connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The plan and everything below it."""
    yield plan
    for below in plan.get("Plans", []):
        yield from nodes(below)


def pages(node: dict[str, Any]) -> int:
    """How many pages a node has read, with everything below it. Writing to each index of a row does not count."""
    if node["Node Type"] == "ModifyTable":
        return sum(map(pages, node.get("Plans", [])))
    return int(node["Shared Hit Blocks"] + node["Shared Read Blocks"])


def rows_made(node: dict[str, Any]) -> int:
    """How many rows a node of a plan has looked at: those that it returned, and those that did not fit."""
    removed = ("Rows Removed by Filter", "Rows Removed by Index Recheck", "Rows Removed by Join Filter")
    looked_at: float = node["Actual Rows"] + sum(node.get(why, 0) for why in removed)
    return round(looked_at * float(node["Actual Loops"]))


def rows_read(plan: dict[str, Any]) -> int:
    """How many rows were read from tables and indexes, with those that did not fit."""
    return sum(rows_made(node) for node in nodes(plan) if "Relation Name" in node)


async def values_of(connection: psycopg.AsyncConnection[Any], family: str) -> dict[str, Any]:
    """What a query is asked with: the last job in the line, and some others. What it would write may be NULL."""
    cursor = await connection.execute("SELECT id FROM vidqueue.jobs WHERE ready ORDER BY rank DESC LIMIT 1")
    (last,) = await cursor.fetchone() or (None,)
    cursor = await connection.execute(
        "(SELECT id FROM vidqueue.jobs ORDER BY id LIMIT 25) UNION ALL "
        "(SELECT id FROM vidqueue.jobs ORDER BY id DESC LIMIT 25)"
    )
    some = [id_ for (id_,) in await cursor.fetchall()]
    known = {
        "id": last,
        "job_id": some[0],
        "ids": some,
        "job_ids": some,
        "schemas": ["vidqueue"],
        "after": some[-1],
        "upto": some[-1],
        "batch": last,
    }
    return VALUES | known | OF_FAMILY.get(family, {})


async def explained(
    connection: psycopg.AsyncConnection[Any], statement: str, values: Sequence[object] = ()
) -> dict[str, Any]:
    """The plan of a statement that is run twice and taken back; the first time it reads the catalog."""
    cursor = psycopg.AsyncClientCursor(connection)
    for _ in range(2):
        await connection.execute("SAVEPOINT before")
        await cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}".encode(), values)
        ((answer,),) = await cursor.fetchall()
        await connection.execute("ROLLBACK TO before")
    plan: dict[str, Any] = answer[0]["Plan"]
    return plan


@pytest.mark.parametrize(("family", "name"), sorted(set(asking()) - READS_HISTORY - OTHERS), ids=lambda word: word)
async def test_a_question_reads_little_however_long_the_queue_is(filled_url: str, family: str, name: str) -> None:
    names: dict[str, int] = {}
    text = re.sub(r"%\((\w+)\)s", lambda m: f"${names.setdefault(m[1], len(names) + 1)}", queries.load(family)[name])
    async with await psycopg.AsyncConnection.connect(filled_url) as connection:
        values = await values_of(connection, family)
        await connection.execute("SET plan_cache_mode = force_generic_plan")
        await connection.execute(f"PREPARE asked AS {text}".replace("%%", "%").encode())
        given = f"({', '.join(['%s'] * len(names))})" if names else ""
        plan = await explained(connection, f"EXECUTE asked {given}", [values.get(word) for word in names])
        await connection.rollback()
    # An empty table is scanned too, and costs nothing.
    scans = {node["Relation Name"] for node in nodes(plan) if node["Node Type"] == "Seq Scan" and pages(node) > 1}
    assert not scans & GROWS, json.dumps(plan, indent=1)
    assert pages(plan) <= PAGES, json.dumps(plan, indent=1)
    assert rows_read(plan) <= ROWS, json.dumps(plan, indent=1)
    assert sum(map(rows_made, nodes(plan))) <= STEPS, json.dumps(plan, indent=1)


async def test_what_is_left_out_is_still_there() -> None:
    assert set(asking()) >= READS_HISTORY | OTHERS


LANES = [f"00000000-0000-7000-8000-00000000000{n}" for n in "abcd"]
OPEN_LANES = """
    INSERT INTO vidqueue.lanes (id, node, host, name, device, takes, queue)
    SELECT id::uuid, gen_random_uuid(), 'new', id, 'cpu', '{cpu}', id FROM unnest(%s::text[]) AS id
    ON CONFLICT DO NOTHING;
    UPDATE vidqueue.lanes SET state = 'online', processors = '{"bench": "1", "second": "1", "rare": "1"}'
"""
NOT_IN_ONE_LINE = "DELETE FROM vidqueue.jobs WHERE ready AND (owner, processor) <> ('local', 'bench')"
SETTLED = "SELECT * FROM vidqueue.settle_together(%s::uuid[], %s::integer[], %s::bigint[], %s::jsonb[], %s::uuid[], 30)"


@pytest.mark.parametrize("lines", ["one line", "many lines"])
async def test_dispatch_reads_little_however_long_the_queue_is(filled_url: str, lines: str) -> None:
    async with await psycopg.AsyncConnection.connect(filled_url) as connection:
        cursor = psycopg.AsyncClientCursor(connection)
        await cursor.execute(OPEN_LANES.encode(), [LANES])
        if lines == "one line":
            await cursor.execute(NOT_IN_ONE_LINE.encode())
        one = [await explained(connection, f"SELECT * FROM vidqueue.choose('{LANES[0]}', 30, true)") for _ in range(3)]
        await cursor.execute("SELECT * FROM vidqueue.choose_together(%s::uuid[], 30) ORDER BY place", [LANES])
        begun = [row[1:4] for row in await cursor.fetchall()]
        ending = Jsonb({"state": "succeeded", "metrics": {}, "outputs": [], "usage": {}})
        values = [*map(list, zip(*begun, strict=True)), [ending] * len(LANES), LANES]
        four = [await explained(connection, SETTLED, values) for _ in range(3)]
        await connection.rollback()
    assert {plan["Actual Rows"] for plan in one} == {1}
    assert {plan["Actual Rows"] for plan in four} == {len(LANES)}
    # Some of them clean up what others have left. What ends is written too, and other jobs begin.
    assert min(map(pages, one)) <= 700, one
    assert min(map(pages, four)) <= 2000, four


async def test_a_submit_reads_little_however_many_files_there_are(filled_url: str) -> None:
    async with await psycopg.AsyncConnection.connect(filled_url) as connection:
        await connection.execute(
            "INSERT INTO vidqueue.processors (name, device, description) VALUES ('bench', 'cpu', '')"
        )
        cursor = await connection.execute("SELECT id FROM vidqueue.files WHERE owner = 'local' LIMIT 1")
        (file_id,) = await cursor.fetchone() or (None,)
        asked = "SELECT * FROM vidqueue.accept('bench', %s, owner => 'local')"
        plan = await explained(connection, asked, [Jsonb({"video": f"vq:files/{file_id}"})])
        await connection.rollback()
    assert plan["Actual Rows"] == 1
    assert pages(plan) <= 150, plan
