"""The Comfy API v2 over HTTP: its errors, owners and limits. `tests/comfyui/test_comfy_api.py` runs the real SDKs."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any
from uuid import uuid4

import httpx2
from blake3 import blake3

from tests.api.test_keys import key
from tests.factory import Queue
from vidqueue.api.app import build
from vidqueue.api.compat.comfy_routes import ENDPOINTS
from vidqueue.db.tables.limits import OwnerLimits, set_limits
from vidqueue.services import Services
from vidqueue.settings.compat import ComfyApiSettings

BYTES = os.urandom(20_000)
HASH = f"blake3:{blake3(BYTES).hexdigest()}"


def refusal(answer: httpx2.Response) -> tuple[int, str]:
    assert answer.json()["error"]["message"]
    return answer.status_code, answer.json()["error"]["code"]


async def test_errors_owners_and_limits(client: httpx2.AsyncClient, services: Services) -> None:
    ann, bob = await key(services, "ann"), await key(services, "bob")
    assert refusal(await client.get("/api/v2/jobs")) == (401, "unauthorized")
    assert (await client.get("/api/v2/health")).json() == {"status": "ok"}
    files = {"file": ("a.bin", BYTES, "application/octet-stream")}
    async with services.database.transaction() as connection:
        await set_limits(connection, "ann", OwnerLimits(max_stored_bytes=len(BYTES) + 5000))
    asset = await client.post("/api/v2/assets", files=files, data={"expected_hash": HASH}, headers=ann)
    assert (asset.status_code, asset.json()["hash"], asset.json()["created_new"]) == (201, HASH, True)
    more = await client.post("/api/v2/assets", files=files, headers=ann)
    assert (refusal(more), "retry-after" in more.headers) == ((429, "queue_full"), True)
    assert refusal(await client.get("/api/v2/assets/no-id", headers=bob)) == (404, "not_found")
    assert refusal(await client.get("/api/v2/jobs/no-id", headers=bob)) == (404, "not_found")
    # A hash shows and gives nothing of another owner, and neither does an id.
    assert (await client.head(f"/api/v2/assets/by-hash/{HASH}", headers=ann)).status_code == 200
    assert refusal(await client.get(f"/api/v2/assets/by-hash/{HASH}", headers=bob)) == (404, "blob_not_found")
    taken = await client.post("/api/v2/assets/from-hash", json={"hash": HASH}, headers=bob)
    assert refusal(taken) == (404, "blob_not_found")
    graph = {"1": {"class_type": "LoadImage", "inputs": {"image": {"__type": "core/ASSET", "info": asset.json()}}}}
    theirs = await client.post("/api/v2/jobs", json={"workflow": graph}, headers=bob)
    assert refusal(theirs) == (422, "missing_asset")


async def test_what_no_workflow_takes_is_refused(client: httpx2.AsyncClient) -> None:
    asset = {"__type": "core/ASSET", "info": {"id": "9f8a1c0d-2b3e-4f56-8a7b-1c2d3e4f5a6b"}}
    for info in ({}, {"id": None}, {"id": "x"}, None):
        graph = {"1": {"class_type": "LoadImage", "inputs": {"image": asset | {"info": info}}}}
        assert refusal(await client.post("/api/v2/jobs", json={"workflow": graph})) == (422, "missing_asset")
    graph = {"1": {"class_type": "KSampler", "inputs": {"seed": asset}}}
    assert refusal(await client.post("/api/v2/jobs", json={"workflow": graph})) == (422, "missing_asset")
    form = {"other": ("a", b"x")}
    assert refusal(await client.post("/api/v2/assets", files=form)) == (422, "invalid_request")
    assert refusal(await client.post("/api/v2/assets", content=b"x")) == (415, "unsupported_media_type")
    long = {"workflow": {}, "metadata": {"k": "v" * 100}}
    assert refusal(await client.post("/api/v2/jobs", json=long)) == (422, "invalid_request")


async def test_the_door_can_be_closed(services: Services, queue: Queue) -> None:
    del queue
    settings = services.settings.model_copy(update={"comfy_api": ComfyApiSettings(enabled=False)})
    transport = httpx2.ASGITransport(app=build(replace(services, settings=settings)))
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
        for endpoint in ENDPOINTS:
            path = endpoint.path.replace(":uuid", "").format(job_id=uuid4(), file_id=uuid4(), digest=HASH)
            body: dict[str, Any] = {}
            if endpoint.model("body") is not None:
                body = {"json": {"workflow": {}, "hash": HASH}}
            answer = await client.request(endpoint.method, path, **body)
            assert refusal(answer) == (404, "not_found"), endpoint.path
            assert "disabled" in answer.json()["detail"], endpoint.path
