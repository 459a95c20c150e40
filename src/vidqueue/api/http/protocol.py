"""HTTP/1.1 on one connection: uvicorn's httptools protocol, bounded in bytes and in time.

uvicorn reads a request line and headers of any size, waits for them for ever, and reads on in a body that nobody
wants. All three are bounded here, without trust in what the parser counts: it joins the pieces of one header again
at every piece, so a header that does not end costs time that grows with the square of its size.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any

import httptools
from starlette.requests import Request
from starlette.types import Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from vidqueue.api.http import problems
from vidqueue.api.http.connections import Acceptor
from vidqueue.api.http.middleware import QUIET_PATHS
from vidqueue.errors import VidqueueError

URL_LIMIT = 16 * 1024
HEADERS_LIMIT = 100
HEAD_LIMIT = 64 * 1024
HEAD_TIMEOUT_S = 10.0
RESERVED_HEAD_TIMEOUT_S = 2.0
# What is read of a body after the request was answered, so that the client gets to read the answer.
DRAIN_LIMIT = 8 * 1024 * 1024
DRAIN_TIMEOUT_S = 5.0
# A client that reads nothing of an answer for so long is cut off.
WRITE_TIMEOUT_S = 60.0
# Requests that may wait on one connection for the answer to an earlier one.
PIPELINE_LIMIT = 16


class BoundedProtocol(HttpToolsProtocol):
    """One connection. A `reserved` one was accepted beyond the limit, and is answered only if it asks for a probe."""

    def __init__(self, config: Config, state: ServerState, acceptor: Acceptor, *, reserved: bool) -> None:
        super().__init__(config=config, server_state=state, app_state={"users": {}})
        self._acceptor = acceptor
        self._places = acceptor.reserved if reserved else acceptor.ordinary
        self._head_timeout_s = RESERVED_HEAD_TIMEOUT_S if reserved else HEAD_TIMEOUT_S
        if reserved:
            self.app = self._answer_probes_only
        # For the head of a request, or for the rest of a body that nobody reads: there is never both.
        self._deadline: asyncio.TimerHandle | None = None
        self._write_deadline: asyncio.TimerHandle | None = None
        # The request that is being answered; `cycle` is the newest one, which may wait behind it.
        self._answering: RequestResponseCycle | None = None
        self._refusal: VidqueueError | None = None
        self._refused = False
        self._in_head = False
        self._in_body = False
        self._head_size = 0
        self._drained = 0
        # Bytes since the last piece of a body or the begin of a request, and whether this piece brought either.
        self._idle_bytes = 0
        self._moved = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the timeout for the first request."""
        super().connection_made(transport)
        self._places.idle(self)
        self._set_deadline(self._head_timeout_s)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop counting the connection, and cancel its timeouts."""
        self._set_deadline(None)
        self.resume_writing()
        self._places.leave(self)
        self.pipeline.clear()
        if self._answering is not None and not self._answering.response_complete:
            self._answering.disconnected = True
            self._answering.message_event.set()
        super().connection_lost(exc)
        # The descriptor is closed after this returns.
        self.loop.call_soon(self._acceptor.refill)

    def give_way(self) -> None:
        """Close the connection at once."""
        if self.transport is not None:
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Parse received bytes; refuse what is malformed or beyond the limits."""
        self._unset_keepalive_if_required()
        if self._refused:
            self._drain(len(data))
            return
        self._moved = False
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # No other protocol is spoken here, so the request is answered as if it had not asked.
            self.cycle.keep_alive = False
        except httptools.HttpParserError:
            self._refuse(self._refusal or VidqueueError("bad_request", "The request is not valid HTTP/1.1."))
            return
        self._idle_bytes = 0 if self._moved else self._idle_bytes + len(data)
        if self._idle_bytes > HEAD_LIMIT:
            self._refuse(_too_large() if self._in_head else VidqueueError("bad_request", "The body is malformed."))
        elif self._is_answered() and self._in_body:
            self._drain(len(data))
        elif self._is_answered() and self._deadline is None:
            self._set_deadline(self._head_timeout_s)

    def on_message_begin(self) -> None:
        """Reset the limits for a new request."""
        self._moved, self._in_head, self._head_size = True, True, 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Take a part of the request target."""
        if len(self.url) + len(url) > URL_LIMIT:
            self._stop(VidqueueError("uri_too_long", f"The address has more than {URL_LIMIT} bytes."))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header, or a trailer after a body."""
        self._head_size += len(name) + len(value)
        if self._head_size > HEAD_LIMIT or len(self.headers) >= HEADERS_LIMIT:
            self._stop(_too_large())
        # The parser keeps blank space behind a value, which is no part of it (RFC 9110, 5.5).
        value = value.rstrip(b" \t")
        if name.lower() == b"transfer-encoding" and value.lower() != b"chunked":
            # The parser takes `gzip, chunked` too, and the body would be stored as it came.
            self._stop(VidqueueError("bad_request", "Only chunked is supported as Transfer-Encoding."))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Start to answer the request, or queue it behind the one before it."""
        if len(self.pipeline) >= PIPELINE_LIMIT:
            self._stop(VidqueueError("bad_request", f"More than {PIPELINE_LIMIT} requests wait on one connection."))
        super().on_headers_complete()
        if not self.pipeline:
            self._answering = self.cycle
        self._in_head, self._in_body = False, True
        self._set_deadline(None)
        self._places.busy(self)

    def on_body(self, body: bytes) -> None:
        """Take a part of a body."""
        self._moved = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note the end of the request."""
        super().on_message_complete()
        self._in_body, self._drained = False, 0
        if self._is_answered():
            self._set_deadline(None)

    def on_response_complete(self) -> None:
        """Mark the connection as idle; limit the time for the rest of an unread body."""
        if self.pipeline:
            self._answering = self.pipeline[-1][0]
        super().on_response_complete()
        if self._is_answered() and not self.transport.is_closing():
            self._places.idle(self)
            if self._in_body:
                self._unset_keepalive_if_required()
                self._set_deadline(DRAIN_TIMEOUT_S)

    def pause_writing(self) -> None:
        """Start the timeout for a client that reads too slowly."""
        super().pause_writing()
        self._write_deadline = self.loop.call_later(WRITE_TIMEOUT_S, self.give_way)

    def resume_writing(self) -> None:
        """Cancel the timeout, because the client reads again."""
        super().resume_writing()
        if self._write_deadline is not None:
            self._write_deadline.cancel()
            self._write_deadline = None

    def _is_answered(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _set_deadline(self, seconds: float | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = None if seconds is None else self.loop.call_later(seconds, self._on_deadline)

    def _on_deadline(self) -> None:
        self._deadline = None
        if self._refused or self._in_body:
            self.give_way()
        elif self._in_head:
            self._refuse(
                VidqueueError("request_timeout", f"The headers were not complete after {self._head_timeout_s:g} s.")
            )
        else:
            self.transport.close()

    def _drain(self, size: int) -> None:
        self._drained += size
        if self._drained > DRAIN_LIMIT:
            self.give_way()

    def _stop(self, refusal: VidqueueError) -> None:
        """Stop the parser from inside a callback."""
        self._refusal = refusal
        raise httptools.HttpParserError(refusal.message)

    def _refuse(self, refusal: VidqueueError) -> None:
        """Answer a request that cannot be read, and stop reading."""
        self._refused = True
        if not self._is_answered() and not self._in_body:
            # The answer to an earlier request is still to come, and this request gets none.
            self.cycle.keep_alive = False
            return
        answerable = not self.pipeline and (self._is_answered() or not self.cycle.response_started)
        if not self._is_answered():
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if answerable:
            self.transport.write(_raw(refusal))
            # Only our half: the client gets to read the answer while it still sends.
            self.transport.write_eof()
            self._set_deadline(DRAIN_TIMEOUT_S)
        else:
            self.transport.close()

    async def _answer_probes_only(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] in QUIET_PATHS:
            await self.config.loaded_app(scope, receive, send)
            return
        self.cycle.keep_alive = False
        refusal = VidqueueError("overloaded", "Every connection of the daemon is in use.")
        await problems.answer(Request(scope), refusal)(scope, receive, send)


def _too_large() -> VidqueueError:
    return VidqueueError(
        "headers_too_large", f"The headers have more than {HEAD_LIMIT} bytes, or are more than {HEADERS_LIMIT}."
    )


def _raw(refusal: VidqueueError) -> bytes:
    """Return the bytes of a whole response, for a request that could not be parsed."""
    body = problems.problem(refusal).model_dump_json().encode()
    lines: list[Any] = [
        f"HTTP/1.1 {refusal.status} {HTTPStatus(refusal.status).phrase}",
        f"Content-Type: {problems.MEDIA_TYPE}",
        f"Content-Length: {len(body)}",
        "Connection: close",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body
