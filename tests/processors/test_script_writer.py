"""Scripts from services that answer as they should, and from those that do not."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.factory import Queue
from vidqueue.api.app import build
from vidqueue.errors import CanceledError, VidqueueError, WaitingError
from vidqueue.processors import registry
from vidqueue.processors.parts import script_writer
from vidqueue.processors.parts.film_settings import ComposeSettings
from vidqueue.processors.parts.script_writer import ScriptWriter
from vidqueue.services import Services

KEY = "sk-secret-of-the-service"


@contextmanager
def serving(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """The address of a server that does this with each connection, once it has read the request."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listening.accept()
                threading.Thread(target=answered, args=(connection,), daemon=True).start()

    def answered(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.recv(1 << 16)
            answer(connection)
            # A connection that is closed with unread bytes is reset.
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(1 << 16):
                pass

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()


def http(status: str, body: bytes, *headers: str) -> Callable[[socket.socket], None]:
    head = "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""])
    return lambda connection: connection.sendall(head.encode() + body)


def says(content: Any) -> Callable[[socket.socket], None]:
    return http("200 OK", json.dumps({"choices": [{"message": {"content": content}}]}).encode())


def trickle(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    while True:
        connection.sendall(b" ")
        time.sleep(0.05)


def writer(url: str, tmp_path: Path, **more: Any) -> ScriptWriter:
    key = tmp_path / "key"
    key.write_text(f"{KEY}\n")
    return ScriptWriter(ComposeSettings(script_url=url, script_key_file=key), **{"check": lambda: None, **more})


@pytest.mark.parametrize(
    ("said", "script"),
    [
        ("  The sea.\n\nIt is calm. ", "The sea.\n\nIt is calm."),
        ("<think>What do they want?</think>\nThe sea.", "The sea."),
        ("The\x00 sea\x1b.", "The sea."),
        ("\ud800 The sea.", "? The sea."),
        ("海" * 30_000, "海" * 20_000),
    ],
)
def test_what_a_model_says_is_the_script(tmp_path: Path, said: str, script: str) -> None:
    with serving(says(said)) as url:
        assert writer(url, tmp_path).script("the sea") == script


@pytest.mark.parametrize(
    ("said", "terms"),
    [
        ('["calm sea", " boat ", ""]', ["calm sea", "boat"]),
        ('Here they are:\n```json\n["calm sea", 7, null, "boat"]\n```', ["calm sea", "boat"]),
        (json.dumps([f"term {number}" for number in range(9)]), [f"term {number}" for number in range(5)]),
    ],
)
def test_terms_are_read_out_of_what_a_model_says(tmp_path: Path, said: str, terms: list[str]) -> None:
    with serving(says(said)) as url:
        assert writer(url, tmp_path).terms("the sea", "", 5) == terms


@pytest.mark.parametrize("said", ["no list", "[", "]x[", "[7]", "[" * 100_000, '["a'])
def test_an_answer_without_terms_is_told(tmp_path: Path, said: str) -> None:
    with serving(says(said)) as url, pytest.raises(VidqueueError, match="has no terms") as caught:
        writer(url, tmp_path).terms("the sea", "", 5)
    assert caught.value.code == "model_failed"


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (http("200 OK", b"\xff\xfe garbage"), "has no text"),
        (http("200 OK", b"<html>busy</html>"), "has no text"),
        (http("200 OK", b""), "has no text"),
        (http("200 OK", b"[" * 500_000), "has no text"),
        (http("200 OK", b'{"choices": []}'), "has no text"),
        (says(None), "has no text"),
        (says([{"type": "text", "text": "x"}]), "has no text"),
        (says(" \x00\n"), "has no text"),
        (http("200 OK", b" " * (3 << 20)), "more than 1 MiB"),
        (http("302 Found", b"", "Location: http://169.254.169.254/"), "status 302"),
        (http("401 Unauthorized", b'{"error": "no\x1b[31m key"}'), r'status 401: \{"error": "no \[31m key"\}'),
        (http("404 Not Found", b"no such model"), "no such model"),
    ],
)
def test_what_is_no_script_is_told(tmp_path: Path, answer: Callable[[socket.socket], None], told: str) -> None:
    with serving(answer) as url, pytest.raises(VidqueueError, match=told) as caught:
        writer(url, tmp_path).script("the sea")
    assert caught.value.code == "model_failed"


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (http("429 Too Many Requests", b"slow down"), "status 429: slow down"),
        (http("500 Internal Server Error", b"oops"), "status 500"),
        (http("503 Service Unavailable", b""), "status 503"),
        (lambda connection: connection.sendall(b"\x16\x03\x01 what?"), "broke"),
        (lambda connection: None, "broke"),
        (lambda connection: connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"), "broke"),
        (trickle, "took longer than 0.5 s"),
        (lambda connection: time.sleep(60), r"in time|took longer"),
    ],
)
def test_a_service_that_is_not_well_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Callable[[socket.socket], None], told: str
) -> None:
    monkeypatch.setattr(script_writer, "_ANSWER_S", 0.5)
    with serving(answer) as url, pytest.raises(WaitingError, match=told) as caught:
        writer(url, tmp_path).script("the sea")
    assert caught.value.reason == "peer_unavailable"


def test_a_cancel_ends_the_wait_at_once(tmp_path: Path) -> None:
    canceled = threading.Event()

    def check() -> None:
        if canceled.is_set():
            raise CanceledError

    with serving(lambda connection: time.sleep(60)) as url:
        threading.Timer(0.2, canceled.set).start()
        begun = time.monotonic()
        with pytest.raises(CanceledError):
            writer(url, tmp_path, check=check).script("the sea")
        assert time.monotonic() - begun < 5


def test_a_key_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    config = ComposeSettings(script_url="http://127.0.0.1:1/v1", script_key_file=tmp_path / "none")
    with pytest.raises(VidqueueError, match="key of the service") as caught:
        ScriptWriter(config, lambda: None).script("the sea")
    assert caught.value.code == "processor_unavailable"


async def test_the_door_of_moneyprinter_has_scripts_and_terms_written(
    services: Services, queue: Queue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = build(replace(services))
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=True)

    async def asked(path: str, answer: Callable[[socket.socket], None], **body: Any) -> tuple[int, dict[str, Any]]:
        with serving(answer) as url:
            monkeypatch.setattr(registry.find("compose"), "config", writer(url, tmp_path).config)
            async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
                found = await client.post(f"/api/v1/{path}", json={"video_subject": "the sea", **body})
        return found.status_code, found.json()

    script = await asked("scripts", says("The sea is calm."), video_language="en", paragraph_number=2)
    assert script == (200, {"status": 200, "message": "success", "data": {"video_script": "The sea is calm."}})
    _, terms = await asked("terms", says('["sea"]'), video_script="The sea is calm.", amount=1, unknown=True)
    assert terms == {"status": 200, "message": "success", "data": {"video_terms": ["sea"]}}
    status, told = await asked("scripts", http("401 Unauthorized", f"wrong key {KEY}".encode()))
    assert (status, told["status"], told["code"], told["data"]) == (500, 500, "model_failed", None)
    assert "wrong key" in told["message"]
    assert KEY not in str(told)
    status, told = await asked("terms", http("429 Too Many Requests", KEY.encode()))
    assert (status, told["status"], told["code"]) == (503, 503, "peer_unavailable")
    assert KEY not in str(told)
    waiting = threading.Timer(0.3, app.state.closing.set)
    waiting.start()
    status, told = await asked("scripts", lambda connection: time.sleep(60))
    assert (status, told["code"]) == (503, "not_ready")
