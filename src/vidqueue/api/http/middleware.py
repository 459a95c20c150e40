"""What every request passes on its way to an endpoint: its id, checks of Host and Origin, routing, the access log.

One ASGI application, called for each request; a stack of middleware would cost more than the answer to many a request.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Iterable

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message, Receive, Scope, Send

from vidqueue.api.http import problems
from vidqueue.api.http.routing import Routes
from vidqueue.errors import VidqueueError
from vidqueue.principal import Principal

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
QUIET_PATHS = frozenset({"/healthz", "/readyz", "/metrics"})
SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; "
        "frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
_RAW_SECURITY_HEADERS = [(name.lower().encode(), value.encode()) for name, value in SECURITY_HEADERS.items()]
_SANE_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
# The status in the log of a request whose client left before it was answered.
_LEFT = 499

log = structlog.get_logger(__name__)
_logger = logging.getLogger(__name__)


class Requests:
    """Answers every request: by its endpoint, or with the problem that it meets on its way there."""

    def __init__(self, routes: Routes, allowed_hosts: Iterable[str]) -> None:
        self._routes = routes
        self._allowed_hosts = frozenset(_host_name(host) for host in allowed_hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request and log its outcome."""
        if scope["type"] != "http":
            return
        began, answer = time.monotonic(), _Answer(scope, send)
        named = structlog.contextvars.bind_contextvars(request_id=answer.request_id)
        try:
            await self._answer(scope, receive, answer)
        except ClientDisconnect:
            pass
        except Exception:
            log.exception("request_failed", method=scope["method"], path=scope["path"])
            if answer.has_begun:
                raise
            await problems.unexpected(Request(scope))(scope, receive, answer.send)
        finally:
            _log(scope, answer.status, time.monotonic() - began)
            structlog.contextvars.reset_contextvars(**named)

    async def _answer(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        try:
            self._refuse_foreign(scope)
            await self._routes(scope, receive, answer.send)
        except (VidqueueError, HTTPException) as error:
            if answer.has_begun:
                raise
            await problems.refused(Request(scope), error)(scope, receive, answer.send)

    def _refuse_foreign(self, scope: Scope) -> None:
        """Refuse other names of this host, which prevents DNS rebinding, and changes that pages of other sites send.

        Raises:
            VidqueueError: `host_not_allowed`, `forbidden`.
        """
        hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        if len(hosts) > 1:
            # A proxy in front may have judged the other one (RFC 9112, 3.2).
            raise VidqueueError("host_not_allowed", "The request has more than one Host header.")
        host = "".join(hosts)
        if "*" not in self._allowed_hosts and _host_name(host) not in self._allowed_hosts:
            raise VidqueueError("host_not_allowed", f"This daemon is not called {host[:100]!r}.")
        if scope["method"] not in SAFE_METHODS and _is_foreign(scope, host):
            raise VidqueueError("forbidden", "The request comes from a page of another site.")


class _Answer:
    """The answer to one request: it gets the request's id and the security headers that it does not set itself."""

    def __init__(self, scope: Scope, send: Send) -> None:
        given = header_of(scope, b"x-request-id") or b""
        self.request_id = given.decode() if _SANE_ID.fullmatch(given) else os.urandom(16).hex()
        scope.setdefault("state", {})["request_id"] = self.request_id
        self.status = _LEFT
        self._send = send

    @property
    def has_begun(self) -> bool:
        """True once the status was sent."""
        return self.status != _LEFT

    async def send(self, message: Message) -> None:
        """Send a part of the answer."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = list(message.get("headers", ()))
            given = {name for name, _ in headers}
            headers += [header for header in _RAW_SECURITY_HEADERS if header[0] not in given]
            headers.append((b"x-request-id", self.request_id.encode()))
            message["headers"] = headers
        await self._send(message)


def header_of(scope: Scope, wanted: bytes) -> bytes | None:
    """Return the first header of this name, which is given in lower case."""
    return next((value for name, value in scope["headers"] if name == wanted), None)


def _log(scope: Scope, status: int, seconds: float) -> None:
    # What people did to jobs is in the events of the jobs; what went wrong here should be seen without debugging.
    level = logging.WARNING if status >= 500 and scope["path"] not in QUIET_PATHS else logging.DEBUG
    if not _logger.isEnabledFor(level):
        return
    log.log(
        level,
        "request",
        client=_client(scope),
        owner=_owner(scope),
        method=scope["method"],
        # Without the query: people put secrets there.
        path=scope["path"],
        status=status,
        duration_ms=round(seconds * 1000, 1),
    )


def _owner(scope: Scope) -> str | None:
    """Return the owner of the request; None for endpoints that need no key."""
    principal: Principal | None = scope.get("state", {}).get("principal")
    return principal.owner if principal else None


def _client(scope: Scope) -> str | None:
    """Return the address of the client; None on a socket without one."""
    client = scope.get("client")
    return f"{client[0]}:{client[1]}" if client else None


def _is_foreign(scope: Scope, host: str) -> bool:
    """True if a browser sends the request for a page of another site; other clients send neither header."""
    site = header_of(scope, b"sec-fetch-site")
    if site is not None:
        return site not in (b"same-origin", b"none")
    origin = header_of(scope, b"origin")
    return origin is not None and origin.decode("latin-1").partition("://")[2] != host


def _host_name(host: str) -> str:
    """Return a Host header without its port."""
    name, _, port = host.rpartition(":")
    if not name or not (port.isascii() and port.isdecimal()):
        name = host
    return name.lower().rstrip(".")
