"""ASGI middleware for every request: request ids, the access log, security headers, checks of Host and Origin."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Iterable

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vidqueue.api.http import problems
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
_SANE_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")

log = structlog.get_logger(__name__)


class RequestLog:
    """Gives each request an id for all its log lines, writes the access log, and answers unexpected exceptions."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request and log its outcome."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _SANE_ID.fullmatch(given) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            await self._tell(scope, receive, send, request_id)

    async def _tell(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        began = time.monotonic()
        # 499 stays when the client leaves before it is answered.
        status = 499

        async def named_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-ID"] = request_id
            await send(message)

        try:
            await self._app(scope, receive, named_send)
        except ClientDisconnect:
            pass
        except Exception:
            log.exception("request_failed", method=scope["method"], path=scope["path"])
            if status != 499:
                raise
            await problems.unexpected(Request(scope))(scope, receive, named_send)
        # What people did to jobs is in the events of the jobs; what went wrong here should be seen without debugging.
        level = "warning" if status >= 500 and scope["path"] not in QUIET_PATHS else "debug"
        getattr(log, level)(
            "request",
            client=_client(scope),
            owner=_owner(scope),
            method=scope["method"],
            # Without the query: people put secrets there.
            path=scope["path"],
            status=status,
            duration_ms=round((time.monotonic() - began) * 1000, 1),
        )


def _owner(scope: Scope) -> str | None:
    """Return the owner of the request; None for endpoints that need no key."""
    principal: Principal | None = scope.get("state", {}).get("principal")
    return principal.owner if principal else None


def _client(scope: Scope) -> str | None:
    """Return the address of the client; None on a socket without one."""
    client = scope.get("client")
    return f"{client[0]}:{client[1]}" if client else None


class SecurityHeaders:
    """Adds security headers to every response that does not set them itself."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""

        async def guarded_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, guarded_send)


class TrustedHosts:
    """Refuses requests whose Host header names another host, which prevents DNS rebinding."""

    def __init__(self, app: ASGIApp, allowed: Iterable[str]) -> None:
        self._app = app
        self._allowed = frozenset(_host_name(host) for host in allowed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "http" and (told := self._refusal(Headers(scope=scope).getlist("host"))):
            await problems.answer(Request(scope), VidqueueError("host_not_allowed", told))(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _refusal(self, hosts: list[str]) -> str | None:
        if len(hosts) > 1:
            # A proxy in front may have judged the other one (RFC 9112, 3.2).
            return "The request has more than one Host header."
        if "*" in self._allowed or _host_name("".join(hosts)) in self._allowed:
            return None
        return f"This daemon is not called {''.join(hosts)[:100]!r}."


class SameSite:
    """Refuses cross-site requests that change something. A client that sends neither header is not a browser."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "http" and scope["method"] not in SAFE_METHODS and _is_foreign(Headers(scope=scope)):
            refusal = VidqueueError("forbidden", "The request comes from a page of another site.")
            await problems.answer(Request(scope), refusal)(scope, receive, send)
            return
        await self._app(scope, receive, send)


def _is_foreign(headers: Headers) -> bool:
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site not in ("same-origin", "none")
    origin = headers.get("origin")
    return origin is not None and origin.partition("://")[2] != headers.get("host")


def _host_name(host: str) -> str:
    """Return a Host header without its port."""
    name, _, port = host.rpartition(":")
    if not name or not (port.isascii() and port.isdecimal()):
        name = host
    return name.lower().rstrip(".")
