"""HTTP client of the daemon. Errors become CommandErrors; a job is the JSON object that the daemon sent."""

from __future__ import annotations

import os
import string
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from typing import Any, TypeAlias
from urllib.parse import quote, urlsplit

import httpx2

from vidqueue import __version__
from vidqueue.cli.error_messages import from_problem
from vidqueue.cli.exits import CommandError, Exit

Job: TypeAlias = dict[str, Any]

FINAL = frozenset({"succeeded", "failed", "canceled"})
PAGE = 200
# Addresses whose POST makes something that has an owner.
_MAKES = frozenset({"/v1/jobs", "/v1/batches", "/v1/files", "/v1/files/from-hash", "/v1/uploads"})

_EXITS = {401: Exit.NOT_PERMITTED, 403: Exit.NOT_PERMITTED, 404: Exit.NOT_FOUND, 429: Exit.BUSY, 503: Exit.BUSY}


class Client:
    """One daemon. Use it in a `with` block. What it makes belongs to `owner`, by default to the owner of the key."""

    def __init__(self, url: str, *, api_key: str | None = None, owner: str | None = None) -> None:
        self.url = url.rstrip("/")
        self.owner = owner
        # A daemon at a loopback address probably runs on this machine, but a tunnel may lead to another one.
        self.is_local = _is_local(_host(self.url))
        key = api_key or os.environ.get("VIDQUEUE_API_KEY")
        headers = {"User-Agent": f"vidqueue-cli/{__version__}"} | ({"Authorization": f"Bearer {key}"} if key else {})
        self._http = httpx2.Client(
            base_url=self.url,
            headers=headers,
            timeout=httpx2.Timeout(30, connect=5),
            # A proxy from the environment cannot reach this machine.
            trust_env=not self.is_local,
        )

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def get(self, path: str, **query: Any) -> Any:
        """The JSON at `path`. Query parameters of None are left out."""
        given = {name: value for name, value in query.items() if value is not None}
        # An empty set of parameters would take away those that stand in the path.
        return self.call("GET", path, params=given or None)

    def call(self, method: str, path: str, **request: Any) -> Any:
        """Send one request and return the JSON of the answer, None where it has no body.

        Raises:
            CommandError: the daemon does not answer, or it refused the request.
        """
        if self.owner is not None and method == "POST" and path in _MAKES:
            request["params"] = {"owner": self.owner}
        with self._telling():
            response = self._http.request(method, _sendable(path), **request)
        require_success(response)
        try:
            return response.json() if response.content else None
        except ValueError:
            raise CommandError(f"What answers at {self.url} is not a vidqueue daemon.", exit=Exit.UNAVAILABLE) from None

    @contextmanager
    def stream(self, path: str, **request: Any) -> Iterator[httpx2.Response]:
        """A response that is read as it arrives. The caller handles transport errors inside the block."""
        with self._http.stream("GET", _sendable(path), **request) as response:
            if response.is_error:
                response.read()
            require_success(response)
            yield response

    @contextmanager
    def download(self, path: str) -> Iterator[httpx2.Response]:
        """A response with the bytes at `path`. Transport errors become CommandErrors."""
        with self._telling(), self.stream(path) as response:
            yield response

    def job(self, job_id: str) -> Job:
        """One job."""
        found: Job = self.get(f"/v1/jobs/{job_id}")
        return found

    def jobs(self, *, limit: int | None, **filters: Any) -> Iterator[Job]:
        """Jobs, newest first, read page by page. A `limit` of None means all of them."""
        left = limit
        page = self.get("/v1/jobs", limit=PAGE if left is None else min(left, PAGE), **filters)
        while True:
            shown = page["jobs"][:left]
            yield from shown
            left = None if left is None else left - len(shown)
            if not page["next"] or left == 0:
                return
            page = self.get(page["next"])

    @contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except UnicodeEncodeError as error:
            piece = error.object[max(0, error.start - 20) : error.end + 20]
            message = f"{piece!r} is not valid text (UTF-8), and cannot be sent to the daemon."
            raise CommandError(message, exit=Exit.USAGE) from None
        except httpx2.ConnectError:
            raise CommandError(
                f"No daemon answers at {self.url}.",
                exit=Exit.UNAVAILABLE,
                hint="Start one with `vidqueue serve`, or give its address with --url or $VIDQUEUE_URL.",
            ) from None
        except httpx2.TransportError as error:
            raise CommandError(
                f"The connection to {self.url} was lost: {error or type(error).__name__}.",
                exit=Exit.UNAVAILABLE,
                hint="Try again. `vidqueue list` shows which jobs were accepted.",
            ) from None


def _sendable(path: str) -> str:
    """The path with characters encoded that no address has: words of the command line become parts of it."""
    return quote(path, safe=string.punctuation, errors="surrogateescape")


def require_success(response: httpx2.Response) -> None:
    """Check that a response reports success.

    Raises:
        CommandError: with the message of the daemon.
    """
    if response.is_success:
        return
    problem = _problem(response)
    message, details, hint = from_problem(response.status_code, problem, response.request.url.path)
    hint = hint.replace(_LATER, _when(response.headers.get("Retry-After", "")))
    code = problem.get("code", "")
    refused = Exit.USAGE if code in ("invalid_request", "invalid_params") else Exit.ERROR
    errors = [one for one in problem.get("errors") or () if isinstance(one, dict)]
    faults = {str(one.get("pointer")): str(one.get("detail")) for one in errors}
    raise CommandError(
        message, exit=_EXITS.get(response.status_code, refused), hint=hint, code=code, details=details, faults=faults
    )


# In hints of the daemon for clients that see its headers.
_LATER = "after the time in Retry-After"


def _when(given: str) -> str:
    return f"in {int(given)} s" if given.isdecimal() else "later"


def _problem(response: httpx2.Response) -> dict[str, Any]:
    """The problem document (RFC 9457) of an error response; empty if the response has none."""
    try:
        body = response.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _host(url: str) -> str:
    try:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https") and parts.hostname:
            return parts.hostname
    except ValueError:
        pass
    hint = "An address begins with http:// or https://; see --url and $VIDQUEUE_URL."
    raise CommandError(f"{url!r} is not the address of a daemon.", exit=Exit.USAGE, hint=hint)


def _is_local(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
