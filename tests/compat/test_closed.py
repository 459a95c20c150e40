"""Compatible APIs that the operator has disabled."""

from __future__ import annotations

from dataclasses import replace

import httpx2
import pytest

from tests.factory import Queue
from vidqueue.api.app import build
from vidqueue.api.compat.routes import ENDPOINTS
from vidqueue.services import Services
from vidqueue.settings.compat import MoneyprinterSettings, ReplicateSettings, VideosSettings

SOME_ID = "01890000-0000-7000-8000-000000000000"


@pytest.mark.parametrize("tag", ["replicate", "videos", "moneyprinter"])
async def test_no_address_of_a_disabled_api_answers(services: Services, queue: Queue, tag: str) -> None:
    closed = services.settings.model_copy(
        update={
            "replicate": ReplicateSettings(enabled=False),
            "videos": VideosSettings(enabled=False),
            "moneyprinter": MoneyprinterSettings(enabled=False),
        }
    )
    transport = httpx2.ASGITransport(app=build(replace(services, settings=closed)), raise_app_exceptions=True)
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
        for one in (one for one in ENDPOINTS if one.tag == tag):
            path = one.path.replace(":uuid", "")
            for name in one.parameters:
                path = path.replace(f"{{{name}}}", SOME_ID if name.endswith("_id") else "zoo")
            body = {"prompt": "x", "version": "vidqueue/zoo"} if one.method == "POST" else None
            answer = await client.request(one.method, path, json=body)
            assert (answer.status_code, "disabled" in answer.json()["detail"]) == (404, True), one.path
