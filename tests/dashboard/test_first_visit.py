"""The first page says how to begin, until somebody has."""

from __future__ import annotations

import httpx2

from tests.factory import Queue
from vidqueue.api.app import build
from vidqueue.services import Services


async def test_an_empty_queue_shows_where_to_begin(services: Services, queue: Queue) -> None:
    transport = httpx2.ASGITransport(app=build(services))
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
        empty = (await client.get("/")).text
        assert "Submit the first job" in empty
        assert 'class="figure" href="/jobs?state=failed"' in empty
        await queue.submit()
        begun = (await client.get("/")).text
    assert "Submit the first job" not in begun
    assert 'class="figure queued" href="/jobs?state=queued"' in begun
