"""The executor's end of the socket to its lane: it receives orders and sends reports, one line of JSON each."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator

from vidqueue.sanitize import Redactor
from vidqueue.worker.executor.messages import Order, Report, decode, encode, storable, without_secrets


class Wire:
    """The socket to the lane. Any thread may send; one thread reads."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self.redactor = Redactor()

    def line(self, report: Report) -> bytes:
        """Return a report as it is sent, without secrets; may raise for what a processor has put into it."""
        # Before a text is cut, which could leave half a secret.
        return encode(storable(without_secrets(report, self.redactor)))

    def send(self, report: Report) -> None:
        """Send one report."""
        self.write(self.line(report))

    def write(self, *lines: bytes) -> None:
        """Send lines that `line` made, at once, so that the lane wakes up once."""
        try:
            with self._lock:
                self._connection.sendall(b"".join(lines))
        except ConnectionError:
            die_with_the_lane()

    def orders(self) -> Iterator[Order]:
        """Yield orders until the lane closes the socket."""
        with self._connection.makefile("rb") as lines:
            for line in lines:
                yield decode(line)


def die_with_the_lane() -> None:
    """Kill this process, whose lane is gone.

    The kernel closes the sockets of a daemon that dies before it kills the daemon's children. Nobody has canceled the
    job then: work that it has begun on a server must go on, because the next attempt looks for it there.
    """
    os.kill(os.getpid(), signal.SIGKILL)
