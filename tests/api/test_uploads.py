"""Resumable uploads, in the words of tus 1.0: what arrived is kept, two writers never mix, and limits hold."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import httpx2
import pytest
from blake3 import blake3

from tests.api.test_keys import key
from tests.factory import Queue, eventually
from vidqueue.db.tables.limits import OwnerLimits, set_limits
from vidqueue.jobs import uploads as act
from vidqueue.services import Services

TUS = {"Tus-Resumable": "1.0.0"}
BYTES = os.urandom(300_000)
CUT = 180_000


def metadata(**told: str) -> str:
    return ",".join(f"{name} {base64.b64encode(value.encode()).decode()}" for name, value in told.items())


async def begin(client: httpx2.AsyncClient, **more: str) -> str:
    """Create an upload and return its address."""
    headers = TUS | {"Upload-Length": str(len(BYTES)), "Upload-Metadata": metadata(filename="ä clip.mp4")} | more
    answer = await client.post("/v1/uploads", headers=headers)
    assert answer.status_code == 201, answer.text
    assert answer.headers["tus-resumable"] == "1.0.0"
    assert answer.headers["upload-expires"].endswith("GMT")
    return str(answer.headers["location"])


async def send(client: httpx2.AsyncClient, url: str, data: Any, offset: int | str, **more: str) -> httpx2.Response:
    headers = TUS | {"Upload-Offset": str(offset), "Content-Type": "application/offset+octet-stream"} | more
    return await client.patch(url, content=data, headers=headers)


async def offset_of(client: httpx2.AsyncClient, url: str) -> int:
    answer = await client.head(url, headers=TUS)
    assert answer.status_code == 200, answer.headers
    assert answer.headers["cache-control"] == "no-store"
    return int(answer.headers["upload-offset"])


def code(answer: httpx2.Response) -> tuple[int, str]:
    assert answer.headers["tus-resumable"] == "1.0.0"
    return answer.status_code, answer.json()["code"]


async def test_an_upload_in_pieces_becomes_a_file_like_any_other(client: httpx2.AsyncClient) -> None:
    url = await begin(client)
    assert await offset_of(client, url) == 0
    for start in range(0, len(BYTES), 100_000):
        answer = await send(client, url, BYTES[start : start + 100_000], start)
        assert (answer.status_code, int(answer.headers["upload-offset"])) == (204, start + 100_000)
    file = (await client.get(answer.headers["content-location"])).json()
    assert (file["name"], file["media_type"], file["size"]) == ("ä clip.mp4", "video/mp4", len(BYTES))
    assert (file["sha256"], file["blake3"]) == (hashlib.sha256(BYTES).hexdigest(), blake3(BYTES).hexdigest())
    assert (await client.get(file["urls"]["content"])).content == BYTES
    # A client that missed the last answer asks again, and may send nothing once more.
    assert await offset_of(client, url) == len(BYTES)
    assert (await send(client, url, b"", len(BYTES))).status_code == 204
    assert (await client.get("/v1/uploads")).json()["uploads"] == []
    again = await client.delete(url, headers=TUS)
    assert (again.status_code, (await client.get(file["urls"]["self"])).status_code) == (204, 200)


async def test_the_traps_of_the_protocol(client: httpx2.AsyncClient) -> None:
    offers = await client.options("/v1/uploads")
    assert (offers.status_code, offers.headers["tus-version"]) == (204, "1.0.0")
    assert offers.headers["tus-extension"] == "creation,termination,expiration"
    url = await begin(client)
    other = await client.post("/v1/uploads", headers={"Tus-Resumable": "0.2.2", "Upload-Length": "3"})
    assert (code(other), other.headers["tus-version"]) == ((412, "tus_version"), "1.0.0")
    assert (await client.head(url)).status_code == 412
    assert code(await client.delete(url)) == (412, "tus_version")
    assert code(await send(client, url, b"x", 5)) == (409, "upload_offset")
    assert code(await send(client, url, b"x", 0, **{"Content-Type": "video/mp4"})) == (415, "unsupported_media_type")
    assert code(await client.patch(url, headers=TUS | {"Content-Type": "application/offset+octet-stream"}))[0] == 422
    assert code(await client.post("/v1/uploads", headers=TUS)) == (422, "invalid_request")
    for length in ("-1", "3.5", "0x10", " "):
        wrong = await client.post("/v1/uploads", headers=TUS | {"Upload-Length": length})
        assert code(wrong) == (422, "invalid_request")
    for length in ("1" * 20, "9" * 5000):
        large = await client.post("/v1/uploads", headers=TUS | {"Upload-Length": length})
        assert code(large) == (413, "payload_too_large")
    assert code(await send(client, url, b"x", "9" * 5000)) == (413, "payload_too_large")
    assert code(await client.post("/v1/uploads", headers=TUS | {"Upload-Length": "0"})) == (422, "input_empty")
    spoiled = TUS | {"Upload-Length": "3", "Upload-Metadata": "filename %%%"}
    assert code(await client.post("/v1/uploads", headers=spoiled)) == (422, "invalid_request")
    assert code(await send(client, url, BYTES + b"x", 0)) == (413, "payload_too_large")
    assert await offset_of(client, url) <= len(BYTES)


async def test_methods_may_be_overridden(client: httpx2.AsyncClient) -> None:
    url = await begin(client)
    headers = TUS | {"Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
    sent = await client.post(url, content=b"abc", headers=headers | {"X-HTTP-Method-Override": "PATCH"})
    assert (sent.status_code, sent.headers["upload-offset"]) == (204, "3")
    assert code(await client.post(url, headers=TUS)) == (405, "method_not_allowed")
    gone = await client.post(url, headers=TUS | {"X-HTTP-Method-Override": "delete"})
    assert (gone.status_code, (await client.head(url, headers=TUS)).status_code) == (204, 404)


async def test_what_was_announced_is_compared(client: httpx2.AsyncClient, services: Services) -> None:
    told = {"Upload-Metadata": metadata(filename="a.mp4", sha256="0" * 64)}
    url = await begin(client, **told)
    assert code(await send(client, url, BYTES, 0)) == (422, "upload_damaged")
    assert (await client.head(url, headers=TUS)).status_code == 404
    assert not list(services.storage.stored_ids())
    assert not list((services.settings.data_dir / "uploads").iterdir())


async def test_a_broken_connection_keeps_what_arrived(wire: httpx2.AsyncClient, services: Services) -> None:
    url = await begin(wire)
    host, _, port = url.split("/")[2].partition(":")
    _, writer = await asyncio.open_connection(host, int(port))
    head = "\r\n".join([
        f"PATCH {url[url.index('/v1') :]} HTTP/1.1", f"Host: {host}", "Tus-Resumable: 1.0.0", "Upload-Offset: 0",
        "Content-Type: application/offset+octet-stream", f"Content-Length: {len(BYTES)}", "", "",
    ])  # fmt: skip
    writer.write(head.encode() + BYTES[:CUT])
    await writer.drain()
    part = services.storage.upload_path(UUID(url.rsplit("/", 1)[1]))

    async def is_there() -> bool:
        return part.exists() and part.stat().st_size == CUT

    await eventually(is_there)
    # Another writer is refused while the first one is at work, at its offset and at any other.
    for offset in (0, CUT):
        second = await send(wire, url, b"zzz", offset)
        assert code(second) == (423, "upload_locked")
        assert second.headers["retry-after"]
    writer.close()

    async def is_kept() -> bool:
        return await offset_of(wire, url) == CUT

    await eventually(is_kept)

    async def rest() -> httpx2.Response | None:
        answer = await send(wire, url, BYTES[CUT:], CUT)
        return None if answer.status_code == 423 else answer

    done = await eventually(rest)
    assert done.status_code == 204, done.text
    assert (await wire.get(f"{done.headers['content-location']}/content")).content == BYTES


async def test_two_writers_at_once_make_one_whole_file(client: httpx2.AsyncClient) -> None:
    url = await begin(client)

    async def slowly(data: bytes) -> AsyncIterator[bytes]:
        for start in range(0, len(data), 50_000):
            await asyncio.sleep(0)
            yield data[start : start + 50_000]

    answers = await asyncio.gather(*(send(client, url, slowly(BYTES), 0) for _ in range(4)))
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses[0] == 204
    assert set(statuses[1:]) <= {204, 409, 423}
    assert (await client.get(f"/v1/files/{url.rsplit('/', 1)[1]}/content")).content == BYTES


async def test_a_killed_writer_leaves_only_what_the_database_knows(
    client: httpx2.AsyncClient, services: Services, queue: Queue
) -> None:
    url = await begin(client)
    upload_id = UUID(url.rsplit("/", 1)[1])
    await send(client, url, BYTES[:CUT], 0)
    part = services.storage.upload_path(upload_id)
    with part.open("ab") as file:
        file.write(b"not synced when the power failed")
    assert await offset_of(client, url) == CUT
    assert (await send(client, url, BYTES[CUT:-1], CUT)).status_code == 204
    # As after a kill between the last byte and the file.
    with part.open("ab") as file:
        file.write(BYTES[-1:])
    await queue.sql("UPDATE vidqueue.uploads SET received = length")
    assert await offset_of(client, url) == len(BYTES)
    assert (await client.get(f"/v1/files/{upload_id}/content")).content == BYTES
    assert not part.exists()


async def test_bytes_that_are_gone_are_asked_for_again(client: httpx2.AsyncClient, services: Services) -> None:
    url = await begin(client)
    await send(client, url, BYTES[:CUT], 0)
    services.storage.upload_path(UUID(url.rsplit("/", 1)[1])).unlink()
    assert await offset_of(client, url) == 0
    assert (await send(client, url, BYTES, 0)).status_code == 204
    assert (await client.get(f"/v1/files/{url.rsplit('/', 1)[1]}/content")).content == BYTES


async def test_uploads_expire_and_leave_nothing(client: httpx2.AsyncClient, services: Services, queue: Queue) -> None:
    url, kept = await begin(client), await begin(client)
    for one in (url, kept):
        await send(client, one, BYTES[:CUT], 0)
    upload_id = url.rsplit("/", 1)[1]
    await queue.sql("UPDATE vidqueue.uploads SET expires_at = now() WHERE id = %s", UUID(upload_id))
    orphan = services.storage.upload_path(UUID(int=7))
    orphan.write_bytes(b"x")
    for path in orphan.parent.iterdir():
        os.utime(path, (0, 0))
    assert (await client.head(url, headers=TUS)).status_code == 404
    assert await act.remove_expired(services.database, services.storage) == 1
    assert [path.name for path in orphan.parent.iterdir()] == [kept.rsplit("/", 1)[1]]
    assert await offset_of(client, kept) == CUT


async def test_uploads_belong_to_an_owner_and_his_limits(
    client: httpx2.AsyncClient, services: Services, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann, bob = await key(services, "ann"), await key(services, "bob")
    url = await begin(client, **ann)
    assert [one["url"] for one in (await client.get("/v1/uploads", headers=ann)).json()["uploads"]] == [url]
    assert (await client.get("/v1/uploads", headers=bob)).json()["uploads"] == []
    assert (await client.head(url, headers=TUS | bob)).status_code == 404
    assert code(await send(client, url, b"x", 0, **bob)) == (404, "not_found")
    assert code(await client.delete(url, headers=TUS | bob)) == (404, "not_found")
    async with services.database.transaction() as connection:
        await set_limits(connection, "ann", OwnerLimits(max_stored_bytes=len(BYTES) + 1000))
    assert (await send(client, url, BYTES[:CUT], 0, **ann)).status_code == 204
    # What has arrived counts.
    more = await client.post("/v1/uploads", headers=TUS | ann | {"Upload-Length": str(len(BYTES) - CUT + 1001)})
    assert code(more) == (429, "limit_reached")
    assert (await client.post("/v1/files", content=b"x" * 200_000, headers=ann)).status_code == 429
    assert (await send(client, url, BYTES[CUT:], CUT, **ann)).status_code == 204
    monkeypatch.setattr("vidqueue.db.tables.uploads.MOST_UNFINISHED", 0)
    assert code(await client.post("/v1/uploads", headers=TUS | bob | {"Upload-Length": "3"})) == (429, "limit_reached")


async def test_no_space_refuses_an_upload_before_it_is_read(
    client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = await begin(client)
    monkeypatch.setattr("vidqueue.storage.disk_space.shutil.disk_usage", lambda _: type("U", (), {"free": 1000})())
    assert code(await send(client, url, BYTES, 0)) == (507, "no_space")
    more = await client.post("/v1/uploads", headers=TUS | {"Upload-Length": "5000"})
    assert code(more) == (507, "no_space"), "a client that cannot send all its bytes is told before the first one"
    monkeypatch.undo()
    assert (await send(client, url, BYTES, await offset_of(client, url))).status_code == 204
