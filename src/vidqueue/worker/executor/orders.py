"""The executor's reception of orders: in its main thread while that is idle, in another thread while it works."""

from __future__ import annotations

import os
import select
import socket
import threading
from collections import deque

from vidqueue.worker.executor.messages import CancelJob, Exit, RunJob, decode
from vidqueue.worker.executor.wire import die_with_the_lane

CHUNK = 1 << 20


class Orders:
    """The orders that come through the socket to the lane.

    Both threads wait for the same socket, and the kernel wakes one of them (EPOLLEXCLUSIVE in epoll_ctl(2)): the one
    whose epoll was registered first, if it waits. So an idle main thread takes a job without the other one.

    Attributes:
        canceled: set when the running job is to stop.
        interrupted: set with it when another attempt follows.
    """

    def __init__(self, connection: socket.socket) -> None:
        self.canceled = threading.Event()
        self.interrupted = threading.Event()
        self._connection = connection
        self._lock = threading.Lock()
        self._parts: list[bytes] = []
        self._jobs: deque[RunJob | None] = deque()
        self._ended = False
        # Tells the main thread of a job that the other one has heard, because it came while the main thread worked.
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._idle, self._at_work = select.epoll(), select.epoll()
        self._idle.register(connection, select.EPOLLIN | select.EPOLLEXCLUSIVE)
        self._idle.register(self._bell, select.EPOLLIN)
        self._at_work.register(connection, select.EPOLLIN | select.EPOLLEXCLUSIVE)

    def next(self) -> RunJob | None:
        """Wait for the next job, and return it; None if no more will come. For the main thread."""
        while not self._jobs:
            if any(descriptor == self._bell for descriptor, _ in self._idle.poll()):
                os.eventfd_read(self._bell)
            else:
                self._hear()
        return self._jobs.popleft()

    def listen(self) -> None:
        """Hear what comes while the main thread works. For a thread of its own."""
        while not self._ended:
            self._at_work.poll()
            if self._hear():
                os.eventfd_write(self._bell, 1)

    def _hear(self) -> bool:
        """Take what has arrived; True if there is a job, or the end, for the main thread."""
        with self._lock:
            try:
                received = self._connection.recv(CHUNK, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return bool(self._jobs)  # the other thread was quicker
            except ConnectionError:
                received = b""
            if not received and not self._ended:
                die_with_the_lane()
            self._parts.append(received)
            if b"\n" in received:
                *lines, rest = b"".join(self._parts).split(b"\n")
                self._parts = [rest]
                for line in lines:
                    self._take(line)
            return bool(self._jobs)

    def _take(self, line: bytes) -> None:
        match decode(line):
            case RunJob() as job:
                # A cancel that crossed with the end of the last job must not stop this one.
                self.canceled.clear()
                self.interrupted.clear()
                self._jobs.append(job)
            case CancelJob(goes_on):
                if goes_on:
                    self.interrupted.set()
                self.canceled.set()
            case Exit():
                self._ended = True
                self.canceled.set()
                self._jobs.append(None)
