"""Writing pictures into a pipe without copying them: the pipe refers to the pages of their buffers (vmsplice(2)).

A buffer that was lent must not change before its reader has read it. A pipe holds no more bytes than its capacity, so
that is certain once as many bytes have been written behind it.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os

# What a kernel or a container without this call answers.
_REFUSED = frozenset({errno.ENOSYS, errno.EPERM, errno.EINVAL})
_FLAGS = 0


class _Part(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class PagePipe:
    """The writing end of a pipe, which it closes.

    Attributes:
        capacity: the most bytes that wait in it.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lends = True
        self._call = ctypes.CDLL(None, use_errno=True).vmsplice
        self._call.restype = ctypes.c_ssize_t
        self.capacity: int = fcntl.fcntl(descriptor, fcntl.F_GETPIPE_SZ)

    def write(self, data: bytes | memoryview) -> None:
        """Write a copy of these bytes.

        Raises:
            BrokenPipeError: nobody reads any more.
        """
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]

    def lend(self, data: memoryview) -> bool:
        """Write these bytes by reference; False if they were copied, so that they may change at once.

        Raises:
            BrokenPipeError: nobody reads any more.
        """
        if not self._lends or len(data) < self.capacity:
            self.write(data)
            return False
        place = ctypes.addressof(ctypes.c_char.from_buffer(data))
        done = 0
        while done < len(data):
            part = _Part(place + done, len(data) - done)
            written = self._call(self._descriptor, ctypes.byref(part), 1, _FLAGS)
            if written >= 0:
                done += written
            elif (number := ctypes.get_errno()) in _REFUSED and not done:
                self._lends = False
                self.write(data)
                return False
            elif number != errno.EINTR:
                raise OSError(number, os.strerror(number))
        return True

    def close(self) -> None:
        """Close it."""
        os.close(self._descriptor)
