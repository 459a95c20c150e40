"""The HTTP server of a daemon: uvicorn on the daemon's own event loop, without its signal handlers."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import uvicorn

from vidqueue.api.app import build, end_streams
from vidqueue.api.http.connections import BACKLOG, Acceptor, most_connections
from vidqueue.api.http.protocol import BoundedProtocol
from vidqueue.db.pool import Database
from vidqueue.services import Services

# Connections for reading and submitting single jobs.
JOB_CONNECTIONS = 4


class CannotListenError(Exception):
    """The address is in use, or does not belong to this machine."""


@asynccontextmanager
async def listening(services: Services) -> AsyncIterator[str]:
    """Run the HTTP server; yield its address.

    Raises:
        CannotListenError: nothing was opened.
    """
    settings = services.settings.api
    is_ipv6 = ":" in settings.host
    listener = _listen(settings.host, settings.port, socket.AF_INET6 if is_ipv6 else socket.AF_INET)
    # Its statements are few and looked up by id, so they keep their plans.
    async with Database(
        services.database.url,
        pool_size=JOB_CONNECTIONS,
        query_timeout_s=services.database.query_timeout_s,
        keep_plans=True,
        by_index=True,
    ) as job_pool:
        services.pools["jobs"] = job_pool
        app = build(services, job_pool)
        services.on_reload.append(app.state.openapi.forget)
        config = uvicorn.Config(
            app,
            lifespan="off",
            # uvicorn would begin no request that asks for a websocket, and leave it to another protocol than ours.
            ws="none",
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=5,
            server_header=False,
        )
        descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        server = _Server(config, most_connections(settings.max_connections, descriptors))
        serving = asyncio.create_task(server.serve(sockets=[listener]), name="http")
        try:
            host = f"[{settings.host}]" if is_ipv6 else settings.host
            yield f"http://{host}:{listener.getsockname()[1]}"
        finally:
            end_streams(app)
            server.exit()
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
        # Now: whoever is told the address may come before the server accepts.
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise CannotListenError(f"Cannot listen on {host}:{port}: {error.strerror}.") from error
    return listener


class _Server(uvicorn.Server):
    """uvicorn with bounded connections, and without its signal handlers: the daemon has its own."""

    def __init__(self, config: uvicorn.Config, limit: int) -> None:
        super().__init__(config)
        self._limit = limit
        self._exiting = asyncio.Event()

    def exit(self) -> None:
        """Make `serve` return once the requests in progress are answered."""
        self.should_exit = True
        self._exiting.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        assert sockets is not None
        (listener,) = sockets

        def make(reserved: bool) -> BoundedProtocol:
            return BoundedProtocol(self.config, self.server_state, acceptor, reserved=reserved)

        acceptor = Acceptor(listener, make, limit=self._limit)
        acceptor.start()
        self.servers = [acceptor]  # type: ignore[list-item]  # it has the two methods that uvicorn calls
        self.started = True

    async def main_loop(self) -> None:
        """Renew the Date header once a second; uvicorn's own loop wakes up ten times a second."""
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await self._exiting.wait()
