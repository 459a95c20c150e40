"""Writing into a pipe by reference: the bytes arrive, and a buffer may change once enough is written behind it."""

from __future__ import annotations

import fcntl
import os
import threading

import pytest

from vidqueue.media import page_pipe
from vidqueue.media.page_pipe import PagePipe


class Reading:
    """A pipe, and a thread that reads it to its end."""

    def __init__(self) -> None:
        reading, writing = os.pipe()
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 65_536)
        self.pipe, self.got = PagePipe(writing), b""
        self._file = os.fdopen(reading, "rb")
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        self.got = self._file.read()

    def all(self) -> bytes:
        """What came through, once the writer has closed."""
        self.pipe.close()
        self._thread.join()
        self._file.close()
        return self.got


def test_lent_buffers_arrive_and_may_be_used_again_once_the_next_is_in_the_pipe() -> None:
    reading = Reading()
    ring = [bytearray(100_001) for _ in range(2)]
    expected = b""
    for number in range(20):
        buffer = ring[number % 2]
        # The buffer of the picture before the last one.
        buffer[:] = bytes([number]) * len(buffer)
        reading.pipe.write(b"head")
        assert reading.pipe.lend(memoryview(buffer))
        expected += b"head" + bytes(buffer)
    assert reading.all() == expected


def test_what_fits_into_the_pipe_is_copied_and_may_change_at_once() -> None:
    reading = Reading()
    buffer = bytearray(b"a" * 1000)
    assert not reading.pipe.lend(memoryview(buffer))
    buffer[:] = b"b" * 1000
    assert reading.all() == b"a" * 1000


def test_where_the_kernel_refuses_everything_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    # A flag that no kernel knows.
    monkeypatch.setattr(page_pipe, "_FLAGS", 1 << 30)
    reading = Reading()
    buffer = bytearray(os.urandom(100_000))
    assert not reading.pipe.lend(memoryview(buffer))
    assert not reading.pipe.lend(memoryview(buffer))
    assert reading.all() == bytes(buffer) * 2


def test_a_reader_that_is_gone_is_told() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    pipe = PagePipe(writing)
    with pytest.raises(BrokenPipeError):
        pipe.lend(memoryview(bytearray(2 * pipe.capacity)))
    pipe.close()
