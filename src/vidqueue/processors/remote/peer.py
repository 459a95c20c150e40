"""HTTP requests to the server of an operator's configuration: bounded answers, and an end from another thread."""

from __future__ import annotations

import json
import mimetypes
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any
from uuid import uuid4

from vidqueue.errors import VidqueueError
from vidqueue.ops.addresses import AddressGuard, Url, is_url, parse_url
from vidqueue.ops.http_client import Answer, ExchangeError, Stop, exchange

LARGEST_JSON = 16 << 20
REDIRECTS = 5
CHUNK = 1 << 20
# A whole answer may take so many times what may pass between two pieces of it; a file has any time.
WHOLE = 3.0

# The operator named this server: it may be anywhere.
_ANYWHERE = AddressGuard([IPv4Network("0.0.0.0/0"), IPv6Network("::/0")], "")
_PUBLIC = AddressGuard([], "the endpoint's own server")


class PeerError(Exception):
    """The server did not answer, or its answer is no answer to the question.

    `unsent` says that it cannot have seen the request.
    """

    def __init__(self, message: str, *, unsent: bool = False) -> None:
        super().__init__(message)
        self.unsent = unsent


class TooLargeError(PeerError):
    """The answer is larger than what is taken."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: its status, the JSON of its body (None where it is none), and its headers."""

    status: int
    value: Any
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Form:
    """A form (multipart/form-data) with fields, and at most one file."""

    fields: Mapping[str, str]
    file: tuple[str, Path] | None = None


class Peer:
    """A server that is asked over HTTP. Its methods block, for a bounded time between two pieces of an answer.

    `headers` are sent with every request to the server itself, such as a key.
    """

    def __init__(self, url: str, headers: Mapping[str, str] | None = None) -> None:
        self.url = parse_url(url.rstrip("/"))
        self._headers = dict(headers or {})

    def ask(
        self, method: str, path: str, value: Any = None, *, idle_s: float = 10.0, stop: Stop | None = None,
        largest: int = LARGEST_JSON, headers: Mapping[str, str] | None = None,
    ) -> tuple[int, Any]:  # fmt: skip
        """Send JSON and return the status with the JSON of the answer; None for an answer that is not JSON.

        Raises:
            PeerError: there was no whole answer, or it is larger than `largest` bytes.
        """
        reply = self.reply(method, path, value, headers=headers, idle_s=idle_s, stop=stop, largest=largest)
        return reply.status, reply.value

    def reply(
        self, method: str, path: str, value: Any = None, *, headers: Mapping[str, str] | None = None,
        idle_s: float = 10.0, stop: Stop | None = None, largest: int = LARGEST_JSON,
    ) -> Reply:  # fmt: skip
        """Send JSON or a form, and return the whole answer, which has a few times `idle_s` in all.

        Raises:
            PeerError: there was no whole answer, or it is larger than `largest` bytes.
        """
        described, body = _body(value)
        sent = {"Accept": "application/json", **self._headers, **described, **(headers or {})}
        target = self.url.target.rstrip("/") + path
        url = Url(self.url.scheme, self.url.host, self.url.port, target)
        carries_file = isinstance(value, Form) and value.file is not None
        try:
            with exchange(
                url,
                _ANYWHERE,
                stop or Stop(),
                method=method,
                headers=sent,
                body=body,
                idle_s=idle_s,
                within_s=None if carries_file else WHOLE * idle_s,
            ) as answer:
                return Reply(answer.status, _json(b"".join(_bounded(answer.body, largest))), answer.headers)
        except ExchangeError as error:
            raise PeerError(str(error), unsent=error.unsent) from error

    def download(self, reference: str, path: Path, *, largest: int, stop: Stop) -> str:
        """Download a file that the server named into `path`; return its media type.

        The server's own addresses may be anywhere; others must be public.

        Raises:
            PeerError: the file cannot be had whole.
            OSError: it cannot be written.
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
        own = (url.scheme, url.host, url.port) == (self.url.scheme, self.url.host, self.url.port)
        # Its key is for the server alone.
        headers = {"Accept": "*/*"} | (self._headers if own else {})
        with exchange(url, _ANYWHERE if own else _PUBLIC, stop, headers=headers, idle_s=60) as answer:
            yield answer


@contextmanager
def stopped_by(event: threading.Event) -> Iterator[Stop]:
    """A stop for the exchanges of the block, which the event triggers."""
    stop, over = Stop(), threading.Event()

    def watch() -> None:
        while not over.is_set():
            if event.wait(0.2):
                stop.stop()
                return

    watching = threading.Thread(target=watch, name="peer-stop", daemon=True)
    watching.start()
    try:
        yield stop
    finally:
        over.set()


def _body(value: Any) -> tuple[dict[str, str], bytes | Iterator[bytes] | None]:
    """The headers that describe a body, and the body."""
    if value is None:
        return {}, None
    if not isinstance(value, Form):
        return {"Content-Type": "application/json"}, json.dumps(value).encode()
    boundary = uuid4().hex
    head = "".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{text}\r\n'
        for name, text in value.fields.items()
    ).encode()
    tail = f"--{boundary}--\r\n".encode()
    size = len(head) + len(tail)
    if value.file is not None:
        name, path = value.file
        head += _file_head(boundary, name, path)
        tail = b"\r\n" + tail
        size = len(head) + path.stat().st_size + len(tail)
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}", "Content-Length": str(size)}
    return headers, _pieces(head, value.file[1] if value.file else None, tail)


def _file_head(boundary: str, name: str, path: Path) -> bytes:
    media_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    disposition = f'form-data; name="{name}"; filename="{name}{path.suffix}"'
    return f"--{boundary}\r\nContent-Disposition: {disposition}\r\nContent-Type: {media_type}\r\n\r\n".encode()


def _pieces(head: bytes, path: Path | None, tail: bytes) -> Iterator[bytes]:
    yield head
    if path is not None:
        with path.open("rb") as content:
            while piece := content.read(CHUNK):
                yield piece
    yield tail


def _bounded(pieces: Iterable[bytes], largest: int) -> Iterator[bytes]:
    left = largest
    for piece in pieces:
        left -= len(piece)
        if left < 0:
            raise TooLargeError(f"its answer is larger than {largest >> 20} MiB")
        yield piece


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None
