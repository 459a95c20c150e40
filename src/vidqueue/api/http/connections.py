"""Accepts HTTP connections within a limit, and keeps a few for probes when all others are taken.

asyncio's own accept loop has neither: it accepts until no descriptor is left, and then logs thousands of lines a
second. Here the connection that has been idle longest is closed when a new one finds no place. Where every connection
is at work, or no descriptor is left, a new one is answered only if it asks for a probe.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import Callable
from typing import Protocol

import structlog

from vidqueue.ops.log_throttle import ThrottledEvent

# Connections that are kept for probes, each with a descriptor.
RESERVED = 8
# Descriptors that the daemon needs for other things than connections, and the share of the rest that connections get:
# a download or an upload opens a file besides its connection.
OTHER_DESCRIPTORS = 128
SHARE = 0.75
ACCEPTED_AT_ONCE = 64
PAUSE_S = 0.5
BACKLOG = 1024
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

log = structlog.get_logger(__name__)


class Connection(Protocol):
    """The method that `Places` calls on the protocol of a connection."""

    def give_way(self) -> None:
        """Close the connection at once."""


class Places:
    """A bounded number of connections. When all are taken, the one idle longest is closed for a new one."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken: set[Connection] = set()
        self._idle: dict[Connection, None] = {}

    def make_room(self) -> bool:
        """Return True if there is a place for another connection; close an idle connection for it if needed."""
        return len(self._taken) < self._limit or self.evict()

    def evict(self) -> bool:
        """Close the connection that has been idle longest; False if every one is at work."""
        for connection in self._idle:
            self.leave(connection)
            connection.give_way()
            return True
        return False

    def enter(self, connection: Connection) -> None:
        """Count an open connection."""
        self._taken.add(connection)

    def idle(self, connection: Connection) -> None:
        """Note that the connection has no request at work; it may be closed for another one."""
        if connection in self._taken:
            self._idle.pop(connection, None)
            self._idle[connection] = None

    def busy(self, connection: Connection) -> None:
        """Note that the connection has a request at work."""
        self._idle.pop(connection, None)

    def leave(self, connection: Connection) -> None:
        """Stop counting a connection that has closed."""
        self._taken.discard(connection)
        self._idle.pop(connection, None)


class Acceptor:
    """Accepts connections from a listening socket until it is closed.

    `make` makes the protocol of a connection; its argument is True for one that may only ask for a probe.
    """

    def __init__(self, listener: socket.socket, make: Callable[[bool], asyncio.Protocol], *, limit: int) -> None:
        self.ordinary = Places(limit)
        self.reserved = Places(RESERVED)
        self._listener = listener
        self._make = make
        self._loop = asyncio.get_running_loop()
        # Open descriptors of /dev/null: closing one makes room for a probe where no descriptor is left.
        self._spares: list[int] = []
        self._starting: set[asyncio.Task[object]] = set()
        self._refused = ThrottledEvent(log.warning, "connections_refused")
        self._exhausted = ThrottledEvent(log.error, "no_descriptor_for_connection")

    def start(self) -> None:
        """Start to accept connections."""
        self.refill()
        self._listener.setblocking(False)
        self._resume()

    def close(self) -> None:
        """Stop accepting; open connections stay open. Named as asyncio.Server's, because uvicorn calls it."""
        if self._listener.fileno() >= 0:
            self._loop.remove_reader(self._listener.fileno())
            self._listener.close()
        while self._spares:
            os.close(self._spares.pop())

    async def wait_closed(self) -> None:
        """Wait for connections that were accepted and not handed over yet."""
        await asyncio.gather(*self._starting, return_exceptions=True)

    def refill(self) -> None:
        """Open the spare descriptors again; called whenever a connection has closed."""
        with contextlib.suppress(OSError):
            while len(self._spares) < RESERVED and self._listener.fileno() >= 0:
                self._spares.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))

    def _resume(self) -> None:
        if self._listener.fileno() >= 0:
            self._loop.add_reader(self._listener.fileno(), self._accept)

    def _accept(self) -> None:
        for _ in range(ACCEPTED_AT_ONCE):
            if not self._accept_one():
                return

    def _accept_one(self, *, reserved: bool = False) -> bool:
        """Accept one connection; return True if another one may be waiting."""
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return False
        except OSError as error:
            if error.errno not in _EXHAUSTED:
                raise
            return self._without_descriptor(error)
        connection.setblocking(False)
        self._admit(connection, reserved=reserved)
        return True

    def _without_descriptor(self, error: OSError) -> bool:
        self._exhausted.tell(error=error.strerror)
        if self.ordinary.evict():
            # Its descriptor is free in the next round of the event loop, which finds this connection still waiting.
            return False
        if self._spares:
            os.close(self._spares.pop())
            return self._accept_one(reserved=True)
        self._loop.remove_reader(self._listener.fileno())
        self._loop.call_later(PAUSE_S, self._resume)
        return False

    def _admit(self, connection: socket.socket, *, reserved: bool) -> None:
        reserved = reserved or not self.ordinary.make_room()
        places = self.reserved if reserved else self.ordinary
        if reserved:
            self._refused.tell(reason="every connection is in use; only probes are answered")
            if not places.make_room():
                connection.close()
                self.refill()
                return
        protocol = self._make(reserved)
        places.enter(protocol)  # type: ignore[arg-type]
        starting = self._loop.create_task(self._start(connection, protocol, places))
        self._starting.add(starting)
        starting.add_done_callback(self._starting.discard)

    async def _start(self, connection: socket.socket, protocol: asyncio.Protocol, places: Places) -> None:
        try:
            await self._loop.connect_accepted_socket(lambda: protocol, connection)
        except OSError:
            # The client was gone again.
            connection.close()
            places.leave(protocol)  # type: ignore[arg-type]


def most_connections(configured: int, descriptors: int) -> int:
    """Return the limit of open connections: the configured one, or less if the limit of open files is too low."""
    return max(RESERVED, min(configured, int((descriptors - OTHER_DESCRIPTORS) * SHARE)))
