"""Limits of owners: the database keeps them, whichever way a job comes."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import httpx2
import pytest

from tests.api.test_keys import key
from tests.factory import Queue
from vidqueue.api.app import build
from vidqueue.db.pool import Connection
from vidqueue.db.tables import jobs, limits
from vidqueue.db.tables.limits import EVERYBODY_ELSE, OwnerLimits
from vidqueue.errors import VidqueueError
from vidqueue.principal import Role
from vidqueue.services import Services


async def limit(queue: Queue, owner: str, **most: int) -> None:
    async with queue.database.transaction() as connection:
        await limits.set_limits(connection, owner, OwnerLimits(**most))


async def refused(queue: Queue, owner: str) -> VidqueueError:
    with pytest.raises(VidqueueError) as found:
        await queue.submit(owner=owner)
    assert found.value.code == "limit_reached"
    assert owner in found.value.message
    assert found.value.retry_after_s
    return found.value


async def test_more_waiting_jobs_than_allowed_are_refused_until_some_have_gone(any_queue: Queue) -> None:
    await limit(any_queue, "ann", max_queued=2)
    first, _ = [await any_queue.submit(owner="ann") for _ in range(2)]
    await refused(any_queue, "ann")
    await any_queue.submit(owner="bob")
    await any_queue.sql(f"UPDATE vidqueue.jobs SET state = 'canceled', finished_at = now() WHERE id = '{first}'")
    await any_queue.submit(owner="ann")
    await refused(any_queue, "ann")


async def test_those_who_submit_at_once_get_no_more_than_one_after_the_other(any_queue: Queue) -> None:
    await limit(any_queue, EVERYBODY_ELSE, max_queued=3)
    done = await asyncio.gather(*(any_queue.submit(owner="ann") for _ in range(8)), return_exceptions=True)
    assert sum(isinstance(one, VidqueueError) for one in done) == 5


async def test_no_more_than_so_many_may_be_submitted_in_a_minute(any_queue: Queue) -> None:
    await limit(any_queue, EVERYBODY_ELSE, max_per_minute=3)
    await limit(any_queue, "boss")
    for _ in range(3):
        await any_queue.submit(owner="ann")
    await refused(any_queue, "ann")
    for _ in range(5):
        # Limits of one's own take the place of those of everybody else, also where they are none.
        await any_queue.submit(owner="boss")
    with pytest.raises(Exception, match="ann may submit 3 jobs a minute"):
        await any_queue.sql("SELECT vidqueue.submit('zoo', '{}', owner => 'ann')")


async def test_no_more_than_so_many_run_and_the_others_say_why_they_wait(any_queue: Queue) -> None:
    await limit(any_queue, "ann", max_running=1)
    lanes = [await any_queue.lane(f"cpu{number}") for number in range(4)]
    theirs = [await any_queue.submit(owner="ann") for _ in range(3)]
    taken = [await any_queue.dispatch(lane) for lane in lanes]
    (ref,) = [one for one in taken if one is not None]
    assert ref.job_id == theirs[0]
    async with any_queue.database.statement() as connection:
        waiting = await jobs.get(connection, theirs[1])
    assert waiting is not None
    assert waiting.wait_reason == "owner_limit"
    other = await any_queue.submit(owner="bob", priority=-100)
    (given,) = [one for one in [await any_queue.dispatch(lane) for lane in lanes] if one is not None]
    assert given.job_id == other
    await limit(any_queue, "ann", max_running=2)
    (given,) = [one for one in [await any_queue.dispatch(lane) for lane in lanes] if one is not None]
    assert given.job_id == theirs[1]


async def test_two_transactions_do_not_begin_the_same_owners_last_one(any_queue: Queue) -> None:
    await limit(any_queue, "ann", max_running=1)
    lanes = [await any_queue.lane(f"cpu{number}") for number in range(2)]
    for _ in range(2):
        await any_queue.submit(owner="ann")

    async def chosen(connection: Connection, lane: Any) -> list[Any]:
        cursor = await connection.execute("SELECT job_id FROM vidqueue.choose(%s, 30, false)", (lane,))
        return await cursor.fetchall()

    async with any_queue.database.transaction() as one:
        assert await chosen(one, lanes[0])
        async with any_queue.database.transaction() as two:
            assert not await chosen(two, lanes[1])


async def test_a_limit_is_429_over_http_and_an_upload_is_refused_before_it_is_read(
    services: Services, queue: Queue
) -> None:
    app = build(services)
    boss, ann = await key(services, "boss", Role.ADMIN), await key(services, "ann")
    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
        body = {"max_queued": 1, "max_stored_bytes": 10}
        assert (await client.put("/v1/limits/ann", json=body, headers=ann)).status_code == 403
        assert (await client.put("/v1/limits/ann", json=body, headers=boss)).json()["max_queued"] == 1
        job = {"processor": "zoo", "input": {}}
        batch = await client.post("/v1/batches", json={"jobs": [job, job]}, headers=ann)
        assert (batch.status_code, batch.json()["code"]) == (429, "limit_reached")
        assert int(batch.headers["Retry-After"]) > 0
        assert (await client.post("/v1/jobs", json=job, headers=ann)).status_code == 202
        assert (await client.post("/v1/jobs", json=job, headers=ann)).status_code == 429
        assert (await client.post("/v1/files", content=b"x" * 11, headers=ann)).status_code == 429
        assert (await client.post("/v1/files", content=b"x" * 10, headers=ann)).status_code == 201
        assert (await client.post("/v1/files", content=b"x", headers=ann)).status_code == 429
        page = (await client.get("/submit", headers=ann)).text
        (token,) = set(re.findall(r'name="token" value="([^"]+)"', page))
        form = {"data": {"token": token}, "files": [("f.media", ("a.txt", b"x", "text/plain"))]}
        by_page = await client.post("/submit/zoo", headers=ann, **form)  # type: ignore[arg-type]
        assert (by_page.status_code, "ann may store at most 0 more bytes" in by_page.text) == (429, True)
        listed = (await client.get("/v1/limits", headers=boss)).json()["limits"]
        assert [one["owner"] for one in listed] == ["ann"]
        assert (await client.delete("/v1/limits/ann", headers=boss)).status_code == 204
        assert (await client.delete("/v1/limits/ann", headers=boss)).status_code == 404
        assert (await client.post("/v1/files", content=b"x", headers=ann)).status_code == 201
