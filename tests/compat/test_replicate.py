"""The Replicate door with the official client, unchanged."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import Daemon, until
from tests.processors.test_cog import PYTHON, CogServer
from tests.web import answer, serving

CLIENT = Path(__file__).with_name("replicate_client.py")

pytestmark = pytest.mark.skipif(
    not PYTHON.exists(), reason="no `replicate` here; `make .venv-others/.installed` installs it"
)


@pytest.fixture(scope="module")
def cog(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CogServer]:
    server = CogServer(tmp_path_factory.mktemp("cog")).start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def daemon(cog: CogServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    endpoints = json.dumps({"model": {"url": cog.url, "device": "cpu"}})
    folder = tmp_path_factory.mktemp("replicate") / "data"
    allow = '["127.0.0.1/32"]'
    started = Daemon(folder, VIDQUEUE_COG__ENDPOINTS=endpoints, VIDQUEUE_WEBHOOKS__ALLOW=allow).start()
    yield started
    started.stop()


def ask(daemon: Daemon, *words: str) -> Any:
    """What the client prints."""
    environment = {
        "REPLICATE_BASE_URL": daemon.url, "REPLICATE_API_TOKEN": "r8_anything", "REPLICATE_POLL_INTERVAL": "0.1",
        "PATH": os.environ["PATH"],
    }  # fmt: skip
    done = subprocess.run([PYTHON, CLIENT, *words], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_run_returns_the_address_of_the_file(daemon: Daemon) -> None:
    output = ask(daemon, "run", "vidqueue/zoo", '{"act": "work"}')
    assert output.startswith(f"{daemon.url}/v1/jobs/")
    assert daemon.http.get(output).text == "done\n"


def test_run_of_a_cog_model_takes_a_file_and_returns_the_list_that_it_returns(daemon: Daemon, tmp_path: Path) -> None:
    video = tmp_path / "in.mp4"
    video.write_bytes(os.urandom(300_000))
    first, second = ask(daemon, "run_file", "cog/model", "video", str(video))
    assert daemon.http.get(first).content == video.read_bytes()
    assert daemon.http.get(second).text == "made\n"


def test_run_of_a_version_waits_longer_than_the_answer_does(daemon: Daemon) -> None:
    """A client takes every status but `starting` for an end, so that is what it is told when the wait is over."""
    catalogue = ask(daemon, "look", "vidqueue/zoo")
    assert {"vidqueue/zoo", "vidqueue/transcode", "cog/model"} <= set(catalogue["names"])
    assert (catalogue["latest"], "act" in catalogue["inputs"]) == (True, True)
    output = ask(daemon, "run", f"vidqueue/zoo:{catalogue['version']}", '{"act": "work", "seconds": 0.5}')
    assert daemon.http.get(output).text == "done\n"
    body = {"version": "vidqueue/zoo", "input": {"act": "work", "seconds": 3}}
    answer = daemon.http.post("/v1/predictions", json=body, headers={"Prefer": "wait=1"})
    assert (answer.status_code, answer.json()["status"]) == (202, "starting")
    daemon.http.post(f"/v1/predictions/{answer.json()['id']}/cancel", json=answer.json())


def test_a_prediction_is_followed_with_progress_and_log(daemon: Daemon) -> None:
    told = ask(daemon, "follow", "cog/model", '{"steps": 3}')
    assert told["seen"][0] == "starting"
    assert set(told["seen"]) <= {"starting", "processing", "succeeded"}
    assert told["status"] == "succeeded"
    assert any(0 < percent < 1 for percent in told["percent"])
    assert "100%|###| 3/3" in told["logs"]
    assert 0 < told["metrics"]["predict_time"] <= told["metrics"]["total_time"]
    assert told["model"] == "cog/model"


def test_a_failure_is_told_with_its_words(daemon: Daemon) -> None:
    told = ask(daemon, "fail", "cog/model", '{"act": "fail"}')
    assert told["status"] == "failed"
    assert "the model is sad" in told["error"]
    assert told["output"] is None


def test_what_cannot_be_is_refused_with_title_and_detail(daemon: Daemon) -> None:
    told = ask(daemon, "refuse", "cog/model", '{"steps": 0}')
    assert told["status"] == 422
    assert "minimum of 1" in told["detail"]
    assert ask(daemon, "refuse", "nobody/nothing", "{}")["status"] == 422
    hook = {"version": "vidqueue/zoo", "input": {}, "webhook": "http://10.0.0.1/hook"}
    assert daemon.http.post("/v1/predictions", json=hook).json()["code"] == "address_forbidden"
    assert daemon.http.post("/v1/models/vidqueue/nothing/predictions", json={"input": {}}).status_code == 404


def test_a_webhook_is_told_predictions_that_the_clients_own_validator_accepts(daemon: Daemon) -> None:
    with serving() as web:
        web.pages["/hook"] = answer(204)
        made = ask(daemon, "hook", "vidqueue/zoo", '{"act": "work"}', f"{web.url}/hook")
        until(lambda: len(web.asked) >= 2)
        told = {json.loads(one.body)["status"]: json.loads(one.body) for one in web.asked}
        assert set(told) == {"processing", "succeeded"}
        assert told["succeeded"]["id"] == told["processing"]["id"] == made
        assert told["succeeded"]["output"] == f"{daemon.url}/v1/jobs/{made}/outputs/text"
        assert told["processing"]["output"] is None
        assert told["succeeded"] == daemon.http.get(f"/v1/predictions/{made}").json()
        last = web.asked[-1]
        headers = {name: value for name, value in last.headers.items() if name.lower().startswith("webhook-")}
        assert ask(daemon, "validate", json.dumps(headers), last.body.decode())


def test_a_cancel_ends_a_prediction_and_may_be_repeated(daemon: Daemon) -> None:
    told = ask(daemon, "cancel", "vidqueue/zoo", '{"act": "hang"}')
    assert (told["waited"], told["status"]) == ("starting", "canceled")


def test_the_list_leads_from_page_to_page(daemon: Daemon) -> None:
    jobs = [{"processor": "zoo", "input": {}} for _ in range(105)]
    made = daemon.http.post("/v1/batches", json={"jobs": jobs}).json()
    ids = ask(daemon, "page")
    assert len(ids) == len(set(ids)) >= 105
    daemon.http.post(f"/v1/batches/{made['id']}/cancel")


def test_files_are_stored_read_and_deleted(daemon: Daemon, tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_bytes(b"some words")
    told = ask(daemon, "files", str(path))
    assert told["sha256"] == hashlib.sha256(b"some words").hexdigest()
    assert (told["size"], told["type"], told["then"]) == (10, "text/plain", 404)
    assert told["get"].startswith(f"{daemon.url}/v1/files/")


@pytest.mark.parametrize(
    ("given", "seconds"), [("90s", 90), ("5m", 300), ("1h30m", 5400), ("1h", 3600), ("0s", None), ("soon", None)]
)
def test_cancel_after_bounds_the_run(daemon: Daemon, given: str, seconds: float | None) -> None:
    body = {"version": "vidqueue/zoo", "input": {}}
    answer = daemon.http.post("/v1/predictions", json=body, headers={"Cancel-After": given})
    if seconds is None:
        assert answer.status_code == 422
    else:
        row = f"SELECT timeout_s FROM vidqueue.jobs WHERE id = '{answer.json()['id']}'"
        assert daemon.sql(row) == [{"timeout_s": seconds}]
