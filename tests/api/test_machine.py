"""Processors, lanes, figures and probes."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from pydantic import BaseModel

from tests.api.test_jobs import REFUSED, run, submit, success
from tests.api.test_refusals import problem
from tests.factory import Queue, eventually
from tests.statements import counted
from vidqueue.api.server import listening
from vidqueue.api.v1.system import queue_eta_s
from vidqueue.db.tables import lanes
from vidqueue.db.tables.jobs import Recent, Waiting
from vidqueue.jobs import keys
from vidqueue.ops import watchdog
from vidqueue.principal import Role
from vidqueue.services import Services


async def test_processors_tell_what_they_take(client: httpx2.AsyncClient) -> None:
    listed = {one["name"]: one for one in (await client.get("/v1/processors")).json()["processors"]}
    assert listed.keys() >= {"transcode", "enhance", "zoo"}
    for name, processor in listed.items():
        assert (await client.get(f"/v1/processors/{name}")).json() == processor
        assert processor["description"]
        assert processor["device"] in ("cpu", "gpu")
        assert processor["input_schema"]["additionalProperties"] is False
    assert "act" in listed["zoo"]["input_schema"]["properties"]


async def test_lanes_tell_what_they_do(client: httpx2.AsyncClient, queue: Queue) -> None:
    busy = await queue.lane("cpu0")
    await queue.lane("gpu0", device="gpu", gpu_name="RTX", vram_mb=24_000)
    job = await submit(client, title="mine")
    await queue.dispatch(busy)
    by_name = {lane["name"]: lane for lane in (await client.get("/v1/lanes")).json()["lanes"]}
    assert (by_name["cpu0"]["busy"], by_name["cpu0"]["job"]["id"]) == (True, job["id"])
    assert by_name["cpu0"]["job"]["title"] == "mine"
    assert (by_name["gpu0"]["busy"], by_name["gpu0"]["job"], by_name["gpu0"]["vram_mb"]) == (False, None, 24_000)


async def test_another_owners_job_keeps_a_lane_busy_and_is_not_told(
    client: httpx2.AsyncClient, queue: Queue, services: Services
) -> None:
    made = await keys.create(services.database, owner="ann", role=Role.SUBMIT)
    lane = await queue.lane()
    await queue.submit(owner="someone", title="secret")
    await queue.dispatch(lane)
    answer = await client.get("/v1/lanes", headers={"X-API-Key": made.secret})
    assert (answer.json()["lanes"][0]["busy"], answer.json()["lanes"][0]["job"]) == (True, None)
    assert "secret" not in answer.text


async def test_offline_lanes_are_told_when_asked_for(client: httpx2.AsyncClient, queue: Queue) -> None:
    await queue.lane()
    await queue.sql("UPDATE vidqueue.lanes SET state = 'offline'")
    assert (await client.get("/v1/lanes")).json()["lanes"] == []
    assert [one["state"] for one in (await client.get("/v1/lanes?offline=true")).json()["lanes"]] == ["offline"]


async def test_figures_count_what_happened(client: httpx2.AsyncClient, queue: Queue, services: Services) -> None:
    for _ in range(3):
        await submit(client)
    await run(queue, services, success(services))
    await run(queue, services, REFUSED)
    figures = (await client.get("/v1/stats")).json()
    assert figures["jobs"] == {"queued": 1, "running": 0, "succeeded": 1, "failed": 1, "canceled": 0}
    assert figures["lanes"] == {"online": 2, "busy": 0, "idle": 2, "paused": 0}
    (recent,) = figures["last_24_h"]
    assert (recent["processor"], recent["succeeded"], recent["failed"]) == ("zoo", 1, 1)
    assert figures["queue_eta_s"] is not None
    assert figures["paused"] is False


def recent(processor: str, median_run_s: float | None) -> Recent:
    """A day of one processor."""
    return Recent(processor=processor, succeeded=1, failed=0, canceled=0, median_wait_s=0, median_run_s=median_run_s)


async def test_the_estimate_shares_the_work_and_says_nothing_it_does_not_know(queue: Queue, services: Services) -> None:
    await queue.lane("cpu0")
    await queue.lane("cpu1")
    async with services.database.transaction() as connection:
        online = await lanes.page(connection)
    ten = [Waiting(processor="zoo", device="cpu", jobs=10)]
    assert queue_eta_s(ten, [recent("zoo", 3.0)], online) == 15
    # What the jobs that run still take comes before.
    busy = replace(online[0], job_id=uuid4(), processor="zoo", eta_s=12.0)
    assert queue_eta_s(ten, [recent("zoo", 3.0)], [busy, online[1]]) == 21
    begun = replace(busy, eta_s=None, started_at=datetime.now(UTC) - timedelta(seconds=1))
    assert queue_eta_s(ten, [recent("zoo", 3.0)], [begun, online[1]]) == pytest.approx(16, abs=0.5)
    assert queue_eta_s([], [], online) == 0
    assert queue_eta_s(ten, [], online) is None
    assert queue_eta_s(ten, [recent("zoo", None)], online) is None
    assert queue_eta_s(ten, [recent("zoo", 3.0)], []) is None
    gpu = [Waiting(processor="zoo", device="gpu", jobs=1)]
    assert queue_eta_s(gpu, [recent("zoo", 3.0)], online) is None


async def test_the_process_is_healthy_without_anyone(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok", "hanging": {}})


async def test_a_process_in_which_something_hangs_is_neither_healthy_nor_ready(
    client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog, "HEARTBEAT_TIMEOUT_S", -1)
    for path in ("/healthz", "/readyz"):
        told = problem(await client.get(path), 503, "not_ready")
        assert told["errors"] == [{"pointer": "watchdog", "detail": "Stuck in the daemon: event_feed. Restart it."}]


async def test_the_door_opens_on_ipv6_too(services: Services) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    api = services.settings.api.model_copy(update={"host": "::1"})
    settings = services.settings.model_copy(update={"api": api})
    async with (
        listening(Services(settings, services.database, services.event_feed, services.storage, services.inputs)) as url,
        httpx2.AsyncClient(base_url=url) as client,
    ):
        assert (await client.get("/healthz")).status_code == 200


async def test_it_is_ready_with_a_lane_and_not_without(client: httpx2.AsyncClient, queue: Queue) -> None:
    told = problem(await client.get("/readyz"), 503, "not_ready")
    assert told["errors"] == [{"pointer": "lanes", "detail": "No lane is online, so jobs wait."}]
    await queue.lane()

    async def ready() -> httpx2.Response | None:
        answer = await client.get("/readyz")
        return answer if answer.status_code == 200 else None

    assert (await eventually(ready)).json() == {"status": "ready", "lanes_online": 1, "hanging": {}}


async def test_it_is_alive_and_not_ready_while_it_stops(
    client: httpx2.AsyncClient, queue: Queue, services: Services
) -> None:
    await queue.lane()
    services.stopping.set()
    try:
        told = problem(await client.get("/readyz"), 503, "not_ready")
        assert [one["pointer"] for one in told["errors"]] == ["draining"]
        assert (await client.get("/healthz")).status_code == 200
    finally:
        services.stopping.clear()


async def test_a_list_of_processors_does_not_make_their_schemas_anew(
    client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They take 30 ms, in which nobody else is answered."""
    before = (await client.get("/v1/processors")).json()

    def made_anew(cls: type[BaseModel]) -> dict[str, Any]:
        raise AssertionError(f"the schema of {cls} is known")

    monkeypatch.setattr(BaseModel, "model_json_schema", classmethod(made_anew))
    assert (await client.get("/v1/processors")).json() == before


async def test_many_probes_at_once_cost_as_much_as_one(
    client: httpx2.AsyncClient, queue: Queue, services: Services, server_log: Path, database_url: str
) -> None:
    await queue.lane()
    assert (await client.get("/v1/lanes")).status_code == 200
    with counted(database_url, server_log) as seen:
        answers = await asyncio.gather(*(client.get("/readyz") for _ in range(100)))
    assert {answer.status_code for answer in answers} == {200}
    ledger = [text for text in seen.texts.elements() if "vidqueue.migrations" in text]
    assert 1 <= len(ledger) <= 4, ledger


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM vidqueue.migrations WHERE name LIKE '0004%%'",
        "INSERT INTO vidqueue.migrations VALUES ('9999_x', 'y')",
    ],
)
async def test_it_is_not_ready_on_another_schema(client: httpx2.AsyncClient, queue: Queue, change: str) -> None:
    await queue.lane(f"lane{uuid4().hex[:4]}")
    await queue.sql(change)
    told = problem(await client.get("/readyz"), 503, "not_ready")
    assert told["errors"][0]["pointer"] == "migrations"
