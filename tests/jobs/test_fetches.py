"""URL inputs against a real HTTP server: what comes is stored once, and what must not be fetched is not."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tests.daemon import promised
from tests.factory import Queue
from tests.web import Asked, Web, answer, file, serving
from vidqueue.errors import VidqueueError
from vidqueue.jobs import fetches
from vidqueue.jobs.fetches import Fetches, FetchLaterError
from vidqueue.ops import http_client
from vidqueue.ops.addresses import Resolver
from vidqueue.processors.media import Kind
from vidqueue.progress import Progress
from vidqueue.services import Services
from vidqueue.settings.schema import Settings

CONTENT = os.urandom(300_000)
ALLOW = ["127.0.0.1/32"]


@pytest.fixture(scope="module")
def web() -> Iterator[Web]:
    with serving() as running:
        yield running


@pytest.fixture(autouse=True)
def clean(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    web.pages.clear()
    web.asked.clear()
    monkeypatch.setattr(fetches, "PAUSE_S", 0.05)


class Fetcher:
    """Downloads for one job, as its staging does."""

    def __init__(self, services: Services, queue: Queue) -> None:
        self._services = services
        self.queue = queue
        self.job: UUID | None = None
        self.told: list[Progress] = []
        self.resolved: list[list[str]] = []
        self.resolve: Resolver = lambda host, port: self.resolved.pop(0) if self.resolved else ["127.0.0.1"]

    def fetches(self, **settings: Any) -> Fetches:
        changed = {"allow": ALLOW, "idle_s": 5, **settings}
        values = Settings(data_dir=self._services.settings.data_dir, fetch=changed)
        return Fetches(self._services.database, self._services.storage, values, self.resolve)

    async def fetch(self, url: str, **settings: Any) -> Path:
        if self.job is None:
            self.job = await self.queue.submit()
        fetches = self.fetches(**settings)
        file = await fetches.stage(url, owner="local", job_id=self.job, listener=self.told.append)
        return self._services.storage.path(file.id)

    async def refused(self, url: str, **settings: Any) -> str:
        with pytest.raises(VidqueueError) as caught:
            await self.fetch(url, **settings)
        return caught.value.code


@pytest.fixture
def fetcher(services: Services, queue: Queue) -> Fetcher:
    return Fetcher(services, queue)


async def test_a_url_becomes_a_file_of_the_job_and_is_fetched_once(
    fetcher: Fetcher, web: Web, services: Services
) -> None:
    web.pages["/clips/a%20clip.mp4"] = file(CONTENT)
    url = f"{web.url}/clips/a%20clip.mp4?signature=secret"
    path = await fetcher.fetch(url)
    assert path.read_bytes() == CONTENT
    assert await fetcher.fetch(url) == path
    assert len(web.asked) == 1
    (row,) = await fetcher.queue.sql("SELECT f.* FROM vidqueue.files f JOIN vidqueue.job_files j ON j.file_id = f.id")
    assert (row["name"], row["media_type"], row["size"]) == ("a clip.mp4", "video/mp4", len(CONTENT))
    assert row["sha256"] == hashlib.sha256(CONTENT).hexdigest()
    assert fetcher.told[-1].stage == "fetch"
    assert "0.3 of 0.3 MiB from 127.0.0.1" in fetcher.told[-1].message
    assert web.asked[0].headers["accept-encoding"] == "identity"
    assert not list(services.storage.fetch_folder(fetcher.job or UUID(int=0)).glob("*.json"))


async def test_a_broken_download_goes_on_where_it_ended(fetcher: Fetcher, web: Web) -> None:
    web.pages["/a.mp4"] = file(CONTENT, breaks_at=100_000)
    assert (await fetcher.fetch(f"{web.url}/a.mp4")).read_bytes() == CONTENT
    assert [one.headers.get("range") for one in web.asked] == [None, "bytes=100000-"]
    assert web.asked[1].headers["if-range"] == '"one"'


async def test_another_daemon_goes_on_with_what_is_on_the_disk(
    fetcher: Fetcher, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetches, "RESUMES", 0)
    web.pages["/a.mp4"] = file(CONTENT, breaks_at=100_000)
    with pytest.raises(FetchLaterError):
        await fetcher.fetch(f"{web.url}/a.mp4")
    # Only rows and files are left of the first try: a new object knows nothing of it.
    assert (await fetcher.fetch(f"{web.url}/a.mp4")).read_bytes() == CONTENT
    assert web.asked[1].headers["range"] == "bytes=100000-"


async def test_a_file_that_changed_meanwhile_is_fetched_from_its_beginning(
    fetcher: Fetcher, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetches, "RESUMES", 0)
    web.pages["/a.mp4"] = file(CONTENT, breaks_at=100_000)
    with pytest.raises(FetchLaterError):
        await fetcher.fetch(f"{web.url}/a.mp4")
    other = os.urandom(50_000)
    web.pages["/a.mp4"] = file(other, etag='"two"')
    assert (await fetcher.fetch(f"{web.url}/a.mp4")).read_bytes() == other


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (404, "url_not_found"),
        (410, "url_not_found"),
        (401, "fetch_refused"),
        (403, "fetch_refused"),
        (206, "fetch_refused"),
        (304, "fetch_refused"),
    ],
)
async def test_an_answer_that_stays_so_is_final(fetcher: Fetcher, web: Web, status: int, code: str) -> None:
    web.pages["/a"] = answer(status, b"no")
    assert await fetcher.refused(f"{web.url}/a") == code


@pytest.mark.parametrize("status", [500, 502, 503, 429, 408])
async def test_an_answer_that_may_change_is_tried_again_later(fetcher: Fetcher, web: Web, status: int) -> None:
    web.pages["/a"] = answer(status, b"later", Retry_After="40")
    with pytest.raises(FetchLaterError) as caught:
        await fetcher.fetch(f"{web.url}/a?secret=1")
    assert caught.value.delay_s == 40
    assert "secret" not in caught.value.message


async def test_a_server_that_stays_away_fails_the_job_in_the_end(fetcher: Fetcher, web: Web) -> None:
    web.pages["/a"] = answer(503)
    with pytest.raises(FetchLaterError):
        await fetcher.fetch(f"{web.url}/a")
    await fetcher.queue.sql("UPDATE vidqueue.fetches SET failing_since = now() - interval '2 h'")
    assert await fetcher.refused(f"{web.url}/a") == "fetch_failed"
    assert await fetcher.queue.sql("SELECT job_id FROM vidqueue.fetches") == []


@pytest.mark.parametrize(
    ("page", "code"),
    [
        (answer(200, b"x" * 100, Content_Encoding="gzip"), "fetch_refused"),
        (answer(200, b"x" * (1 << 20) + b"x"), "fetch_too_large"),
        (answer(200, b""), "input_empty"),
        (answer(302, b""), "fetch_refused"),
        (answer(302, b"", Location="ftp://example.com/a"), "invalid_url"),
        (answer(302, b"", Location="http://10.0.0.1/a"), "address_forbidden"),
        (answer(307, b"", Location="http://169.254.169.254/latest/meta-data/"), "address_forbidden"),
        (answer(301, b"", Location="http://[::ffff:127.0.0.1]/"), "address_forbidden"),
        (answer(301, b"", Location="//127.0.0.2/"), "address_forbidden"),
        (answer(308, b"", Location="http://user:word@127.0.0.1/"), "invalid_url"),
        (answer(302, b"", Location="/a"), "fetch_refused"),
    ],
)  # fmt: skip
async def test_what_must_not_be_fetched_is_not(fetcher: Fetcher, web: Web, page: Any, code: str) -> None:
    web.pages["/a"] = page
    assert await fetcher.refused(f"{web.url}/a", max_mib=1) == code
    assert await fetcher.queue.sql("SELECT id FROM vidqueue.files") == []


async def test_a_body_without_a_length_is_counted(fetcher: Fetcher, web: Web) -> None:
    def endless(server: BaseHTTPRequestHandler, asked: Asked) -> None:
        server.send_response(200)
        server.end_headers()
        try:
            while True:
                server.wfile.write(b"x" * 65536)
        except OSError:
            server.close_connection = True

    web.pages["/a"] = endless
    assert await fetcher.refused(f"{web.url}/a", max_mib=1) == "fetch_too_large"


async def test_a_redirect_is_followed_with_its_name_checked_anew(fetcher: Fetcher, web: Web) -> None:
    port = web.url.rpartition(":")[2]
    web.pages["/a"] = answer(302, b"", Location=f"http://moved.example:{port}/b")
    web.pages["/b"] = file(CONTENT)
    assert (await fetcher.fetch(f"http://first.example:{port}/a")).read_bytes() == CONTENT
    assert web.asked[1].headers["host"] == f"moved.example:{port}"
    fetcher.resolved = [["127.0.0.1"], ["10.0.0.7"]]
    assert await fetcher.refused(f"http://first.example:{port}/a?again") == "address_forbidden"


async def test_a_name_that_resolves_to_something_else_after_the_check_gains_nothing(fetcher: Fetcher, web: Web) -> None:
    """DNS rebinding: each connection resolves once, and goes to the address that was checked."""
    port = web.url.rpartition(":")[2]
    web.pages["/a"] = answer(503)
    fetcher.resolved = [["127.0.0.1"], ["169.254.169.254"]]
    with pytest.raises(FetchLaterError):
        await fetcher.fetch(f"http://rebinding.example:{port}/a")
    assert len(fetcher.resolved) == 1
    assert await fetcher.refused(f"http://rebinding.example:{port}/a") == "address_forbidden"
    assert len(web.asked) == 1


@pytest.mark.parametrize("host", ["127.0.0.2", "localhost", "[::1]", "10.0.0.1", "2130706433"])
async def test_addresses_that_are_not_allowed_are_refused_at_submission(services: Services, host: str) -> None:
    with pytest.raises(VidqueueError) as caught:
        await services.inputs.check(f"http://{host}/a.mp4", owner="local")
    assert caught.value.code in {"address_forbidden", "invalid_url"}
    wanted: tuple[str, Kind] = (f"http://{host}/a.mp4", "video")
    assert (await services.inputs.check_many([wanted], owner="local")).keys() == {wanted}
    await services.inputs.check("https://example.com/a.mp4", owner="local")


async def test_a_server_that_sends_nothing_or_its_head_in_drops_is_given_up(fetcher: Fetcher, web: Web) -> None:
    stop = threading.Event()

    def dripping(server: BaseHTTPRequestHandler, asked: Asked) -> None:
        while not stop.wait(0.05):
            server.wfile.write(b"H")
            server.wfile.flush()

    def silent(server: BaseHTTPRequestHandler, asked: Asked) -> None:
        stop.wait(20)

    web.pages["/a"] = silent
    web.pages["/b"] = dripping
    try:
        for path in ("/a", "/b"):
            with pytest.raises(FetchLaterError):
                await fetcher.fetch(f"{web.url}{path}", idle_s=0.5)
    finally:
        stop.set()


async def test_a_canceled_download_stops_within_a_second_and_blocks_nothing(fetcher: Fetcher, web: Web) -> None:
    gone = threading.Event()

    def trickling(server: BaseHTTPRequestHandler, asked: Asked) -> None:
        server.send_response(200)
        server.end_headers()
        try:
            while True:
                server.wfile.write(b"x" * 1000)
                time.sleep(0.01)
        except OSError:
            server.close_connection = True
            gone.set()

    web.pages["/a"] = trickling
    fetching = asyncio.create_task(fetcher.fetch(f"{web.url}/a"))
    while not any("MiB" in one.message for one in fetcher.told):
        await asyncio.sleep(0.01)
    begun = time.monotonic()
    fetching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetching
    assert await asyncio.to_thread(gone.wait, 30)
    assert time.monotonic() - begun < promised(1)
    assert await fetcher.refused(f"{web.url}/a", timeout_s=0.5) == "fetch_timed_out"


async def test_a_host_that_does_not_exist_is_final_and_one_that_does_not_listen_is_not(fetcher: Fetcher) -> None:
    def no_such_host(host: str, port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    def no_answer(host: str, port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    fetcher.resolve = no_such_host
    assert await fetcher.refused("http://nowhere.example/a") == "url_not_found"
    fetcher.resolve = no_answer
    with pytest.raises(FetchLaterError):
        await fetcher.fetch("http://somewhere.example/a")
    with pytest.raises(FetchLaterError):
        await fetcher.fetch("http://127.0.0.1:9/a")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes its certificate with openssl")
async def test_the_certificate_is_checked_against_the_name_and_not_the_address(
    fetcher: Fetcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = (
        f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout {key} -out {certificate} "
        "-days 2 -subj /CN=video.example -addext subjectAltName=DNS:video.example"
    )
    subprocess.run(command.split(), check=True, capture_output=True)
    with serving(certificate=certificate, key=key) as secure:
        port = secure.url.rpartition(":")[2]
        secure.pages["/a"] = file(CONTENT)
        secure.pages["/down"] = answer(302, b"", Location="http://video.example/a")
        assert await fetcher.refused(f"https://video.example:{port}/a") == "fetch_refused"
        monkeypatch.setattr(http_client, "_tls", lambda: ssl.create_default_context(cafile=str(certificate)))
        assert (await fetcher.fetch(f"https://video.example:{port}/a")).read_bytes() == CONTENT
        assert await fetcher.refused(f"https://other.example:{port}/a") == "fetch_refused"
        assert await fetcher.refused(f"https://127.0.0.1:{port}/a") == "fetch_refused"
        assert await fetcher.refused(f"https://video.example:{port}/down") == "fetch_refused"
