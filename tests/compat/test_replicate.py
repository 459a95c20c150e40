"""The API that is compatible with Replicate, with the official client, unchanged."""

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

CLIENT, CLIENT_2 = (Path(__file__).with_name(name) for name in ("replicate_client.py", "replicate2_client.py"))
# The 2.x beta has the name of 1.x, and is installed beside it.
PACKAGES_2 = PYTHON.parents[1] / "replicate2"

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
    return _ask(CLIENT, words, REPLICATE_BASE_URL=daemon.url)


def ask_2(daemon: Daemon, *words: str) -> Any:
    """What the client of 2.x prints; its base has the version."""
    return _ask(CLIENT_2, words, REPLICATE_BASE_URL=f"{daemon.url}/v1", PYTHONPATH=str(PACKAGES_2))


def _ask(client: Path, words: tuple[str, ...], **more: str) -> Any:
    environment = {"REPLICATE_API_TOKEN": "r8_anything", "REPLICATE_POLL_INTERVAL": "0.1", "PATH": os.environ["PATH"]}
    done = subprocess.run([PYTHON, client, *words], env=environment | more, capture_output=True, text=True, check=False)
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


def test_a_stream_tells_log_and_outputs_and_ends(daemon: Daemon) -> None:
    """The client drops events without an id, and raises for names that it does not know."""
    told = ask(daemon, "stream", "cog/model", '{"steps": 1}')
    kinds = [kind for kind, _, _ in told["seen"]]
    assert (told["error"], kinds[-1]) == (None, "done")
    assert set(kinds) == {"logs", "output", "done"}
    assert all(has_id for _, _, has_id in told["seen"])
    assert any("100%|###| 1/1" in data for kind, data, _ in told["seen"] if kind == "logs")
    urls = [data for kind, data, _ in told["seen"] if kind == "output"]
    assert daemon.http.get(urls[-1]).text == "made\n"
    assert len(urls) == len(set(urls))
    told = ask(daemon, "stream", "cog/model", '{"act": "fail"}')
    assert "the model is sad" in told["error"]


def test_a_stream_tells_an_output_while_the_job_runs_and_only_once(daemon: Daemon, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    body = {"version": "vidqueue/zoo", "input": {"act": "publish", "marker": str(marker)}, "stream": True}
    made = daemon.http.post("/v1/predictions", json=body).json()
    with daemon.http.stream("GET", made["urls"]["stream"], headers={"Accept": "text/event-stream"}) as answer:
        assert answer.headers["content-type"].partition(";")[0] == "text/event-stream"
        seen = []
        for line in answer.iter_lines():
            if line.startswith("data: http"):
                seen.append(line.rpartition("/")[2])
            if seen == ["first", "second"]:
                marker.touch()
    assert seen == ["first", "second", "text"]


def test_uploads_are_listed_from_page_to_page(daemon: Daemon) -> None:
    made = [daemon.http.post("/v1/files", content=b"x").json()["id"] for _ in range(3)]
    ids = ask(daemon, "listed")
    assert ids[:3] == made[::-1]
    page = daemon.http.get("/v1/files", params={"limit": 2}).json()
    assert [one["id"] for one in page["results"]] == made[:0:-1]
    following = daemon.http.get(page["next"]).json()
    assert following["results"][0]["id"] == made[0]
    assert len(ids) == len(set(ids))


def test_the_newer_client_runs_models_with_files_and_versions(daemon: Daemon, tmp_path: Path) -> None:
    output = ask_2(daemon, "run", "vidqueue/zoo", '{"act": "work"}')
    assert daemon.http.get(output).text == "done\n"
    version = daemon.http.get("/v1/models/vidqueue/zoo").json()["latest_version"]["id"]
    assert ask_2(daemon, "run", f"vidqueue/zoo:{version}", '{"act": "work"}').startswith(daemon.url)
    video = tmp_path / "in.mp4"
    video.write_bytes(os.urandom(300_000))
    first, _ = ask_2(daemon, "run_file", "cog/model", "video", str(video))
    assert daemon.http.get(first).content == video.read_bytes()
    assert "the model is sad" in ask_2(daemon, "fail", "cog/model", '{"act": "fail"}')["error"]
    refused = ask_2(daemon, "refuse", "cog/model", '{"steps": 0}')
    assert (refused["status"], "minimum of 1" in refused["detail"]) == (422, True)


def test_the_newer_client_follows_cancels_and_lists(daemon: Daemon) -> None:
    told = ask_2(daemon, "life", "vidqueue/zoo", '{"act": "hang"}')
    address = f"{daemon.url}/v1/predictions/{told['id']}"
    assert (told["same"], told["status"], told["removed"]) == (True, "canceled", False)
    assert told["urls"] == [address, f"{address}/cancel", f"{address}/stream", f"{daemon.url}/jobs/{told['id']}"]
    assert daemon.http.get(told["urls"][3]).status_code == 200
    ids = ask_2(daemon, "page")
    assert told["id"] in ids
    assert len(ids) == len(set(ids))


def test_the_newer_client_reads_the_catalogue_and_the_account(daemon: Daemon) -> None:
    told = ask_2(daemon, "look", "vidqueue", "zoo")
    assert {"vidqueue/zoo", "cog/model"} <= set(told["names"])
    assert (told["same"], told["account"], told["secret"].startswith("whsec_")) == (True, "local", True)


def test_the_newer_client_uses_a_model_as_a_function_and_streams_it(daemon: Daemon) -> None:
    assert ask_2(daemon, "use", "vidqueue/zoo", '{"act": "work"}') == "done\n"
    assert ask_2(daemon, "stream", "vidqueue/zoo", '{"act": "work"}').startswith(daemon.url)


def test_the_newer_client_stores_lists_and_deletes_files(daemon: Daemon, tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_bytes(b"some words")
    told = ask_2(daemon, "files", str(path))
    assert told["listed"][:3] == told["made"][::-1]
    assert told["left"][:2] == told["made"][:0:-1]
    assert (told["whole"], told["sha256"]) == (True, hashlib.sha256(b"some words").hexdigest())
