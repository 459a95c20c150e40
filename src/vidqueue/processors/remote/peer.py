"""HTTP requests to the server of an operator's configuration: bounded answers, and an end from another thread."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any

from vidqueue.errors import VidqueueError
from vidqueue.ops.addresses import AddressGuard, Url, is_url, parse_url
from vidqueue.ops.http_client import Answer, ExchangeError, Stop, exchange

LARGEST_JSON = 16 << 20
REDIRECTS = 5

# The operator named this server: it may be anywhere.
_ANYWHERE = AddressGuard([IPv4Network("0.0.0.0/0"), IPv6Network("::/0")], "")
_PUBLIC = AddressGuard([], "the endpoint's own server")


class PeerError(Exception):
    """The server did not answer, or its answer is no answer to the question."""


class Peer:
    """A server that is asked over HTTP. Its methods block, for a bounded time between two pieces of an answer."""

    def __init__(self, url: str) -> None:
        self.url = parse_url(url.rstrip("/"))

    def ask(
        self, method: str, path: str, value: Any = None, *, idle_s: float = 10.0, stop: Stop | None = None,
        largest: int = LARGEST_JSON,
    ) -> tuple[int, Any]:  # fmt: skip
        """Send JSON and return the status with the JSON of the answer; None for an answer that is not JSON.

        Raises:
            PeerError: there was no whole answer, or it is larger than `largest` bytes.
        """
        body = None if value is None else json.dumps(value).encode()
        headers = {"Accept": "application/json"} | ({"Content-Type": "application/json"} if body is not None else {})
        target = self.url.target.rstrip("/") + path
        url = Url(self.url.scheme, self.url.host, self.url.port, target)
        try:
            with exchange(
                url, _ANYWHERE, stop or Stop(), method=method, headers=headers, body=body, idle_s=idle_s
            ) as answer:
                return answer.status, _json(b"".join(_bounded(answer.body, largest)))
        except ExchangeError as error:
            raise PeerError(str(error)) from error

    def download(self, reference: str, path: Path, *, largest: int, stop: Stop) -> str:
        """Download a file that the server named into `path`; return its media type.

        The server's own addresses may be anywhere; others must be public.

        Raises:
            PeerError: the file cannot be had whole.
        """
        try:
            url = parse_url(reference) if is_url(reference) else self.url.join(reference)
            for _ in range(REDIRECTS):
                with self._file(url, stop) as answer:
                    if answer.status in (301, 302, 303, 307, 308) and (location := answer.headers.get("location")):
                        url = url.join(location)
                        continue
                    if answer.status != 200:
                        raise PeerError(f"{url.label} answered {answer.status}")
                    with path.open("wb") as file:
                        for piece in _bounded(answer.body, largest):
                            file.write(piece)
                    return answer.headers.get("content-type", "").partition(";")[0].strip()
        except (ExchangeError, VidqueueError) as error:
            raise PeerError(str(error)) from error
        raise PeerError(f"{reference[:200]} redirects too often")

    @contextmanager
    def _file(self, url: Url, stop: Stop) -> Iterator[Answer]:
        guard = _ANYWHERE if (url.host, url.port) == (self.url.host, self.url.port) else _PUBLIC
        with exchange(url, guard, stop, headers={"Accept": "*/*"}, idle_s=60) as answer:
            yield answer


def _bounded(pieces: Iterable[bytes], largest: int) -> Iterator[bytes]:
    left = largest
    for piece in pieces:
        left -= len(piece)
        if left < 0:
            raise PeerError(f"its answer is larger than {largest >> 20} MiB")
        yield piece


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None
