"""The processor `replicate`: against our own Replicate door, and against servers that forget, refuse and lie."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from tests.compat.test_videos_servers import answers, asked, attempts
from tests.daemon import Daemon, until
from tests.web import Asked, Web, answer, serving

TOKEN = "r8_of_the_account"
SCHEMA = {
    "components": {
        "schemas": {
            "Input": {
                "type": "object",
                "properties": {
                    "prompt": {"type": "string"},
                    "steps": {"type": "integer"},
                    "picture": {"type": "string", "format": "uri"},
                },
            },
            "Output": {"type": "array", "items": {"type": "string", "format": "uri"}},
        }
    }
}


@pytest.fixture(scope="module")
def web() -> Iterator[Web]:
    with serving() as running:
        model = {"owner": "o", "name": "n", "latest_version": {"id": "abc", "openapi_schema": SCHEMA}}
        running.pages["/api/models/o/n"] = answers((200, model))
        running.pages["/api/models/o/nothing"] = answers((404, {"detail": "?", "status": 404}))
        yield running


@pytest.fixture(scope="module")
def daemon(web: Web, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon that is a client of itself: one lane does the work that the other one asks for."""
    folder = tmp_path_factory.mktemp("accounts")
    token_file = folder / "token"
    token_file.write_text(TOKEN)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    accounts = {
        "ours": {"url": f"http://127.0.0.1:{port}/v1"},
        "stub": {"url": f"{web.url}/api", "token_file": str(token_file), "away_timeout_s": 0.5},
    }
    started = Daemon(
        folder / "data", VIDQUEUE_API__PORT=str(port), VIDQUEUE_REPLICATE__ACCOUNTS=json.dumps(accounts)
    ).start()
    yield started
    started.stop()


def submit(daemon: Daemon, account: str, model: str, **given: Any) -> str:
    return daemon.submit("replicate", account=account, model=model, input=given)


def stub(web: Web, *values: tuple[int, Any]) -> None:
    """Let the server take a prediction, and answer these things about it."""
    web.pages["/api/models/o/n/predictions"] = answers((201, prediction("starting")))
    web.pages["/api/predictions/p1"] = answers(*values)


def prediction(status: str, **more: Any) -> dict[str, Any]:
    return {"id": "p1", "model": "o/n", "version": "abc", "status": status, "output": None, "logs": "", **more}


def output_of(daemon: Daemon, job: dict[str, Any], name: str) -> bytes:
    return bytes(daemon.http.get(f"/v1/jobs/{job['id']}/outputs/{name}").content)


def test_a_prediction_runs_at_our_own_door_and_its_file_comes_back(daemon: Daemon) -> None:
    job = daemon.ended(submit(daemon, "ours", "vidqueue/zoo", act="work"))
    assert job["state"] == "succeeded", job
    assert output_of(daemon, job, "output") == b"done\n"
    assert json.loads(output_of(daemon, job, "result")) == {"output": "output"}


def test_a_file_is_uploaded_and_comes_back(daemon: Daemon) -> None:
    content = os.urandom(300_000)
    stored = daemon.http.post("/v1/files", content=content, params={"name": "some.bin"}).json()
    job = daemon.ended(submit(daemon, "ours", "vidqueue/zoo", act="read", media=stored["reference"]))
    assert job["state"] == "succeeded", job
    assert output_of(daemon, job, "output") == content


def test_a_file_travels_inside_the_input_where_no_uploads_are_taken(daemon: Daemon, web: Web) -> None:
    stub(web, (200, prediction("succeeded", output=[])))
    stored = daemon.http.post("/v1/files", content=b"some words", params={"name": "words.txt"}).json()
    assert daemon.ended(submit(daemon, "stub", "o/n", picture=stored["reference"]))["state"] == "succeeded"
    sent = json.loads(asked(web, "/api/models/o/n/predictions")[-1].body)
    assert sent == {"input": {"picture": "data:text/plain;base64,c29tZSB3b3Jkcw=="}}


def test_a_version_may_be_named(daemon: Daemon) -> None:
    version = daemon.http.get("/v1/models/vidqueue/zoo").json()["latest_version"]["id"]
    job = daemon.ended(submit(daemon, "ours", f"vidqueue/zoo:{version}", act="work"))
    assert job["state"] == "succeeded"


def test_a_cancel_cancels_the_prediction(daemon: Daemon) -> None:
    job_id = submit(daemon, "ours", "vidqueue/zoo", act="hang")
    hanging = "SELECT id, state FROM vidqueue.jobs WHERE processor = 'zoo' AND input ->> 'act' = 'hang'"
    until(lambda: [one["state"] for one in daemon.sql(hanging)] == ["running"])
    daemon.http.post(f"/v1/jobs/{job_id}/cancel")
    assert daemon.ended(job_id)["state"] == "canceled"
    until(lambda: [one["state"] for one in daemon.sql(hanging)] == ["canceled"])


