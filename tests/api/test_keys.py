"""API keys: who may ask for what. Another owner's things are not found, whatever address asks for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest

from tests.api.test_events import stream
from tests.factory import Queue
from vidqueue.api.routes import ENDPOINTS
from vidqueue.api.web.routes import PAGES
from vidqueue.db.pool import Connection
from vidqueue.errors import VidqueueError
from vidqueue.jobs import keys
from vidqueue.jobs.keys import Keyring
from vidqueue.principal import Role
from vidqueue.services import Services

# What needs more than reading (GET) or submitting (the rest), or nothing at all.
OPERATE = {
    "GET /system",
    "GET /audit",
    "GET /v1/audit",
    "POST /v1/pause",
    "POST /v1/resume",
    "POST /v1/drain",
    "POST /v1/lanes/{name}/pause",
    "POST /v1/lanes/{name}/resume",
    "POST /v1/lanes/{name}/drain",
    "PUT /v1/lanes/{name}/windows",
    "POST /v1/lanes/{name}/free",
    "POST /v1/jobs/{job_id:uuid}/suspend",
    "POST /v1/jobs/{job_id:uuid}/resume",
    "GET /v1/limits",
    "GET /v1/watch-folders",
    "GET /v1/watch-folders/{name}/files",
    "POST /queue/{verb}",
    "POST /lanes/{name}/{verb}",
    "POST /lanes/{name}/windows",
    "POST /jobs/{job_id:uuid}/suspend",
    "POST /jobs/{job_id:uuid}/resume",
}
ADMIN = {
    "POST /v1/keys",
    "GET /v1/keys",
    "POST /v1/keys/{key_id:uuid}/revoke",
    "DELETE /v1/keys/{key_id:uuid}",
    "PUT /v1/limits/{owner}",
    "DELETE /v1/limits/{owner}",
    "PUT /v1/processors/{name}/limits",
    "DELETE /v1/processors/{name}/limits",
    "GET /v1/webhooks/default/secret",
    "GET /v1/webhooks/secret",
    "POST /v1/webhooks/secret",
}
PUBLIC = {
    "OPTIONS /v1/uploads",
    "GET /api/v2/health",
    "GET /assets/{name}",
    "GET /login",
    "POST /login",
    "POST /logout",
    "GET /healthz",
    "GET /readyz",
    "GET /problems",
    "GET /problems/{code}",
    "GET /openapi.json",
    "GET /docs",
    "GET /docs/{asset}",
}
EVERY = (*ENDPOINTS, *PAGES)


async def key(services: Services, owner: str, role: Role = Role.SUBMIT) -> dict[str, str]:
    """Headers with a new key."""
    created = await keys.create(services.database, owner=owner, role=role)
    return {"Authorization": f"Bearer {created.secret}"}


def test_every_address_says_what_role_it_needs() -> None:
    expected = {}
    for endpoint in EVERY:
        name = f"{endpoint.method} {endpoint.path}"
        usual = Role.READ if endpoint.method == "GET" else Role.SUBMIT
        special = Role.OPERATE if name in OPERATE else Role.ADMIN if name in ADMIN else usual
        expected[name] = None if name in PUBLIC else special
    assert {f"{one.method} {one.path}": one.needs for one in EVERY} == expected


async def test_every_address_refuses_a_stranger_and_too_low_a_role(
    client: httpx2.AsyncClient, services: Services
) -> None:
    by_role = {role: await key(services, "ann", role) for role in Role}
    for endpoint in ENDPOINTS:
        path = endpoint.path.replace(":uuid", "")
        assert ":" not in path, "say here what it stands for"
        for name in endpoint.parameters:
            path = path.replace(f"{{{name}}}", str(uuid4()))
        if endpoint.needs is None:
            assert (await client.request(endpoint.method, path)).status_code != 401, path
            continue
        for headers in ({}, {"Authorization": "Bearer vq_wrong"}, {"X-API-Key": "\x7f"}):
            answer = await client.request(endpoint.method, path, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated"), path
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        for role, headers in by_role.items():
            if not role.includes(endpoint.needs):
                answer = await client.request(endpoint.method, path, headers=headers)
                assert (answer.status_code, answer.json()["code"]) == (403, "forbidden"), (path, role)


async def test_the_things_of_another_owner_are_not_found_at_any_address(
    client: httpx2.AsyncClient, services: Services, queue: Queue
) -> None:
    ann, bob = await key(services, "ann"), await key(services, "bob")
    file_id = (await client.post("/v1/files", content=b"hello", headers=ann)).json()["id"]
    job = (await client.post("/v1/jobs", json={"processor": "zoo", "input": {}}, headers=ann)).json()
    batch = (await client.post("/v1/batches", json={"jobs": [{"processor": "zoo", "input": {}}]}, headers=ann)).json()
    assert job["owner"] == batch["owner"] == "ann"
    ids = {"job_id": job["id"], "file_id": file_id, "batch_id": batch["id"], "name": "video"}
    seen = set()
    for endpoint in ENDPOINTS:
        if not {"job_id", "file_id", "batch_id"} & set(endpoint.parameters):
            continue
        if not Role.SUBMIT.includes(endpoint.needs or Role.READ):
            continue  # Refused whatever it names.
        path = endpoint.path.replace(":uuid", "").format(**ids)
        body: dict[str, Any] = {"json": {"priority": 1}} if endpoint.method == "PATCH" else {}
        theirs = await client.request(endpoint.method, path, headers=bob, **body)
        assert (theirs.status_code, theirs.json()["code"]) == (404, "not_found"), endpoint
        nothing = await client.request(
            endpoint.method,
            endpoint.path.replace(":uuid", "").format(**dict.fromkeys(ids, uuid4())),
            headers=bob,
            **body,
        )
        assert nothing.status_code == 404
        seen.add(endpoint.path)
    assert len(seen) > 10
    # Nothing of it was done, and it is in no list of theirs.
    assert (await client.get(f"/v1/jobs/{job['id']}", headers=ann)).json()["state"] == "queued"
    assert (await client.get("/v1/jobs", headers=bob)).json()["jobs"] == []
    assert (await client.get("/v1/jobs?owner=ann", headers=bob)).json()["jobs"] == []
    assert (await client.get("/v1/stats", headers=bob)).json()["jobs"]["queued"] == 0
    refused = await client.post(
        "/v1/jobs", json={"processor": "zoo", "input": {"video": f"vq:files/{file_id}"}}, headers=bob
    )
    assert refused.status_code == 422
    assert (await client.get("/v1/jobs", headers=ann)).json()["jobs"] != []


async def test_operators_see_and_act_for_everybody_and_others_do_not(
    client: httpx2.AsyncClient, services: Services, queue: Queue
) -> None:
    ann, boss = await key(services, "ann"), await key(services, "boss", Role.OPERATE)
    job = (await client.post("/v1/jobs", json={"processor": "zoo", "input": {}}, headers=ann)).json()
    assert [one["id"] for one in (await client.get("/v1/jobs", headers=boss)).json()["jobs"]] == [job["id"]]
    assert (await client.get("/v1/jobs?owner=boss", headers=boss)).json()["jobs"] == []
    assert (await client.post(f"/v1/jobs/{job['id']}/cancel", headers=boss)).status_code == 202
    request: dict[str, Any] = {"json": {"processor": "zoo", "input": {}}, "params": {"owner": "carl"}}
    assert (await client.post("/v1/jobs", headers=boss, **request)).json()["owner"] == "carl"
    refused = await client.post("/v1/jobs", headers=ann, **request)
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")


async def test_a_revoked_key_ends_the_streams_that_it_opened(services: Services, queue: Queue, server: str) -> None:
    created = await keys.create(services.database, owner="ann", role=Role.READ)
    heard: list[UUID] = []

    async def listen() -> None:
        headers = {"Authorization": f"Bearer {created.secret}"}
        async with httpx2.AsyncClient(base_url=server, headers=headers, timeout=60) as client:
            async for event in stream(client, "/v1/events", after=0):
                heard.append(event.data["job_id"])

    listening = asyncio.create_task(listen())
    await queue.submit(owner="ann")
    while not heard:
        await asyncio.sleep(0.02)
    await keys.revoke(services.database, created.row.id)
    # Each event makes the stream look at its key, whose copy is a second old at most.
    while not listening.done():
        await queue.submit(owner="ann")
        await asyncio.sleep(0.1)
    await listening


async def test_the_keyring_forgets_expired_and_revoked_keys_and_stays_closed_without_any(services: Services) -> None:
    ring = Keyring(services.event_feed.log.connection, open_without_keys=True)
    assert (await ring.find(None)).owner == "local"
    brief = await keys.create(services.database, owner="ann", role=Role.READ, expires_in_s=0.001)
    ring = Keyring(services.event_feed.log.connection, open_without_keys=True)
    for secret in (brief.secret, None):
        with pytest.raises(VidqueueError, match="API key"):
            await ring.find(secret)
    with pytest.raises(VidqueueError) as refused:
        await keys.remove(services.database, brief.row.id)
    assert refused.value.code == "conflict"
    await keys.revoke(services.database, brief.row.id)
    with pytest.raises(VidqueueError):
        await Keyring(services.event_feed.log.connection, open_without_keys=True).find(None)
    await keys.remove(services.database, brief.row.id)
    assert (await Keyring(services.event_feed.log.connection, open_without_keys=True).find(None)).role is Role.ADMIN
    with pytest.raises(VidqueueError):
        await Keyring(services.event_feed.log.connection, open_without_keys=False).find(None)


async def test_a_new_key_works_at_once_and_requests_share_one_look(services: Services) -> None:
    looks = 0
    connect = services.event_feed.log.connection

    def counted() -> Any:
        nonlocal looks
        looks += 1
        return connect()

    ring = Keyring(counted, open_without_keys=False)
    first = await keys.create(services.database, owner="ann", role=Role.READ)
    await asyncio.gather(*(ring.find(first.secret) for _ in range(100)))
    assert looks == 1
    second = await keys.create(services.database, owner="bob", role=Role.READ)
    found = await asyncio.gather(*(ring.find(second.secret) for _ in range(100)))
    assert {one.owner for one in found} == {"bob"}
    assert looks == 2
    guesses = await asyncio.gather(*(ring.find(f"vq_{n}") for n in range(100)), return_exceptions=True)
    assert all(isinstance(one, VidqueueError) for one in guesses)
    assert looks == 3
    stored = await keys.every(services.database)
    assert not any(first.secret in repr(row) for row in stored)


async def test_a_copy_is_read_anew_while_it_serves_and_a_new_key_works_at_once_all_the_same(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, may_end = 0, asyncio.Event()
    may_end.set()

    @asynccontextmanager
    async def connect() -> AsyncIterator[Connection]:
        nonlocal read
        async with services.event_feed.log.connection() as connection:
            yield connection
        read += 1
        await may_end.wait()

    monkeypatch.setattr(keys, "READ_AHEAD_S", 0)
    ring = Keyring(connect, open_without_keys=False)
    first = await keys.create(services.database, owner="ann", role=Role.READ)
    await ring.find(first.secret)
    may_end.clear()
    assert (await ring.find(first.secret)).owner == "ann"
    while read < 2:
        await asyncio.sleep(0.01)
    second = await keys.create(services.database, owner="bob", role=Role.READ)
    finding = asyncio.create_task(ring.find(second.secret))
    assert (await ring.find(first.secret)).owner == "ann"
    may_end.set()
    assert (await finding).owner == "bob"
