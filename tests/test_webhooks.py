"""Webhooks of a real daemon over HTTP and the command line, and over its death."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook

from tests.daemon import Daemon, until
from tests.web import Asked, Web, answer, serving


@pytest.fixture(scope="module")
def web() -> Iterator[Web]:
    with serving() as running:
        running.pages["/hook"] = answer(204)
        yield running


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("webhooks") / "data"
    started = Daemon(folder, VIDQUEUE_WEBHOOKS__ALLOW='["127.0.0.1/32"]').start()
    yield started
    assert started.stop() == 0


def vidqueue(daemon: Daemon, *words: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "vidqueue", *words, "--url", daemon.url, *([] if "remove" in words else ["--json"])],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [json.loads(line) for line in done.stdout.splitlines()]


def told(web: Web, path: str) -> list[str]:
    return [json.loads(one.body)["type"] for one in list(web.asked) if one.path == path]


def test_a_receiver_is_added_told_shown_and_removed(daemon: Daemon, web: Web) -> None:
    (added,) = vidqueue(daemon, "webhooks", "add", f"{web.url}/hook", "--event", "output", "--event", "completed")
    assert vidqueue(daemon, "webhooks", "list") == [added]
    body = {"processor": "zoo", "input": {"act": "work"}, "webhook": f"{web.url}/hook"}
    job = daemon.http.post("/v1/jobs", json=body).raise_for_status().json()
    until(lambda: sorted(told(web, "/hook")) == sorted(["job.started", *["job.output", "job.completed"] * 2]))
    secret = daemon.http.get("/v1/webhooks/secret").json()["secret"]
    assert (daemon.data_dir / "webhook_secret").read_text().strip() == secret
    done = next(one for one in web.asked if json.loads(one.body)["type"] == "job.completed")
    shown = Webhook(secret).verify(done.body, done.headers)["data"]
    assert shown == daemon.http.get(f"/v1/jobs/{job['id']}").json()
    assert shown["state"] == "succeeded"

    def all_delivered() -> bool:
        return {one["state"] for one in vidqueue(daemon, "webhooks", "deliveries", job["id"])} == {"delivered"}

    until(all_delivered)
    delivery = daemon.http.get(f"/v1/jobs/{job['id']}/deliveries").json()["deliveries"][0]
    vidqueue(daemon, "webhooks", "resend", delivery["id"])
    until(lambda: len(told(web, "/hook")) == 6)
    assert vidqueue(daemon, "webhooks", "secret", "--rotate")[0]["previous"] == secret
    page = daemon.http.get("/v1/webhooks/deliveries", params={"state": "delivered", "limit": 2}).json()
    assert len(page["deliveries"]) == 2
    assert len(daemon.http.get(page["next"]).json()["deliveries"]) == 2
    vidqueue(daemon, "webhooks", "remove", added["id"])
    assert daemon.http.get(f"/v1/webhooks/{added['id']}").status_code == 404
    assert daemon.http.get("/v1/webhooks").json() == {"webhooks": []}


@pytest.mark.parametrize(
    ("webhook", "code"),
    [
        ("http://10.0.0.1/", "address_forbidden"),
        ({"url": "http://169.254.169.254/"}, "address_forbidden"),
        ("http://user:word@example.com/", "invalid_url"),
        ("ftp://example.com/", "invalid_url"),
        ({"url": "https://example.com/", "events": ["nothing"]}, "invalid_request"),
        ({"events": ["completed"]}, "invalid_request"),
    ],
)
def test_a_receiver_that_may_not_be_told_is_refused_at_once(daemon: Daemon, webhook: Any, code: str) -> None:
    job = {"processor": "zoo", "input": {}, "webhook": webhook}
    for path, body in (("/v1/jobs", job), ("/v1/batches", {"jobs": [job]})):
        refused = daemon.http.post(path, json=body)
        assert (refused.status_code, refused.json()["code"]) == (422, code)
    given = webhook if isinstance(webhook, dict) else {"url": webhook}
    assert daemon.http.post("/v1/webhooks", json=given).json()["code"] == code


def test_jobs_of_a_batch_and_of_the_command_line_tell_their_receivers(daemon: Daemon, web: Web) -> None:
    web.pages["/batch"] = web.pages["/line"] = answer(200)
    job = {"processor": "zoo", "input": {}, "webhook": {"url": f"{web.url}/batch", "events": ["completed"]}}
    daemon.http.post("/v1/batches", json={"jobs": [job, job]}).raise_for_status()
    vidqueue(daemon, "submit", "zoo", "--webhook", f"{web.url}/line", "--webhook-event", "completed")
    until(lambda: told(web, "/batch") == ["job.completed"] * 2 and told(web, "/line") == ["job.completed"])


def test_a_delivery_survives_the_death_of_the_daemon_that_sends_it(tmp_path: Path, web: Web) -> None:
    release = threading.Event()

    def silent(server: BaseHTTPRequestHandler, asked: Asked) -> None:
        release.wait(30)

    web.pages["/killed"] = silent
    daemon = Daemon(tmp_path / "data", VIDQUEUE_WEBHOOKS__ALLOW='["127.0.0.1/32"]').start()
    receiver = {"url": f"{web.url}/killed", "events": ["completed"]}
    daemon.http.post("/v1/jobs", json={"processor": "zoo", "input": {}, "webhook": receiver}).raise_for_status()
    until(lambda: told(web, "/killed"))
    daemon.kill()
    release.set()
    web.pages["/killed"] = answer(204)
    daemon.start()
    # The claim of the dead daemon need not run out for this test.
    daemon.sql("UPDATE vidqueue.webhook_deliveries SET next_at = now()")
    until(lambda: len(told(web, "/killed")) == 2)
    ids = {one.headers["webhook-id"] for one in web.asked if one.path == "/killed"}
    assert len(ids) == 1
    until(lambda: daemon.sql("SELECT state FROM vidqueue.webhook_deliveries") == [{"state": "delivered"}])
    assert daemon.violations() == []
    assert daemon.stop() == 0
