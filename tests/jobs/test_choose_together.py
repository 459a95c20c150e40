"""Lanes that end their attempts together take the jobs that they would have taken one after the other."""

from __future__ import annotations

from uuid import UUID

import pytest

from tests.factory import Queue

LANES = 4
SITUATIONS = {
    "one line": "SELECT 1 AS one",
    "fewer jobs than lanes": "DELETE FROM vidqueue.jobs WHERE priority < 7",
    "no jobs": "DELETE FROM vidqueue.jobs",
    "two owners": "SELECT vidqueue.submit('zoo', '{}', owner => 'other', priority => 5)",
    "two kinds of jobs": "SELECT vidqueue.submit('zoo', '{}', lane => 'cpu2', priority => 9)",
    "a paused lane": "UPDATE vidqueue.lanes SET paused = true WHERE name = 'cpu1'",
    "a blocked lane": "UPDATE vidqueue.lanes SET blocked_by = 'gpu_lost' WHERE name = 'cpu0'",
    "lanes that may not": "UPDATE vidqueue.lanes SET processors = '{}' WHERE name <> 'cpu3'",
    "a paused processor": "INSERT INTO vidqueue.pauses (processor) VALUES ('zoo')",
    "a limit of an owner": "INSERT INTO vidqueue.owner_limits (owner, max_running) VALUES ('local', 2)",
    "a limit of a processor": "INSERT INTO vidqueue.processor_limits (processor, max_running) VALUES ('zoo', 1)",
    "a job whose time has come": """UPDATE vidqueue.jobs SET run_at = now() + interval '0.1 s' WHERE priority = 9;
                                  SELECT pg_sleep(0.1)""",
    "a job that is too late": "UPDATE vidqueue.jobs SET expires_at = now() - interval '1 s' WHERE priority = 9",
}


async def taken(queue: Queue, query: str, lanes: list[UUID]) -> list[dict[str, object]]:
    """What these lanes take, and what the rows say then; the transaction is rolled back."""
    async with queue.database.transaction() as connection:
        found = await (await connection.execute(query.encode(), {"lanes": lanes})).fetchall()
        rows = await connection.execute(
            """SELECT j.id, j.priority, a.lane, a.started_at IS NOT NULL AS begun, o.served_at >= now() AS served,
                      jsonb_strip_nulls(to_jsonb(j)) - '{fence, started_at, lane}'::text[] AS row
               FROM vidqueue.jobs j JOIN vidqueue.attempts a ON a.job_id = j.id AND a.fence = j.fence
               JOIN vidqueue.owners o ON o.name = j.owner ORDER BY j.rank, j.id"""
        )
        told = await rows.fetchall()
        assert {one["job_id"]: one["place"] for one in found} == {one["id"]: int(one["lane"][3:]) + 1 for one in told}
        await connection.execute("ROLLBACK")
        await connection.execute("BEGIN")
    return told


@pytest.mark.parametrize("situation", SITUATIONS)
async def test_lanes_take_together_what_they_would_take_one_after_the_other(queue: Queue, situation: str) -> None:
    lanes = [await queue.lane(f"cpu{number}") for number in range(LANES)]
    for priority in (3, 9, 1, 5, 7, 8):
        await queue.sql("SELECT vidqueue.submit('zoo', '{}', priority => %s)", priority)
    await queue.sql(SITUATIONS[situation])
    one_by_one = """SELECT p.place, c.job_id FROM unnest(%(lanes)s::uuid[]) WITH ORDINALITY AS p (lane, place)
                    CROSS JOIN LATERAL vidqueue.choose(p.lane, 30, true) c"""
    together = "SELECT c.place, c.job_id FROM vidqueue.choose_together(%(lanes)s::uuid[], 30) c"
    assert await taken(queue, together, lanes) == await taken(queue, one_by_one, lanes)
