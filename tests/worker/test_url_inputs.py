"""Jobs whose input is a URL, on real lanes: fetched, reported, stopped by a cancel, retried without burning."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler
from uuid import UUID

import pytest
import pytest_asyncio

from tests.daemon import promised
from tests.factory import Queue, eventually
from tests.web import Asked, Web, answer, file, serving
from tests.worker.test_lanes import ended, in_stage
from vidqueue.job import State
from vidqueue.jobs import control
from vidqueue.services import Services
from vidqueue.settings.schema import Settings
from vidqueue.worker.guards import Drain
from vidqueue.worker.lanes import open_lanes

CONTENT = os.urandom(100_000)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"fetch": Settings(fetch={"allow": ["127.0.0.1/32"]}).fetch})


@pytest.fixture
def web() -> Iterator[Web]:
    with serving() as running:
        yield running


@pytest_asyncio.fixture
async def zoo(queue: Queue, services: Services) -> AsyncIterator[Queue]:
    async with open_lanes(services, Drain()):
        yield queue


async def read(zoo: Queue, url: str) -> UUID:
    return await zoo.submit(input={"act": "read", "media": url})


async def test_a_job_reads_what_its_url_serves(zoo: Queue, web: Web, services: Services) -> None:
    web.pages["/a.mp4"] = file(CONTENT)
    job = await ended(zoo, await read(zoo, f"{web.url}/a.mp4"))
    assert job.state is State.SUCCEEDED, job.error_message
    (output,) = await zoo.sql("SELECT f.* FROM vidqueue.outputs o JOIN vidqueue.files f ON f.id = o.file_id")
    assert services.storage.path(output["id"]).read_bytes() == CONTENT
    folder = services.storage.fetch_folder(job.id)
    await eventually(lambda: asyncio.to_thread(lambda: not folder.exists()))
    gone = await ended(zoo, await read(zoo, f"{web.url}/gone.mp4"))
    assert (gone.error_code, gone.failures) == ("url_not_found", 1)
    web.pages["/late.mp4"] = answer(503, b"", Retry_After="1")
    late = await read(zoo, f"{web.url}/late.mp4")
    waiting = await eventually(lambda: _message(zoo, late))
    assert (waiting.state, waiting.failures, waiting.error_code) == (State.QUEUED, 0, None)
    assert "answered 503" in waiting.message
    assert await zoo.violations() == []


async def _message(zoo: Queue, job_id: UUID) -> object:
    job = await zoo.job(job_id)
    return job if job.state is State.QUEUED and job.message else None


async def test_a_cancel_stops_a_download_within_a_second(zoo: Queue, web: Web, services: Services) -> None:
    def trickling(server: BaseHTTPRequestHandler, asked: Asked) -> None:
        server.send_response(200)
        server.send_header("Content-Length", "1000000000")
        server.end_headers()
        try:
            while True:
                server.wfile.write(b"x" * 1000)
                time.sleep(0.01)
        except OSError:
            server.close_connection = True

    web.pages["/a.mp4"] = trickling
    job_id = await read(zoo, f"{web.url}/a.mp4")
    running = await in_stage(zoo, job_id, "fetch")
    assert "of 953.7 MiB from 127.0.0.1" in (running.message or "")
    asked_at = time.monotonic()
    await control.cancel(services.database, job_id, owner="local")
    job = await ended(zoo, job_id)
    assert job.state is State.CANCELED
    assert time.monotonic() - asked_at < promised(1.5)
    folder = services.storage.fetch_folder(job_id)
    await eventually(lambda: asyncio.to_thread(lambda: not folder.exists()))
    assert await zoo.violations() == []
