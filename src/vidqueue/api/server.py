"""The HTTP half of a daemon: uvicorn on the daemon's own event loop, without its signal handlers."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import uvicorn

from vidqueue.api.app import build, end_streams
from vidqueue.services import Services


class CannotListenError(Exception):
    """The address is taken, or is none of this machine's."""


@asynccontextmanager
async def listening(services: Services) -> AsyncIterator[str]:
    """The HTTP half; yields its address.

    Raises:
        CannotListenError: nothing was opened.
    """
    settings = services.settings.api
    is_ipv6 = ":" in settings.host
    family = socket.AF_INET6 if is_ipv6 else socket.AF_INET
    try:
        listener = socket.create_server((settings.host, settings.port), family=family)
    except OSError as error:
        raise CannotListenError(f"Cannot listen on {settings.host}:{settings.port}: {error.strerror}.") from error
    app = build(services)
    config = uvicorn.Config(
        app,
        http="httptools",
        lifespan="off",
        log_config=None,
        timeout_graceful_shutdown=5,
        server_header=False,
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]), name="http")
    try:
        host = f"[{settings.host}]" if is_ipv6 else settings.host
        yield f"http://{host}:{listener.getsockname()[1]}"
    finally:
        end_streams(app)
        server.should_exit = True
        await asyncio.gather(serving, return_exceptions=True)


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the daemon has its own."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