def test_input_is_checked_against_the_models_schema_at_submission(daemon: Daemon, web: Web) -> None:
    def refused(**given: Any) -> dict[str, Any]:
        body = {"processor": "replicate", "input": given}
        return dict(daemon.http.post("/v1/jobs", json=body).json())

    problem = refused(account="stub", model="o/n", input={"steps": "many", "wings": 2})
    assert problem["code"] == "invalid_params"
    assert {one["pointer"] for one in problem["errors"]} == {"/input/input/steps", "/input/input/wings"}
    problem = refused(account="ours", model="vidqueue/zoo", input={"act": "dance"})
    assert (problem["code"], problem["errors"][0]["pointer"]) == ("invalid_params", "/input/input/act")
    assert refused(account="stub", model="o/nothing")["code"] == "unknown_model"
    assert refused(account="nobody", model="o/n")["code"] == "unknown_model"
    assert refused(account="stub", model="../n")["code"] == "invalid_params"
    assert all(one.headers["authorization"] == f"Bearer {TOKEN}" for one in asked(web, "/api/models/o/n"))


def test_log_and_progress_and_a_list_of_files_come_back(daemon: Daemon, web: Web) -> None:
    files = [f"{web.url}/files/a.mp4", f"{web.url}/files/b.png"]
    for url, content in zip(files, (b"first", b"second"), strict=True):
        web.pages[url.removeprefix(web.url)] = answer(200, content, Content_Type="application/octet-stream")
    half = prediction("processing", logs="begun\n 50%|#####     | 5/10\n")
    done = prediction("succeeded", logs="begun\n 50%|#####     | 5/10\nend\n", output=files)
    stub(web, (200, half), (200, done))
    job = daemon.ended(submit(daemon, "stub", "o/n", prompt="x"))
    assert job["state"] == "succeeded", job
    assert (output_of(daemon, job, "output_1"), output_of(daemon, job, "output_2")) == (b"first", b"second")
    assert json.loads(output_of(daemon, job, "result")) == [{"output": "output_1"}, {"output": "output_2"}]
    assert [one["filename"] for one in job["outputs"]][:2] == ["replicate-output_1.mp4", "replicate-output_2.png"]
    log = daemon.http.get(f"/v1/jobs/{job['id']}/logs", params={"attempt": 1}).text
    assert "begun" in log
    assert "end" in log
    assert TOKEN not in log


def test_a_prediction_that_is_forgotten_interrupts(daemon: Daemon, web: Web) -> None:
    web.pages["/api/models/o/n/predictions"] = answers((201, prediction("starting")))
    done = prediction("succeeded", output=[])
    web.pages["/api/predictions/p1"] = answers((200, prediction("processing")), (404, {}), (200, done))
    job_id = submit(daemon, "stub", "o/n", prompt="x")
    assert daemon.ended(job_id)["state"] == "succeeded"
    assert [outcome for outcome, _ in attempts(daemon, job_id)] == ["interrupted", "succeeded"]


@pytest.mark.parametrize(
    ("ended", "code"),
    [
        (prediction("failed", error="CUDA out of memory. Tried to allocate"), "gpu_out_of_memory"),
        (prediction("failed", error="NSFW content detected."), "content_refused"),
        (prediction("failed", error="the model is sad"), "model_failed"),
        (prediction("canceled"), "model_failed"),
        (prediction("aborted"), "model_failed"),
        (prediction("succeeded", data_removed=True), "peer_lost"),
        (prediction("succeeded", output=["http://127.0.0.1:1/gone.mp4"]), "peer_lost"),
    ],
)
def test_a_failure_has_the_code_that_fits(daemon: Daemon, web: Web, ended: dict[str, Any], code: str) -> None:
    stub(web, (200, ended))
    given = {"account": "stub", "model": "o/n", "input": {}}
    job = daemon.ended(daemon.submit("replicate", max_attempts=1, **given))
    assert (job["state"], job["error"]["code"]) == ("failed", code)


def test_a_token_is_sent_to_its_own_server_only(daemon: Daemon, web: Web, tmp_path: Path) -> None:
    """The result may lie elsewhere: there the token is nobody's business, and only public addresses are read."""
    with serving() as elsewhere:
        elsewhere.pages["/a.mp4"] = answer(200, b"x")
        stub(web, (200, prediction("succeeded", output=[f"{elsewhere.url}/a.mp4"])))
        given = {"account": "stub", "model": "o/n", "input": {}}
        job = daemon.ended(daemon.submit("replicate", max_attempts=1, **given))
        assert job["error"]["code"] == "peer_lost"
        assert elsewhere.asked == []


def test_a_prediction_whose_first_answer_is_lost_is_found_by_its_input(daemon: Daemon, web: Web) -> None:
    begun: list[dict[str, Any]] = []

    def begin(server: BaseHTTPRequestHandler, asked: Asked) -> None:
        given = json.loads(asked.body)
        now = datetime.now(UTC).isoformat()
        begun.append(prediction("starting", input=given["input"], created_at=now) | {"id": "p7"})
        server.close_connection = True

    def listed(server: BaseHTTPRequestHandler, asked: Asked) -> None:
        other = prediction("starting", input={"prompt": "another"}, created_at=datetime.now(UTC).isoformat())
        answers((200, {"next": None, "results": [other | {"id": "p0"}, *begun]}))(server, asked)

    web.pages["/api/predictions/p7"] = answers((200, prediction("succeeded", output=[]) | {"id": "p7"}))
    web.pages["/api/models/o/n/predictions"] = begin
    web.pages["/api/predictions"] = listed
    job = daemon.ended(submit(daemon, "stub", "o/n", prompt="its answer is lost"))
    assert (job["state"], job["attempt"], len(begun)) == ("succeeded", 1, 1), job["error"]
