"""HTTP client of one ComfyUI server: its queue, history, files and node descriptions. Every call blocks, in bounds."""

from __future__ import annotations

import ipaddress
import json
import mimetypes
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode
from uuid import uuid4

from vidqueue.errors import VidqueueError
from vidqueue.ops.addresses import AddressGuard, parse_url
from vidqueue.ops.http_client import Answer, ExchangeError, Stop, exchange

Graph = dict[str, dict[str, Any]]

# /object_info of a server with hundreds of node packages has some ten MiB.
LONGEST_JSON = 64 << 20
IDLE_S = 20.0
CHUNK = 1 << 20

# The operator named these servers: their addresses need no permission.
_GUARD = AddressGuard([ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0")], "comfyui.servers")


class AwayError(Exception):
    """The server does not answer, or does not answer as ComfyUI does."""


class DeniedError(Exception):
    """The server refuses a request: status and body of its answer."""

    def __init__(self, status: int, body: Any) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status
        self.body = body


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file on the server, as its history names it."""

    filename: str
    subfolder: str
    kind: str


@dataclass(frozen=True, slots=True)
class Line:
    """The server's queue: ids of the prompts that run, and of those that wait."""

    running: tuple[str, ...]
    pending: tuple[str, ...]

    def __contains__(self, prompt_id: object) -> bool:
        return prompt_id in self.running or prompt_id in self.pending

    @property
    def empty(self) -> bool:
        """True if the server has nothing to do."""
        return not self.running and not self.pending


class Client:
    """HTTP client of one server. `idle_s` is the longest gap in a response, which may take 3 times that."""

    def __init__(self, url: str, *, idle_s: float = IDLE_S) -> None:
        self.url = url.rstrip("/")
        self._idle_s = idle_s

    def line(self) -> Line:
        """Return the queue."""
        found = self._object(self._get("/queue"))
        return Line(*(_ids(found.get(name)) for name in ("queue_running", "queue_pending")))

    def history(self, prompt_id: str) -> dict[str, Any] | None:
        """Return what is kept of a prompt that has ended; None if it has not, or is not known."""
        try:
            found = self._object(self._get(f"/history/{quote(prompt_id)}")).get(prompt_id)
        except DeniedError as error:
            if error.status != 404:
                raise
            return None
        return found if isinstance(found, dict) else None

    def last_graph(self) -> Graph:
        """Return the graph that ran last; empty if none did since the server started."""
        entries = list(self._object(self._get("/history?max_items=1")).values())
        prompt = entries[-1].get("prompt") if entries and isinstance(entries[-1], dict) else None
        graph = prompt[2] if isinstance(prompt, list) and len(prompt) > 2 else None
        return graph if isinstance(graph, dict) else {}

    def object_info(self) -> dict[str, Any]:
        """Return the descriptions of all nodes."""
        return self._object(self._get("/object_info"))

    def submit(self, graph: Graph, prompt_id: str, client_id: str) -> str:
        """Queue a graph and return its id, which an old server may choose itself.

        Raises:
            DeniedError: the server does not accept the graph.
        """
        body = {"prompt": graph, "client_id": client_id, "prompt_id": prompt_id}
        answer = self._object(self._post("/prompt", body))
        if answer.get("node_errors"):
            raise DeniedError(400, answer)
        return str(answer.get("prompt_id") or prompt_id)

    def cancel(self, prompt_id: str) -> None:
        """Stop a prompt, wherever it is by now. A newer server does so in one step."""
        try:
            self._post(f"/api/jobs/{quote(prompt_id)}/cancel", {})
        except DeniedError:
            self._post("/queue", {"delete": [prompt_id]})
            if prompt_id in self.line().running:
                self._post("/interrupt", {"prompt_id": prompt_id})

    def free(self) -> None:
        """Have the server unload its models and forget its cached results."""
        self._post("/free", {"unload_models": True, "free_memory": True})

    def upload(self, path: Path, name: str, check: Callable[[], None]) -> str:
        """Upload an input and return the name that a loader takes. `check` is called between pieces, and may raise.

        Raises:
            DeniedError: the server does not take it, for its size for example.
        """
        boundary = uuid4().hex
        head, tail = _multipart(boundary, name)
        size = len(head) + path.stat().st_size + len(tail)
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}", "Content-Length": str(size)}

        def body() -> Iterator[bytes]:
            yield head
            with path.open("rb") as content:
                while chunk := content.read(CHUNK):
                    check()
                    yield chunk
            yield tail

        with self._asked("POST", "/upload/image", headers, body()) as answer:
            stored = self._object(_json(answer))
        return "/".join(part for part in (stored.get("subfolder"), stored.get("name")) if part)

    def download(self, file: RemoteFile, path: Path, *, limit: int, check: Callable[[], None]) -> str:
        """Download a file and return its media type; `check` is called between pieces, and may raise.

        Raises:
            DeniedError: the server does not deliver it.
            VidqueueError: `output_too_large`.
        """
        query = urlencode({"filename": file.filename, "subfolder": file.subfolder, "type": file.kind})
        received = 0
        with self._asked("GET", f"/view?{query}", {}) as answer, path.open("wb") as target:
            if answer.status != 200:
                raise DeniedError(answer.status, None)
            for chunk in answer.body:
                check()
                received += len(chunk)
                if received > limit:
                    raise VidqueueError("output_too_large", f"{file.filename} is larger than {limit >> 20} MiB.")
                target.write(chunk)
            told = answer.headers.get("content-length")
        if received == 0 or (told is not None and told != str(received)):
            raise DeniedError(200, f"{file.filename} came in part: {received} bytes of {told}")
        kind = answer.headers.get("content-type", "").partition(";")[0].strip()
        guessed = mimetypes.guess_type(file.filename)[0]
        return guessed or kind or "application/octet-stream"

    def _get(self, path: str) -> Any:
        with self._asked("GET", path, {}, within_s=3 * self._idle_s) as answer:
            return _json(answer)

    def _post(self, path: str, value: Any) -> Any:
        body = json.dumps(value).encode()
        headers = {"Content-Type": "application/json", "Content-Length": str(len(body))}
        with self._asked("POST", path, headers, body, within_s=3 * self._idle_s) as answer:
            return _json(answer)

    def _object(self, value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise AwayError(f"{self.url} does not answer as ComfyUI does")
        return value

    @contextmanager
    def _asked(
        self, method: str, path: str, headers: dict[str, str], body: bytes | Iterator[bytes] | None = None,
        within_s: float | None = None,
    ) -> Iterator[Answer]:  # fmt: skip
        try:
            with exchange(
                parse_url(self.url + path), _GUARD, Stop(), method=method, headers=headers, body=body,
                idle_s=self._idle_s, within_s=within_s,
            ) as answer:  # fmt: skip
                yield answer
        except ExchangeError as error:
            raise AwayError(str(error)) from error


def succeeded(ended: Mapping[str, Any]) -> bool:
    """True if the history says that a prompt ended well; an old server tells it by outputs alone."""
    status = ended.get("status")
    if not isinstance(status, dict):
        return bool(ended.get("outputs"))
    return status.get("status_str") == "success"


def _multipart(boundary: str, name: str) -> tuple[bytes, bytes]:
    """What comes before and after the bytes of an upload. The name is ours: a hash and an extension."""
    fields = "".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'
        for key, value in (("subfolder", "vq"), ("type", "input"), ("overwrite", "true"))
    )
    head = f'{fields}--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n'
    return f"{head}Content-Type: application/octet-stream\r\n\r\n".encode(), f"\r\n--{boundary}--\r\n".encode()


def _json(answer: Answer) -> Any:
    """The body of an answer; None where a success has none.

    Raises:
        DeniedError: the status is no success.
        AwayError: it is not JSON, or too long.
    """
    pieces, size = [], 0
    for piece in answer.body:
        size += len(piece)
        if size > LONGEST_JSON:
            raise AwayError(f"its answer has more than {LONGEST_JSON >> 20} MiB")
        pieces.append(piece)
    text = b"".join(pieces)
    try:
        value = json.loads(text) if text.strip() else None
    except (ValueError, RecursionError):
        if answer.status // 100 == 2:
            raise AwayError("its answer is not JSON") from None
        value = None
    if answer.status // 100 != 2:
        if answer.status in (502, 503, 504):
            raise AwayError(f"it answers {answer.status}")
        raise DeniedError(answer.status, value)
    return value


def _ids(entries: Any) -> tuple[str, ...]:
    found = entries if isinstance(entries, list) else []
    return tuple(str(one[1]) for one in found if isinstance(one, list) and len(one) > 1)
