"""Previews over HTTP: the newest picture of a running job, and nothing else."""

from __future__ import annotations

import httpx2

from tests.factory import Queue
from vidqueue.db.tables import outputs
from vidqueue.job import Interrupted
from vidqueue.jobs.finish import finish
from vidqueue.services import Services

ONE, OTHER = b"\xff\xd8\xff1\xff\xd9", b"\xff\xd8\xff2\xff\xd9"


async def test_a_preview_is_served_until_its_attempt_ends(
    client: httpx2.AsyncClient, queue: Queue, services: Services
) -> None:
    job_id = await queue.submit()
    address = f"/v1/jobs/{job_id}/preview"
    assert (await client.get(f"/v1/jobs/{job_id}")).json()["urls"]["preview"] == address
    assert (await client.get(address)).json()["code"] == "not_found"
    ref = await queue.dispatch(await queue.lane())
    assert ref is not None
    tags = []
    for picture in (ONE, OTHER):
        async with services.database.statement() as connection:
            await outputs.save_preview(connection, ref, picture)
        answer = await client.get(address)
        assert (answer.status_code, answer.content) == (200, picture)
        assert answer.headers["content-type"] == "image/jpeg"
        assert answer.headers["x-content-type-options"] == "nosniff"
        tags.append(answer.headers["etag"])
    assert [(await client.get(address, headers={"If-None-Match": tag})).status_code for tag in tags] == [200, 304]
    assert (await client.head(address)).status_code == 200
    await finish(services.database, services.storage, ref, Interrupted("the daemon shuts down"))
    assert (await client.get(address)).status_code == 404
