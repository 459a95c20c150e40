"""The executor's reports to its lane, one line of JSON each."""

from __future__ import annotations

import os
import signal
import socket
import threading

from vidqueue.sanitize import Redactor
from vidqueue.worker.executor.messages import Report, encode, storable, without_secrets


class Wire:
    """The socket to the lane. Any thread may send."""

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


def die_with_the_lane() -> None:
    """Kill this process, whose lane is gone.

    The kernel closes the sockets of a daemon that dies before it kills the daemon's children. Nobody has canceled the
    job then: work that it has begun on a server must go on, because the next attempt looks for it there.
    """
    os.kill(os.getpid(), signal.SIGKILL)
