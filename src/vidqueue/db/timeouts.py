"""Bounds in time for a connection: libpq has no read timeout, and a frozen server must not freeze the daemon."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg


class SilentError(psycopg.OperationalError):
    """The server did not answer in time, and the connection was closed."""


@contextmanager
def hung_up_after(
    seconds: float, *connections: psycopg.AsyncConnection[Any]
) -> Iterator[Callable[[psycopg.AsyncConnection[Any]], None]]:
    """Close the connections that the block uses after `seconds`; yields a function that adds a connection.

    Cancelling would not do: psycopg asks the server for leave to cancel, and a frozen one keeps it waiting.

    Raises:
        SilentError: in place of what the block raised, once they were hung up.
    """
    held, late = [*connections], False

    def hang_up() -> None:
        nonlocal late
        late = True
        for connection in held:
            _shut_down(connection)

    timer = asyncio.get_running_loop().call_later(seconds, hang_up)
    try:
        yield held.append
    except psycopg.OperationalError as error:
        if late:
            raise SilentError(f"no answer within {seconds:g} s") from error
        raise
    finally:
        timer.cancel()


def _shut_down(connection: psycopg.AsyncConnection[Any]) -> None:
    """Shut the socket down without closing its descriptor, which the event loop still watches."""
    with (
        contextlib.suppress(OSError, psycopg.OperationalError),
        socket.socket(fileno=os.dup(connection.fileno())) as end,
    ):
        end.shutdown(socket.SHUT_RDWR)
