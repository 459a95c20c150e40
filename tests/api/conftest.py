"""The HTTP door on real rooms: called in process where that is enough, over a socket where the wire matters."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx2
import pytest
import pytest_asyncio
from starlette.applications import Starlette

from tests.factory import Queue
from vidqueue.api.app import build
from vidqueue.api.server import listening
from vidqueue.services import Services


@pytest.fixture
def app(services: Services, queue: Queue) -> Starlette:
    """The application; its queue knows the processor `zoo`."""
    del queue
    return build(services)


@pytest_asyncio.fixture
async def client(app: Starlette) -> AsyncIterator[httpx2.AsyncClient]:
    """A client in the same process."""
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=True)
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as opened:
        yield opened


@pytest_asyncio.fixture
async def server(services: Services, queue: Queue) -> AsyncIterator[str]:
    """Address of a real server."""
    del queue
    async with listening(services) as url:
        yield url


@pytest_asyncio.fixture
async def wire(server: str) -> AsyncIterator[httpx2.AsyncClient]:
    """A client over a real socket."""
    async with httpx2.AsyncClient(base_url=server, timeout=20) as opened:
        yield opened
