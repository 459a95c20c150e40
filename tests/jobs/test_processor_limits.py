"""Limits of processors: what all jobs of one together may have, whoever owns them."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2
import pytest

from tests.api.test_keys import key
from tests.factory import Queue
from vidqueue.api.app import build
from vidqueue.db.pool import Connection
from vidqueue.db.tables import limits
from vidqueue.db.tables.limits import ProcessorLimits
from vidqueue.errors import VidqueueError
from vidqueue.principal import Role
from vidqueue.services import Services

BOTH = {"zoo": "1.0", "other": "1.0"}


async def limit(queue: Queue, **most: int) -> None:
    async with queue.database.transaction() as connection:
        await limits.set_of_processor(connection, "zoo", ProcessorLimits(**most))


async def dispatched(queue: Queue, lanes: list[Any]) -> list[Any]:
    taken = [await queue.dispatch(lane) for lane in lanes]
    return [one.job_id for one in taken if one is not None]


async def test_submits_beyond_the_waiting_ones_and_those_of_a_minute_are_refused(any_queue: Queue) -> None:
    await limit(any_queue, max_queued=3)
    done = await asyncio.gather(
        *(any_queue.submit(owner=owner) for owner in ("ann", "bob") * 4), return_exceptions=True
    )
    refused = [one for one in done if isinstance(one, VidqueueError)]
    assert len(refused) == 5
    assert {(one.code, one.retry_after_s) for one in refused} == {("limit_reached", 10)}
    await any_queue.submit(processor="other")
    await any_queue.sql(
        "UPDATE vidqueue.jobs SET state = 'canceled', finished_at = now() WHERE owner IN ('ann', 'bob')"
    )
    await any_queue.submit(owner="cid")

    await limit(any_queue, max_per_minute=5)
    await any_queue.submit(owner="ann")
    with pytest.raises(Exception, match="5 jobs of the processor zoo may be submitted a minute"):
        await any_queue.sql("SELECT vidqueue.submit('zoo', '{}', owner => 'bob')")
    async with any_queue.database.transaction() as connection:
        assert await limits.remove_of_processor(connection, "zoo")
    await any_queue.submit(owner="ann")


async def test_no_more_than_so_many_run_and_jobs_of_other_processors_pass_them(any_queue: Queue) -> None:
    await limit(any_queue, max_running=1)
    lanes = [await any_queue.lane(f"cpu{number}", processors=BOTH) for number in range(4)]
    theirs = [await any_queue.submit(owner=owner, priority=10) for owner in ("ann", "bob", "cid")]
    other = await any_queue.submit(processor="other")
    assert await dispatched(any_queue, lanes) == [theirs[0], other]
    assert (await any_queue.job(theirs[1])).wait_reason == "processor_limit"
    await limit(any_queue, max_running=2)
    assert await dispatched(any_queue, lanes) == [theirs[1]]
    await limit(any_queue)
    assert await dispatched(any_queue, lanes) == [theirs[2]]


async def test_two_transactions_do_not_begin_a_processors_last_one_nor_walk_the_line_for_it(any_queue: Queue) -> None:
    await limit(any_queue, max_running=1)
    lanes = [await any_queue.lane(f"cpu{number}") for number in range(2)]
    await any_queue.sql(
        "SELECT vidqueue.submit('zoo', '{}', owner => 'owner' || n % 2) FROM generate_series(1, 600) AS n"
    )
    await any_queue.sql("ANALYZE vidqueue.jobs")

    async def pages_of_choosing(connection: Connection, lane: Any) -> tuple[int, int]:
        text = "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT job_id FROM vidqueue.choose(%s, 30, false)"
        (explained,) = await (await connection.execute(text, (lane,))).fetchall()
        plan = explained["QUERY PLAN"][0]["Plan"]
        return plan["Actual Rows"], plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]

    async with any_queue.database.transaction() as one, any_queue.database.transaction() as two:
        # A session that chooses for the first time reads the catalog, too.
        for connection in (one, two):
            async with connection.transaction(force_rollback=True):
                await pages_of_choosing(connection, lanes[0])
        given, first = await pages_of_choosing(one, lanes[0])
        assert given == 1
        given, pages = await pages_of_choosing(two, lanes[1])
        assert given == 0
        assert pages < 1.2 * first


async def test_jobs_for_a_gpu_wait_when_the_processor_has_used_up_the_day(any_queue: Queue) -> None:
    await limit(any_queue, max_gpu_s_per_day=100)
    gpu = await any_queue.lane("gpu0", device="gpu", vram_mb=1000, processors=BOTH)
    cpu = await any_queue.lane("cpu0")
    await any_queue.submit(owner="ann", device="gpu")
    ref = await any_queue.dispatch(gpu)
    assert ref is not None
    await any_queue.begin(ref)
    await any_queue.sql("UPDATE vidqueue.attempts SET started_at = clock_timestamp() - interval '150 s'")
    await any_queue.sql("UPDATE vidqueue.attempts SET ended_at = clock_timestamp(), outcome = 'succeeded'")
    await any_queue.sql(
        "UPDATE vidqueue.jobs SET state = 'succeeded', fence = NULL, finished_at = now() WHERE id = %s", ref.job_id
    )
    waiting = await any_queue.submit(owner="bob", device="gpu")
    assert await any_queue.dispatch(gpu) is None
    assert (await any_queue.job(waiting)).wait_reason == "processor_limit"
    # Neither other processors nor other lanes are meant.
    (used,) = await any_queue.sql("SELECT hour + interval '24 hours' AS until FROM vidqueue.processor_gpu_hours")
    assert (await any_queue.job(waiting)).opens_at == used["until"]
    other = await any_queue.submit(processor="other", device="gpu")
    on_cpu = await any_queue.submit()
    assert await dispatched(any_queue, [gpu, cpu]) == [other, on_cpu]
    await any_queue.sql("UPDATE vidqueue.processor_gpu_hours SET hour = hour - interval '25 hours'")
    assert await dispatched(any_queue, [await any_queue.lane("gpu1", device="gpu", vram_mb=1000)]) == [waiting]


async def test_over_http_a_limit_of_a_processor_is_429_for_everybody(services: Services, queue: Queue) -> None:
    app = build(services)
    boss, ann, bob = await key(services, "boss", Role.ADMIN), await key(services, "ann"), await key(services, "bob")
    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
        address, body = "/v1/processors/zoo/limits", {"max_queued": 1}
        assert (await client.put(address, json=body, headers=ann)).status_code == 403
        assert (await client.put("/v1/processors/none/limits", json=body, headers=boss)).status_code == 422
        assert (await client.put(address, json=body, headers=boss)).json()["max_queued"] == 1
        job = {"processor": "zoo", "input": {}}
        assert (await client.post("/v1/jobs", json=job, headers=ann)).status_code == 202
        refused = await client.post("/v1/jobs", json=job, headers=bob)
        assert (refused.status_code, refused.json()["code"]) == (429, "limit_reached")
        assert int(refused.headers["Retry-After"]) > 0
        batch = await client.post("/v1/batches", json={"jobs": [job]}, headers=bob)
        assert batch.status_code == 429
        listed = (await client.get("/v1/limits", headers=boss)).json()
        assert [one["processor"] for one in listed["processors"]] == ["zoo"]
        assert (await client.delete(address, headers=boss)).status_code == 204
        assert (await client.delete(address, headers=boss)).status_code == 404
        assert (await client.post("/v1/jobs", json=job, headers=bob)).status_code == 202
