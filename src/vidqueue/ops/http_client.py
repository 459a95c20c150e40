"""HTTP client for addresses that users name: one exchange at a time, through the address guard, stoppable.

It connects to the address that was checked and never to the name a second time; TLS checks the name. It follows no
redirect, uses no proxy, decompresses nothing, and keeps no connection. It blocks, so it runs in threads of its own.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import httpcore2

from vidqueue.ops.addresses import AddressGuard, Url

CONNECT_S = 10.0


class ExchangeError(Exception):
    """An HTTP exchange failed before the response was complete.

    `refused` says that the same request would break off again, `unsent` that there was no connection to send it over.
    """

    def __init__(self, message: str, *, refused: bool = False, unsent: bool = False) -> None:
        super().__init__(message)
        self.refused = refused
        self.unsent = unsent


class UnknownHostError(ExchangeError):
    """The name of the host does not exist."""


class Stop:
    """Stops an exchange from another thread: it shuts the connection down, so that a blocked read ends at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self.stopped = False

    def stop(self) -> None:
        """End the exchange, now and for ever."""
        with self._lock:
            self.stopped = True
            if self._socket is not None:
                with contextlib.suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)

    def attach(self, connected: socket.socket) -> None:
        """Take a duplicate of the connection's socket: TLS detaches the socket that it wraps."""
        with self._lock:
            self._close()
            self._socket = connected.dup()
        if self.stopped:
            self.stop()

    def detach(self) -> None:
        """Close the duplicate."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


@dataclass(frozen=True, slots=True)
class Answer:
    """The head of a response, with its body as a stream of raw pieces. Header names are lower case."""

    status: int
    headers: dict[str, str]
    body: Iterable[bytes]


class _GuardedBackend(httpcore2.NetworkBackend):
    """Opens connections to permitted addresses only."""

    def __init__(self, guard: AddressGuard, stop: Stop) -> None:
        self._guard = guard
        self._stop = stop

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        last: Exception | None = None
        for address in self._guard.resolve(host, port):
            try:
                stream = httpcore2.SyncBackend().connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                last = error
                continue
            self._stop.attach(stream.get_extra_info("socket"))
            return stream
        assert last is not None
        raise last


@cache
def _tls() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


@contextmanager
def exchange(
    url: Url,
    guard: AddressGuard,
    stop: Stop,
    *,
    method: str = "GET",
    headers: dict[str, str],
    body: bytes | Iterator[bytes] | None = None,
    idle_s: float,
    within_s: float | None = None,
) -> Iterator[Answer]:
    """Send a request and yield the response; the connection is closed after the block.

    Args:
        url: the URL of the request.
        guard: decides which addresses may be connected to.
        stop: ends the exchange from another thread.
        method: of the request.
        headers: of the request.
        body: of the request.
        idle_s: longest time between two pieces of the response, in seconds.
        within_s: longest time for the whole exchange, against servers that send very slowly; None for no limit.

    Raises:
        VidqueueError: `address_forbidden`.
        ExchangeError: the response was not complete.
        OSError: raised in the block, as when what was read cannot be written; it says nothing about the connection.
    """
    timeout = {"connect": CONNECT_S, "read": idle_s, "write": idle_s, "pool": CONNECT_S}
    sent = [*({"Host": url.authority, "Connection": "close", "Accept-Encoding": "identity"} | headers).items()]
    target = httpcore2.URL(scheme=url.scheme, host=url.host, port=url.port, target=url.target)
    backend, in_block = _GuardedBackend(guard, stop), False
    with _stopped_after(within_s, stop) as overdue:
        try:
            with (
                httpcore2.ConnectionPool(ssl_context=_tls(), network_backend=backend, max_connections=1) as pool,
                pool.stream(method, target, headers=sent, content=body, extensions={"timeout": timeout}) as response,
            ):
                answered = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
                in_block = True
                yield Answer(response.status, answered, response.iter_stream())
        except (httpcore2.NetworkError, httpcore2.TimeoutException, httpcore2.ProtocolError, OSError) as error:
            if in_block and isinstance(error, OSError):
                raise
            if overdue.is_set():
                raise ExchangeError(f"{url.host} did not answer in time") from error
            raise _told(error, url.host, stopped=stop.stopped) from error
        finally:
            stop.detach()


@contextmanager
def _stopped_after(seconds: float | None, stop: Stop) -> Iterator[threading.Event]:
    """Stop what the block does after this time, if it is not None; the event tells that."""
    overdue = threading.Event()

    def end() -> None:
        overdue.set()
        stop.stop()

    if seconds is None:
        yield overdue
        return
    clock = threading.Timer(seconds, end)
    clock.daemon = True
    clock.start()
    try:
        yield overdue
    finally:
        clock.cancel()


def _told(error: Exception, host: str, *, stopped: bool) -> ExchangeError:
    cause: BaseException | None = error
    while cause is not None:
        match cause:
            case ssl.SSLCertVerificationError():
                return ExchangeError(f"the certificate of {host} is not valid: {cause.verify_message}", refused=True)
            case socket.gaierror(errno=socket.EAI_NONAME | socket.EAI_NODATA):
                return UnknownHostError(f"there is no host {host}", refused=True)
        cause = cause.__cause__ or cause.__context__
    if stopped:
        return ExchangeError("it was stopped")
    unsent = isinstance(error, httpcore2.ConnectError | httpcore2.ConnectTimeout)
    if isinstance(error, httpcore2.TimeoutException):
        return ExchangeError(f"{host} did not answer in time", unsent=unsent)
    return ExchangeError(f"the connection to {host} broke: {str(error)[:300] or type(error).__name__}", unsent=unsent)
