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
    listener = _listen(settings.host, settings.port, socket.AF_INET6 if is_ipv6 else socket.AF_INET)
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


def _listen(host: str, port: int, family: socket.AddressFamily) -> socket.socket:
    # asyncio sets TCP_NODELAY on an accepted socket only if the listener names TCP as its protocol. One made by
    # socket.create_server() does not, and every answer then waited 40 ms for the client's delayed ACK.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((host, port))
        # Now: whoever is told the address may come before uvicorn listens.
        listener.listen()
    except OSError as error:
        listener.close()
        raise CannotListenError(f"Cannot listen on {host}:{port}: {error.strerror}.") from error
    return listener


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the daemon has its own."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
