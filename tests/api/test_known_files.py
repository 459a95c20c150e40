"""Files by hash: known bytes are not sent twice, and a hash shows and gives nothing of another owner."""

from __future__ import annotations

import hashlib
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import httpx2
import pytest
from blake3 import blake3

from tests.api.test_keys import key
from tests.factory import Queue, eventually
from vidqueue.db.tables.limits import OwnerLimits, set_limits
from vidqueue.jobs import reconcile
from vidqueue.media.sample import make_sample
from vidqueue.principal import Role
from vidqueue.services import Services

BYTES = os.urandom(50_000)
SHA256, BLAKE3 = f"sha256:{hashlib.sha256(BYTES).hexdigest()}", f"blake3:{blake3(BYTES).hexdigest()}"


async def take(client: httpx2.AsyncClient, headers: dict[str, str], **body: str) -> httpx2.Response:
    params = {"owner": owner} if (owner := body.pop("owner", None)) else None
    return await client.post("/v1/files/from-hash", json={"hash": SHA256} | body, headers=headers, params=params)


@pytest.mark.parametrize("digest", [SHA256, BLAKE3], ids=["sha256", "blake3"])
async def test_a_file_is_found_and_taken_by_its_hash(
    client: httpx2.AsyncClient, services: Services, queue: Queue, digest: str
) -> None:
    assert (await client.head(f"/v1/files/by-hash/{digest}")).status_code == 404
    assert (await take(client, {}, hash=digest)).status_code == 404
    file = (await client.post("/v1/files", content=BYTES, params={"name": "a.mp4"})).json()
    found = await client.head(f"/v1/files/by-hash/{digest}")
    assert (found.status_code, found.headers["content-location"]) == (200, file["urls"]["self"])
    # The same file under the same name, as old as if it had just been sent.
    long_ago = datetime.now(UTC) - timedelta(days=29)
    await queue.sql("UPDATE vidqueue.files SET created_at = %s", long_ago)
    again = await take(client, {}, hash=digest, name="a.mp4")
    assert (again.status_code, again.json()["id"]) == (200, file["id"])
    assert datetime.fromisoformat(again.json()["created_at"]) > long_ago + timedelta(days=28)
    # A file of its own under another name, with the bytes on the disk once.
    other = await take(client, {}, hash=digest, name="b.webm")
    assert (other.status_code, other.json()["name"], other.json()["media_type"]) == (201, "b.webm", "video/webm")
    paths = [services.storage.path(UUID(one)) for one in (file["id"], other.json()["id"])]
    assert paths[0].stat().st_ino == paths[1].stat().st_ino
    assert (await client.delete(file["urls"]["self"])).status_code == 204
    assert (await client.get(other.json()["urls"]["content"])).content == BYTES


async def test_a_hash_shows_and_gives_nothing_of_another_owner(client: httpx2.AsyncClient, services: Services) -> None:
    ann, bob = await key(services, "ann"), await key(services, "bob")
    operator = await key(services, "olga", Role.OPERATE)
    await client.post("/v1/files", content=BYTES, headers=ann)
    unknown = await client.get("/v1/files/by-hash/sha256:" + "0" * 64, headers=bob)
    theirs = await client.get(f"/v1/files/by-hash/{SHA256}", headers=bob)
    assert (theirs.status_code, theirs.json()["code"]) == (unknown.status_code, unknown.json()["code"])
    assert (await take(client, bob)).status_code == 404
    assert (await take(client, bob, owner="ann")).status_code == 403
    # Whoever may read it may hand it on.
    given = await take(client, operator, owner="bob")
    assert given.status_code == 201
    assert (await client.get(given.json()["urls"]["content"], headers=bob)).content == BYTES
    assert (await client.head(f"/v1/files/by-hash/{SHA256}", headers=bob)).status_code == 200


async def test_a_file_without_facts_is_examined_when_it_is_taken(
    client: httpx2.AsyncClient, queue: Queue, tmp_path: Path
) -> None:
    """The probe after its upload may have been cut off; of what is no media, whoever takes it is told why."""
    first = (await client.post("/v1/files", content=BYTES)).json()
    assert first["problem"] is not None
    for name in (None, "b.mp4"):
        body = {"name": name} if name else {}
        assert (await take(client, {}, **body)).json()["problem"] == first["problem"]
    make_sample(tmp_path / "clip.mp4", seconds=1, size=(64, 48))
    whole = (await client.post("/v1/files", content=(tmp_path / "clip.mp4").read_bytes())).json()
    assert whole["problem"] is None
    await queue.sql("UPDATE vidqueue.files SET facts = NULL")
    again = (await take(client, {}, hash=f"sha256:{whole['sha256']}")).json()
    assert (again["facts"], again["problem"]) == (whole["facts"], None)

    async def written() -> bool:
        return bool((await client.get(whole["urls"]["self"])).json()["facts"] == whole["facts"])

    await eventually(written)


async def test_lost_bytes_have_to_be_sent_again(client: httpx2.AsyncClient, services: Services) -> None:
    file = (await client.post("/v1/files", content=BYTES, params={"name": "a.mp4"})).json()
    services.storage.path(UUID(file["id"])).unlink()
    assert (await client.head(f"/v1/files/by-hash/{SHA256}")).status_code == 404
    assert (await take(client, {}, name="a.mp4")).status_code == 404
    assert (await take(client, {}, name="b.mp4")).status_code == 404


async def test_taken_bytes_count_and_survive_reconciliation(client: httpx2.AsyncClient, services: Services) -> None:
    ann = await key(services, "ann")
    file = (await client.post("/v1/files", content=BYTES, headers=ann)).json()
    # Bytes of long ago: what is taken of them is no orphan before its row is committed.
    os.utime(services.storage.path(UUID(file["id"])), (0, 0))
    linked = services.storage.link(UUID(file["id"]))
    assert await reconcile.remove_orphans(services.database, services.storage) == 0
    services.storage.release(linked)
    assert await reconcile.remove_orphans(services.database, services.storage) == 1
    async with services.database.transaction() as connection:
        await set_limits(connection, "ann", OwnerLimits(max_stored_bytes=len(BYTES) + 1000))
    refused = await take(client, ann, name="another.mp4")
    assert (refused.status_code, refused.json()["code"]) == (429, "limit_reached")


@pytest.mark.parametrize(
    "digest", ["sha256:xyz", "md5:" + "0" * 32, "0" * 64, "sha256:" + "A" * 64, "sha256:" + "0" * 65]
)
async def test_what_is_no_hash_is_refused(client: httpx2.AsyncClient, digest: str) -> None:
    assert (await client.get(f"/v1/files/by-hash/{digest}")).status_code == 422
    assert (await take(client, {}, hash=digest)).status_code == 422
