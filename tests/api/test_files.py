"""Uploads and downloads: whatever comes over the wire, whole files are kept and nothing else is."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import socket
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import httpx2
import pytest
from starlette.applications import Starlette

from tests.api.test_jobs import run, submit, success
from tests.api.test_refusals import problem
from tests.factory import Queue, eventually
from vidqueue.api.app import build
from vidqueue.errors import VidqueueError
from vidqueue.jobs import probes
from vidqueue.media.facts import MediaFacts
from vidqueue.services import Services

BYTES = random.Random(7).randbytes(3_000_000)


def nothing_left(services: Services) -> bool:
    """Whether storage holds neither a file nor a piece of one."""
    return not list(services.storage.stored_ids()) and not list((services.settings.data_dir / "incoming").iterdir())


async def whether_nothing_left(services: Services) -> bool:
    return nothing_left(services)


@pytest.fixture
def small(services: Services) -> Services:
    """Rooms that take uploads of one MiB."""
    inputs = services.settings.inputs.model_copy(update={"max_upload_mib": 1})
    settings = services.settings.model_copy(update={"inputs": inputs})
    return Services(settings, services.database, services.event_feed, services.storage, services.inputs)


async def raw(client: httpx2.AsyncClient, data: Any, **params: str) -> httpx2.Response:
    """Upload a raw body."""
    return await client.post("/v1/files", content=data, params=params)


async def test_a_raw_upload_is_stored_and_comes_back(client: httpx2.AsyncClient, services: Services) -> None:
    answer = await raw(client, BYTES, name="clip.mp4")
    file = answer.json()
    assert answer.status_code == 201
    assert answer.headers["location"] == file["urls"]["self"]
    assert (file["size"], file["sha256"]) == (len(BYTES), hashlib.sha256(BYTES).hexdigest())
    assert (file["name"], file["media_type"]) == ("clip.mp4", "video/mp4")
    assert file["reference"] == f"vq:files/{file['id']}"
    read = (await client.get(file["urls"]["self"])).json()
    assert read == {name: value for name, value in file.items() if name != "problem"}
    content = await client.get(file["urls"]["content"])
    assert content.content == BYTES
    assert services.storage.path(UUID(file["id"])).read_bytes() == BYTES


@pytest.mark.parametrize("size", [1, 70, 65_536, 65_537, 1_000_000])
async def test_a_form_is_stored_bit_by_bit_whatever_its_size(client: httpx2.AsyncClient, size: int) -> None:
    # Full of what looks like the beginning of a boundary.
    data = (b"\r\n--\r\n-" * (size // 7 + 1))[:size]
    answer = await client.post("/v1/files", files={"file": ("a.mov", data, "video/quicktime")})
    file = answer.json()
    assert answer.status_code == 201, answer.text
    assert (file["name"], file["media_type"], file["size"]) == ("a.mov", "video/quicktime", size)
    assert (await client.get(file["urls"]["content"])).content == data


async def test_what_is_no_media_is_stored_and_the_problem_told(client: httpx2.AsyncClient) -> None:
    file = (await raw(client, b"just a text", name="movie.mp4")).json()
    assert file["facts"] is None
    assert file["problem"]["code"] == "unsupported_format"
    assert file["problem"]["message"]
    assert file["problem"]["hint"]


async def test_media_is_probed(client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "probe", lambda path, limits, canceled: MediaFacts(container="mov", size=11))
    file = (await raw(client, b"a real clip")).json()
    assert (file["facts"]["container"], file["problem"]) == ("mov", None)


async def test_a_real_clip_is_probed(client: httpx2.AsyncClient) -> None:
    folder = Path(os.environ.get("VIDQUEUE_TEST_MEDIA", Path(__file__).parents[3] / "shared" / "media"))
    clip = folder / "water_480x360.mp4"
    if not clip.is_file():
        pytest.skip(f"{clip} is not on this machine")
    file = (await raw(client, clip.read_bytes())).json()
    assert file["problem"] is None
    assert file["facts"]["video"]["width"] == 480


@pytest.mark.parametrize(
    ("given", "label"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\videos\\a.mp4", "a.mp4"),
        ("a\u202egpm.exe", "agpm.exe"),
        ("line\nbreak\x00.mp4", "linebreak.mp4"),
        ("ünï 🎬.mp4", "ünï 🎬.mp4"),
        ("x" * 300 + ".mp4", "x" * 251 + ".mp4"),
        ("///", "unnamed"),
    ],
)
async def test_a_name_is_a_label_and_never_a_path(client: httpx2.AsyncClient, given: str, label: str) -> None:
    if "\0" not in given:
        assert (await raw(client, b"x", name=given)).json()["name"] == label
    part = await client.post("/v1/files", files={"file": (given, b"x")})
    if "\n" not in given and "\\" not in given:
        assert part.json()["name"] == label


async def test_a_raw_body_may_be_named_by_its_disposition(client: httpx2.AsyncClient) -> None:
    names = {'attachment; filename="a b.mp4"': "a b.mp4", "attachment; filename*=UTF-8''%C3%BC.mp4": "ü.mp4"}
    for disposition, name in names.items():
        answer = await client.post("/v1/files", content=b"x", headers={"Content-Disposition": disposition})
        assert answer.json()["name"] == name


@pytest.mark.parametrize(
    "form",
    [
        {"files": {"other": ("a", b"x")}},
        {"files": [("file", ("a", b"x")), ("file", ("b", b"y"))]},
        {"files": {"file": ("a", b"x")}, "data": {"more": "1"}},
        {"content": b"--b\r\nbroken", "headers": {"Content-Type": "multipart/form-data; boundary=b"}},
        {"content": b"", "headers": {"Content-Type": "multipart/form-data; boundary=b"}},
        {"content": b"x", "headers": {"Content-Type": "multipart/form-data"}},
        {"content": b"x", "headers": {"Content-Type": "multipart/form-data; boundary=" + "b" * 1000}},
        {
            "content": b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\ncut off',
            "headers": {"Content-Type": "multipart/form-data; boundary=b"},
        },
        {
            "content": b"--b\r\nX: " + b"y" * 100_000,
            "headers": {"Content-Type": "multipart/form-data; boundary=b"},
        },
    ],
    ids=["other_name", "two_files", "a_field", "broken", "empty", "no_boundary", "long_boundary", "cut", "long_header"],
)
async def test_a_form_that_is_not_one_whole_file_is_refused(
    client: httpx2.AsyncClient, services: Services, form: dict[str, Any]
) -> None:
    problem(await client.post("/v1/files", **form), 422, "invalid_request")
    assert nothing_left(services)


async def test_an_empty_upload_is_refused(client: httpx2.AsyncClient, services: Services) -> None:
    problem(await raw(client, b""), 422, "input_empty")
    problem(await client.post("/v1/files", files={"file": ("a", b"")}), 422, "input_empty")
    assert nothing_left(services)


async def test_an_upload_over_the_limit_leaves_nothing(small: Services, queue: Queue) -> None:
    async def chunked(size: int) -> AsyncIterator[bytes]:
        for _ in range(size // 1024):
            yield b"x" * 1024

    transport = httpx2.ASGITransport(app=build(small))
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
        over = (1 << 20) + 1024
        problem(await raw(client, b"x" * over), 413, "payload_too_large")
        problem(await raw(client, chunked(over)), 413, "payload_too_large")
        problem(await client.post("/v1/files", files={"file": ("a", b"x" * over)}), 413, "payload_too_large")
        problem(await client.post("/v1/files", files={"file": ("a", b"x" * 2 * over)}), 413, "payload_too_large")
        assert nothing_left(small)
        assert (await raw(client, b"x" * (1 << 20))).status_code == 201
        assert (await client.post("/v1/files", files={"file": ("a", b"x" * (1 << 20))})).status_code == 201


@pytest.mark.parametrize(("path", "size"), [("/v1/files", 1000), ("/v1/jobs", 1000), ("/v1/jobs", 20_000)])
@pytest.mark.parametrize("drip", [b"", b"x"], ids=["silent", "dripping"])
async def test_a_body_that_stalls_is_ended(services: Services, queue: Queue, drip: bytes, path: str, size: int) -> None:
    from vidqueue.api.server import listening

    inputs = services.settings.inputs.model_copy(update={"upload_idle_s": 0.5})
    settings = services.settings.model_copy(update={"inputs": inputs})
    impatient = Services(settings, services.database, services.event_feed, services.storage, services.inputs)
    async with listening(impatient) as url:
        reader, writer = await asyncio.open_connection(urlsplit(url).hostname, urlsplit(url).port)
        kind = "Content-Type: application/json"
        writer.write(
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{kind}\r\nContent-Length: {size}\r\n\r\nbegun".encode()
        )

        async def keep_dripping() -> None:
            while True:
                writer.write(drip)
                await asyncio.sleep(0.05)

        dripping = asyncio.create_task(keep_dripping())
        # One read: the next drip after the end may be answered with a reset.
        answer = await asyncio.wait_for(reader.read(65_536), 15)
        dripping.cancel()
        assert answer.startswith(b"HTTP/1.1 408")
        assert b'"code":"request_timeout"' in answer
        writer.close()
    assert nothing_left(services)


async def test_a_client_who_leaves_in_the_middle_leaves_nothing(server: str, services: Services) -> None:
    incoming = services.settings.data_dir / "incoming"

    async def begun() -> bool:
        return bool(list(incoming.iterdir()))

    with socket.create_connection((urlsplit(server).hostname, urlsplit(server).port)) as leaving:
        leaving.sendall(
            b"POST /v1/files HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900000\r\n\r\n" + b"x" * 300_000
        )
        await eventually(begun)
    await eventually(lambda: whether_nothing_left(services))


async def test_a_full_disk_is_told(
    client: httpx2.AsyncClient, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int, chunk: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("vidqueue.storage.descriptors.write_all", full)
    problem(await raw(client, b"x"), 507, "no_space")
    assert nothing_left(services)


async def test_a_file_is_deleted_unless_a_job_needs_it(client: httpx2.AsyncClient, services: Services) -> None:
    file = (await raw(client, b"x" * 1000)).json()
    job = await client.post("/v1/jobs", json={"processor": "transcode", "input": {"video": file["reference"]}})
    assert job.status_code == 202, job.text
    problem(await client.delete(file["urls"]["self"]), 409, "conflict")
    await client.post(job.json()["urls"]["cancel"])
    assert (await client.delete(file["urls"]["self"])).status_code == 204
    assert nothing_left(services)
    problem(await client.get(file["urls"]["content"]), 404, "not_found")


async def test_an_output_is_a_download_that_no_browser_runs(
    wire: httpx2.AsyncClient, queue: Queue, services: Services
) -> None:
    job = await submit(wire)
    await run(queue, services, success(services))
    (output,) = (await wire.get(job["urls"]["self"])).json()["outputs"]
    assert output["name"] == "text"
    answer = await wire.get(output["url"])
    assert hashlib.sha256(answer.content).hexdigest() == output["sha256"]
    assert answer.headers["content-type"].startswith(output["media_type"])
    assert answer.headers["content-disposition"] == f'attachment; filename="{output["filename"]}"'
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"
    assert answer.headers["etag"] == f'"{output["sha256"]}"'
    head = await wire.head(output["url"])
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(output["size"]))


RANGES = [
    ("bytes=0-0", BYTES[:1]),
    ("bytes=100-199", BYTES[100:200]),
    ("bytes=2999990-", BYTES[-10:]),
    ("bytes=-5", BYTES[-5:]),
    ("bytes=-99999999", BYTES),
    ("bytes=2999999-9999999999", BYTES[-1:]),
]


@pytest.mark.parametrize(("header", "expected"), RANGES)
async def test_a_part_is_answered_with_206(wire: httpx2.AsyncClient, header: str, expected: bytes) -> None:
    file = (await raw(wire, BYTES)).json()
    answer = await wire.get(file["urls"]["content"], headers={"Range": header})
    assert (answer.status_code, answer.content) == (206, expected)
    start = BYTES.index(expected) if len(expected) > 1 else (0 if header == "bytes=0-0" else len(BYTES) - 1)
    assert answer.headers["content-range"] == f"bytes {start}-{start + len(expected) - 1}/{len(BYTES)}"


async def test_several_parts_come_in_one_answer(wire: httpx2.AsyncClient) -> None:
    file = (await raw(wire, BYTES)).json()
    answer = await wire.get(file["urls"]["content"], headers={"Range": "bytes=0-9,1000-1009"})
    assert answer.status_code == 206
    assert answer.headers["content-type"].startswith("multipart/byteranges")
    assert BYTES[:10] in answer.content
    assert BYTES[1000:1010] in answer.content


@pytest.mark.parametrize("header", ["bytes=3000000-", "bytes=9999999-99999999", "bytes=-0"])
async def test_a_part_outside_the_file_is_answered_with_416(wire: httpx2.AsyncClient, header: str) -> None:
    file = (await raw(wire, BYTES)).json()
    answer = await wire.get(file["urls"]["content"], headers={"Range": header})
    problem(answer, 416, "range_not_satisfiable")
    assert answer.headers["content-range"] == f"bytes */{len(BYTES)}"


@pytest.mark.parametrize(
    "header",
    [
        "bytes=",
        "bytes=5-2",
        "bytes=a-b",
        "items=0-5",
        "bytes=0-1,x",
        "0-5",
        "bytes=" + "9" * 5000 + "-",
        "bytes=-" + "9" * 5000,
    ],
)
async def test_a_range_that_makes_no_sense_is_passed_over(wire: httpx2.AsyncClient, header: str) -> None:
    file = (await raw(wire, b"0123456789")).json()
    answer = await wire.get(file["urls"]["content"], headers={"Range": header})
    assert (answer.status_code, answer.content) == (200, b"0123456789")


async def test_a_part_of_changed_bytes_is_not_mixed_with_old_ones(wire: httpx2.AsyncClient) -> None:
    file = (await raw(wire, b"0123456789")).json()
    etag = f'"{file["sha256"]}"'
    url = file["urls"]["content"]
    same = await wire.get(url, headers={"Range": "bytes=0-1", "If-Range": etag})
    other = await wire.get(url, headers={"Range": "bytes=0-1", "If-Range": '"other"'})
    assert (same.status_code, same.content) == (206, b"01")
    assert (other.status_code, other.content) == (200, b"0123456789")
    known = await wire.get(url, headers={"If-None-Match": etag})
    assert (known.status_code, known.content) == (304, b"")


async def test_a_probe_that_fails_in_an_unknown_way_still_answers(
    client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stuck(*_: Any) -> MediaFacts:
        raise VidqueueError("timed_out", "The probe took too long.")

    monkeypatch.setattr(probes, "probe", stuck)
    answer = await raw(client, b"x")
    assert (answer.status_code, answer.json()["problem"]["code"]) == (201, "timed_out")


async def test_an_upload_is_answered_while_slow_probes_go_on_and_gets_its_facts_later(
    client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()

    def slow(path: Path, *_: Any) -> MediaFacts:
        assert go_on.wait(60)
        return MediaFacts(container="mov", size=path.stat().st_size)

    monkeypatch.setattr(probes, "probe", slow)
    monkeypatch.setattr(probes, "ANSWER_WITHIN_S", 0.05)
    try:
        # Many more than there are probes at once.
        answers = await asyncio.gather(*(raw(client, b"x" * size) for size in range(1, 9)))
        uploads = [answer.json() for answer in answers]
        assert {answer.status_code for answer in answers} == {201}
        assert {one["problem"]["code"] for one in uploads} == {"probe_pending"}
        assert {one["facts"] for one in uploads} == {None}
        request = {"processor": "transcode", "input": {"video": uploads[0]["reference"]}}
        assert (await client.post("/v1/jobs", json=request)).status_code == 202
    finally:
        go_on.set()

    async def known() -> bool:
        read = [(await client.get(one["urls"]["self"])).json() for one in uploads]
        return [one["facts"] and one["facts"]["size"] for one in read] == [1, 2, 3, 4, 5, 6, 7, 8]

    await eventually(known)


# A recording that was never finished: it has no index.
UNFINISHED = b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41" + b"\0\0\xc3\x50mdat" + bytes(range(256)) * 200


async def test_a_submit_refuses_a_damaged_file(client: httpx2.AsyncClient) -> None:
    file = (await raw(client, UNFINISHED)).json()
    assert (file["facts"], file["problem"]["code"]) == (None, "media_damaged")
    request = {"processor": "transcode", "input": {"video": file["reference"]}}
    refused = problem(await client.post("/v1/jobs", json=request), 422, "media_damaged")
    assert refused["errors"][0]["pointer"] == "/input/video"
    batch = await client.post("/v1/batches", json={"jobs": [request, request]})
    assert problem(batch, 422, "media_damaged")["errors"][0]["pointer"] == "/jobs/0/input/video"
    # It tells what is wrong with a file.
    request = {"processor": "verify", "input": {"media": file["reference"]}}
    assert (await client.post("/v1/jobs", json=request)).status_code == 202


async def test_a_submit_waits_for_no_long_probe(client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    file, go_on = (await raw(client, UNFINISHED)).json(), threading.Event()

    def slow(*_: Any) -> MediaFacts:
        assert go_on.wait(60)
        raise VidqueueError("media_damaged", "It is damaged.")

    monkeypatch.setattr(probes, "probe", slow)
    monkeypatch.setattr(probes, "ANSWER_WITHIN_S", 0.05)
    request = {"processor": "transcode", "input": {"video": file["reference"]}}
    try:
        assert (await client.post("/v1/jobs", json=request)).status_code == 202
    finally:
        go_on.set()


async def test_a_late_probe_that_fails_leaves_the_file_as_it_is(
    client: httpx2.AsyncClient, app: Starlette, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probes, "ANSWER_WITHIN_S", 0)
    file = (await raw(client, b"just a text")).json()
    assert file["problem"]["code"] == "probe_pending"

    async def over() -> bool:
        return not app.state.probes._tasks

    await eventually(over)
    assert (await client.get(file["urls"]["self"])).json()["facts"] is None
    assert (await client.delete(file["urls"]["self"])).status_code == 204
