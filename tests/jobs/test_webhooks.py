"""Webhooks against a real receiver: what is written with a change is told at least once, and no receiver waits."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
import pytest_asyncio
from standardwebhooks import Webhook

from tests.daemon import promised
from tests.factory import Queue, eventually
from tests.web import Asked, Web, answer, serving
from vidqueue.db.tables import attempts
from vidqueue.db.tables import webhooks as rows
from vidqueue.db.tables.jobs import JobRow
from vidqueue.errors import VidqueueError
from vidqueue.job import Canceled, Failed, Failure
from vidqueue.jobs import control, finish, webhook_sender, webhooks
from vidqueue.jobs.webhook_secret import WebhookSecret
from vidqueue.jobs.webhook_sender import Sender, sending
from vidqueue.jobs.webhooks import Receiver
from vidqueue.ops.addresses import AddressGuard
from vidqueue.progress import Progress
from vidqueue.services import Services

ALLOW = [ip_network("127.0.0.1/32")]


@pytest.fixture(scope="module")
def web() -> Iterator[Web]:
    with serving() as running:
        yield running


@pytest.fixture(autouse=True)
def clean(web: Web) -> None:
    web.pages.clear()
    web.asked.clear()
    web.pages["/hook"] = answer(204)


@pytest.fixture
def secret(tmp_path: Path) -> WebhookSecret:
    return WebhookSecret(tmp_path / "secret")


@pytest_asyncio.fixture
async def sender(services: Services, secret: WebhookSecret, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Sender]:
    """A sender that may tell 127.0.0.1, and looks often."""
    monkeypatch.setattr(webhook_sender, "TICK_S", 0.1)
    monkeypatch.setattr(webhook_sender, "IDLE_TICK_S", 0.1)
    monkeypatch.setattr(webhook_sender, "PAUSE_S", 0.05)
    guard = AddressGuard(ALLOW, "webhooks.allow")
    made = Sender(
        services.database,
        services.event_feed,
        lambda: None,
        guard,
        secret,
        lambda job: {"id": str(job.id), "state": "?"},
        _prediction,
    )
    async with sending(made):
        yield made


async def _prediction(job: JobRow, base: str, kind: str) -> str:
    return json.dumps({"id": str(job.id), "base": base, "kind": kind})


class Told:
    """Moves jobs through the queue, and reads what became of their deliveries."""

    def __init__(self, queue: Queue, services: Services) -> None:
        self.queue = queue
        self.services = services

    async def submitted(self, url: str | None, *events: str, **more: Any) -> UUID:
        webhook = {"url": url} | ({"events": list(events)} if events else {}) if url else None
        return await self.queue.submit(webhook=webhook, **more)

    async def begun(self) -> attempts.Begun:
        """Give the next job to a lane."""
        ref = await self.queue.dispatch(await self.queue.lane(f"cpu{time.monotonic_ns() % 10**9}"))
        assert ref is not None
        found = await self.queue.begin(ref)
        assert found is not None
        return found

    async def failed(self) -> None:
        begun = await self.begun()
        await finish.finish(
            self.services.database,
            self.services.storage,
            begun.ref,
            Failed(Failure.of("media_damaged", "It is broken.")),
        )

    async def deliveries(self, job: UUID, kind: str | None = None) -> list[dict[str, Any]]:
        found = await self.queue.sql("SELECT * FROM vidqueue.webhook_deliveries WHERE job_id = %s ORDER BY id", job)
        return [one for one in found if kind in (None, one["kind"])]

    async def ended(self, job: UUID, kind: str, state: str) -> dict[str, Any]:
        async def there() -> dict[str, Any] | None:
            found = [one for one in await self.deliveries(job, kind) if one["state"] == state]
            return found[0] if found else None

        return await eventually(there)  # type: ignore[no-any-return]


@pytest.fixture
def told(queue: Queue, services: Services) -> Told:
    return Told(queue, services)


async def test_a_job_tells_its_receiver_signed_and_in_order(
    told: Told, web: Web, sender: Sender, secret: WebhookSecret
) -> None:
    job = await told.submitted(f"{web.url}/hook")
    begun = await told.begun()
    await told.ended(job, "started", "delivered")
    async with told.services.database.statement() as connection:
        await attempts.report(connection, begun.ref, lines=[], progress=Progress(0.5, "work"))
    (progress,) = await told.deliveries(job, "progress")
    assert (progress["next_at"] - progress["created_at"]).total_seconds() > 1.9
    failure = Failed(Failure.of("media_damaged", "It is broken."))
    await finish.finish(told.services.database, told.services.storage, begun.ref, failure)
    await told.ended(job, "completed", "delivered")
    assert await told.deliveries(job, "progress") == []
    bodies = [Webhook(secret.read()[0]).verify(one.body, one.headers) for one in web.asked]
    assert [body["type"] for body in bodies] == ["job.started", "job.completed"]
    assert bodies[0]["data"]["state"] == "running"
    assert bodies[1]["data"]["id"] == str(job)
    assert bodies[1]["data"]["state"] == "failed"
    assert bodies[1]["data"]["error"]["code"] == "media_damaged"
    assert web.asked[0].headers["webhook-id"] != web.asked[1].headers["webhook-id"]
    assert web.asked[0].headers["content-type"] == "application/json"
    assert await told.queue.violations() == []


async def test_progress_is_told_when_its_time_has_come_and_not_kept(told: Told, web: Web, sender: Sender) -> None:
    job = await told.submitted(f"{web.url}/hook", "progress")
    begun = await told.begun()
    for share in (0.1, 0.2, 0.3):
        async with told.services.database.statement() as connection:
            await attempts.report(connection, begun.ref, lines=[], progress=Progress(share, "work"))
    assert len(await told.deliveries(job)) == 1
    await told.queue.sql("UPDATE vidqueue.webhook_deliveries SET next_at = now()")

    async def gone() -> bool:
        return await told.deliveries(job) == []

    await eventually(gone)
    assert [json.loads(one.body)["type"] for one in web.asked] == ["job.progress"]


async def test_a_configured_receiver_hears_of_every_job_of_its_owner(told: Told, web: Web, sender: Sender) -> None:
    database, guard = told.services.database, AddressGuard(ALLOW, "webhooks.allow")
    added = await webhooks.add(database, guard, Receiver(url=f"{web.url}/hook", events=["completed"]), owner="local")
    mine, theirs = await told.submitted(None), await told.submitted(None, owner="other")
    await told.failed()
    await told.failed()
    await told.ended(mine, "completed", "delivered")
    assert await told.deliveries(theirs) == []
    assert len(await told.deliveries(mine)) == 1
    await webhooks.remove(database, added.id, owner="local")
    assert await told.deliveries(mine) == []
    with pytest.raises(VidqueueError):
        await webhooks.remove(database, added.id, owner="local")


async def test_a_change_that_is_rolled_back_tells_nobody(
    told: Told, web: Web, sender: Sender, database_url: str
) -> None:
    job = await told.submitted(f"{web.url}/hook", "completed")
    async with await psycopg.AsyncConnection.connect(database_url) as connection:
        await connection.execute(
            "UPDATE vidqueue.jobs SET state = 'canceled', finished_at = now() WHERE id = %s", [job]
        )
        written = await connection.execute("SELECT kind FROM vidqueue.webhook_deliveries")
        assert await written.fetchall() == [("completed",)]
        await connection.rollback()
    assert await told.deliveries(job) == []


@pytest.mark.parametrize(
    ("page", "state", "error"),
    [
        (answer(500), "pending", "the receiver answered 500"),
        (answer(404), "pending", "the receiver answered 404"),
        (answer(302, Location="/moved"), "pending", "the receiver answered 302; redirects are not followed"),
        (answer(410), "dead", "the receiver answered 410"),
    ],
)
async def test_what_a_receiver_refuses_is_tried_again_for_a_day(
    told: Told, web: Web, sender: Sender, page: Any, state: str, error: str
) -> None:
    web.pages["/hook"], web.pages["/moved"] = page, answer(204)
    job = await told.submitted(f"{web.url}/hook", "completed")
    await told.failed()

    async def tried() -> dict[str, Any] | None:
        (found,) = await told.deliveries(job)
        return found if found["error"] else None

    found = await eventually(tried)
    assert (found["state"], found["error"], found["tries"]) == (state, error, 1)
    assert [one.path for one in web.asked] == ["/hook"]
    if state == "pending":
        assert 2 < (found["next_at"] - found["created_at"]).total_seconds() < 10
        await told.queue.sql("UPDATE vidqueue.webhook_deliveries SET next_at = now(), until = now() - interval '1 s'")
        await told.ended(job, "completed", "dead")
    web.pages["/hook"] = answer(200)
    (found,) = await told.deliveries(job)
    await webhooks.resend(told.services.database, found["id"], owner="local")
    await told.ended(job, "completed", "delivered")
    assert len({one.headers["webhook-id"] for one in web.asked}) == 1


async def test_gone_disables_a_configured_receiver(told: Told, web: Web, sender: Sender) -> None:
    web.pages["/hook"] = answer(410)
    guard = AddressGuard(ALLOW, "webhooks.allow")
    await webhooks.add(told.services.database, guard, Receiver(url=f"{web.url}/hook"), owner="local")
    await told.submitted(None)
    await told.failed()

    async def disabled() -> bool:
        (found,) = await webhooks.of_owner(told.services.database, owner="local")
        return found.disabled_at is not None

    await eventually(disabled)
    later = await told.submitted(None)
    await told.failed()
    assert await told.deliveries(later) == []


@pytest.mark.parametrize(
    "url", ["http://127.0.0.2:9/", "http://10.0.0.1/", "http://169.254.169.254/", "http://localhost./"]
)
async def test_a_forbidden_receiver_is_refused_and_never_called(
    told: Told, services: Services, sender: Sender, url: str
) -> None:
    with pytest.raises(VidqueueError) as caught:
        services.inputs.check_receiver(Receiver(url=url))
    assert caught.value.code == "address_forbidden"
    # SQL and names that resolve to such an address get past that check, and no further.
    job = await told.submitted(url.replace("localhost.", "127.0.0.2"), "completed")
    await told.failed()
    found = await told.ended(job, "completed", "dead")
    assert "not a public address" in found["error"]


async def test_a_slow_and_an_absent_receiver_hold_up_nobody(told: Told, web: Web, sender: Sender) -> None:
    release = threading.Event()

    def slow(server: BaseHTTPRequestHandler, asked: Asked) -> None:
        release.wait(20)

    with serving() as stuck:
        stuck.pages["/hook"] = slow
        for _ in range(8):
            await told.submitted(f"{stuck.url}/hook", "completed")
            await told.submitted("http://127.0.0.1:9/absent", "completed")
        job = await told.submitted(f"{web.url}/hook", "completed")
        for _ in range(17):
            await told.failed()
        begun = time.monotonic()
        await told.ended(job, "completed", "delivered")
        assert time.monotonic() - begun < promised(5)
        assert len(stuck.asked) <= webhook_sender.EACH * 2
        release.set()


async def test_a_sender_that_dies_leaves_its_deliveries_to_the_next(told: Told, web: Web, services: Services) -> None:
    job = await told.submitted(f"{web.url}/hook", "completed")
    await told.failed()
    async with services.database.statement() as connection:
        claims = [await rows.claim(connection, limit=9, each=9, busy=[], lease_s=0.2) for _ in range(2)]
    assert [len(found) for found in claims] == [1, 0]
    await asyncio.sleep(0.3)
    async with services.database.statement() as connection:
        again = await rows.claim(connection, limit=9, each=9, busy=[], lease_s=60)
    assert [one.job_id for one in again] == [job]


async def test_every_way_to_an_end_is_told(told: Told, web: Web, services: Services) -> None:
    waiting = await told.submitted(f"{web.url}/hook")
    await control.cancel(services.database, waiting, owner="local")
    running = await told.submitted(f"{web.url}/hook")
    begun = await told.begun()
    await finish.finish(services.database, services.storage, begun.ref, Canceled())
    other = await told.submitted(None)
    dependent = await told.submitted(f"{web.url}/hook", input={"media": f"vq:jobs/{other}/text"})
    await control.cancel(services.database, other, owner="local")
    for job in (waiting, running, dependent):
        assert len(await told.deliveries(job, "completed")) == 1
    assert await told.queue.violations() == []


async def test_sql_takes_a_webhook_and_refuses_what_is_none(told: Told, web: Web) -> None:
    submit = "SELECT vidqueue.submit('zoo', '{}', webhook => %s::jsonb) AS id"
    (found,) = await told.queue.sql(submit, json.dumps({"url": f"{web.url}/hook"}))
    await told.failed()
    assert [one["kind"] for one in await told.deliveries(found["id"])] == ["started", "completed"]
    with pytest.raises(VidqueueError) as caught:
        await told.queue.sql(submit, '"https://example.com"')
    assert caught.value.code == "invalid_params"


def test_a_rotated_secret_signs_beside_the_one_before(secret: WebhookSecret, tmp_path: Path) -> None:
    first = secret.read()
    assert len(first) == 1
    assert secret.read() == first
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600
    second = secret.rotate()
    assert second[1:] == first
    third = secret.rotate()
    assert third[1:] == second[:1]
    now = datetime.now(UTC)
    headers = {"webhook-id": "msg_1", "webhook-timestamp": str(int(now.timestamp()))}
    headers["webhook-signature"] = secret.sign("msg_1", now, "{}")
    for known in third:
        assert Webhook(known).verify("{}", headers) == {}
    with pytest.raises(Exception, match="No matching signature"):
        Webhook(first[0]).verify("{}", headers)
    (tmp_path / "secret").write_text("\n")
    with pytest.raises(VidqueueError):
        secret.read()
