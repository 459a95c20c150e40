"""The processor `cog` with a real Cog server of version 0.9, which hears nothing while a request is open."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import httpx2
import pytest

from tests.daemon import Daemon, until
from tests.processors.test_cog import PYTHON, CogServer, hasten, log_of, refused, stage, submit, waits_for

OLD = PYTHON.parent.parent / "cog09"
MODEL = Path(__file__).parent / "cog_model_old"
COMMAND = [str(PYTHON), "-m", "cog.server.http", "--host", "127.0.0.1"]

pytestmark = pytest.mark.skipif(not OLD.exists(), reason="no old Cog; `make .venv-others/.installed` installs it")


class OldServer(CogServer):
    """A real server of Cog 0.9. `upload_port` is where it uploads files to."""

    def __init__(self, folder: Path, upload_port: int | None = None) -> None:
        super().__init__(folder)
        self.upload_port = upload_port

    def start(self, *, wait: bool = True) -> OldServer:
        options = [] if self.upload_port is None else ["--upload-url", f"http://127.0.0.1:{self.upload_port}/"]
        environment = {
            "PATH": os.environ["PATH"], "PORT": str(self.port), "TMPDIR": str(self._folder), "PYTHONPATH": str(OLD),
            "HOME": str(self._folder),
        }  # fmt: skip
        with (self._folder / "cog.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*COMMAND, *options], cwd=MODEL, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        if wait:
            self.ready()
        return self

    def ready(self) -> None:
        until(lambda: self.health() == "READY", what=f"the start of Cog 0.9; see {self._folder / 'cog.log'}")


class Dropping(BaseHTTPRequestHandler):
    """Stands before a server, and drops the first answer of each prediction after the server has begun it."""

    behind: ClassVar[str]
    seen: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self._pass_on()

    def do_POST(self) -> None:
        self._pass_on()

    def do_PUT(self) -> None:
        self._pass_on()

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name: value for name, value in self.headers.items() if name in ("Content-Type", "Prefer")}
        answer = httpx2.request(self.command, self.behind + self.path, content=body, headers=headers, timeout=30)
        if self.command == "PUT":
            self.seen.append(self.path)
            if self.seen.count(self.path) == 1:
                self.close_connection = True
                return
        self.send_response(answer.status_code)
        self.send_header("Content-Length", str(len(answer.content)))
        self.end_headers()
        self.wfile.write(answer.content)

    def log_message(self, *args: Any) -> None:
        pass


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture(scope="module")
def uploading(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OldServer]:
    """A server that was started with --upload-url."""
    server = OldServer(tmp_path_factory.mktemp("old-uploading"), free_port()).start(wait=False)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OldServer]:
    """A server that was started without."""
    server = OldServer(tmp_path_factory.mktemp("old-plain")).start(wait=False)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def daemon(uploading: OldServer, plain: OldServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    Dropping.behind = uploading.url
    between = ThreadingHTTPServer(("127.0.0.1", 0), Dropping)
    threading.Thread(target=between.serve_forever, args=(0.1,), daemon=True).start()
    managed = {"command": COMMAND, "directory": str(MODEL), "environment": {"PYTHONPATH": str(OLD)}}
    endpoints: dict[str, dict[str, Any]] = {
        "model": {"url": uploading.url, "upload_port": uploading.upload_port},
        "plain": {"url": plain.url},
        "dropping": {"url": f"http://127.0.0.1:{between.server_port}", "upload_port": uploading.upload_port},
        "managed": managed,
        "broken": {**managed, "environment": {"PYTHONPATH": str(OLD), "SETUP": "fail"}},
    }
    endpoints = {name: {"device": "cpu", **endpoint} for name, endpoint in endpoints.items()}
    folder = tmp_path_factory.mktemp("vidqueue")
    started = Daemon(folder / "data", VIDQUEUE_COG__ENDPOINTS=json.dumps(endpoints)).start()
    uploading.ready()
    plain.ready()
    yield started
    started.stop()
    between.shutdown()


def outcomes(daemon: Daemon, job_id: str) -> list[tuple[str, str | None]]:
    rows = daemon.sql(f"SELECT outcome, error_code FROM vidqueue.attempts WHERE job_id = '{job_id}' ORDER BY number")
    return [(row["outcome"], row["error_code"]) for row in rows]


@pytest.mark.parametrize("endpoint", ["model", "plain", pytest.param("managed", marks=pytest.mark.long)])
def test_a_video_goes_in_and_files_are_uploaded_with_progress_on_the_way(daemon: Daemon, endpoint: str) -> None:
    video = os.urandom(1 << 20)
    uploaded = daemon.http.post("/v1/files", files={"file": ("in.mp4", video, "video/mp4")}).json()
    job_id = submit(daemon, endpoint, video=f"vq:files/{uploaded['id']}", steps=4)
    job = daemon.ended(job_id)
    assert (job["state"], job["attempt"]) == ("succeeded", 1), (job["error"], log_of(daemon, job_id))
    outputs = {one["name"]: one for one in job["outputs"]}
    assert {name: one["media_type"] for name, one in outputs.items()} == {
        "output_1": "video/mp4", "output_2": "video/mp4", "result": "application/json",
    }  # fmt: skip
    assert daemon.http.get(f"/v1/jobs/{job_id}/outputs/output_1").content == video
    assert daemon.http.get(f"/v1/jobs/{job_id}/outputs/output_2").content == b"made\n"
    result = daemon.http.get(f"/v1/jobs/{job_id}/outputs/result").json()
    assert result == [{"output": "output_1"}, {"output": "output_2"}]
    seen = daemon.sql(f"SELECT data FROM vidqueue.events WHERE job_id = '{job_id}' AND kind = 'progress'")
    assert {row["data"]["progress"] for row in seen if row["data"].get("stage") == "predict"} & {0.25, 0.5, 0.75}
    # The bytes came as they are, and not inside an answer.
    assert "base64" not in log_of(daemon, job_id)


def test_what_an_old_model_does_not_take_is_refused_at_submission(daemon: Daemon) -> None:
    problem = refused(daemon, steps=0, act="dance", wings=2)
    assert problem["code"] == "invalid_params"
    assert {one["pointer"] for one in problem["errors"]} == {
        f"/input/input/{name}" for name in ("steps", "act", "wings")
    }


@pytest.mark.parametrize("endpoint", ["model", "plain"])
@pytest.mark.parametrize(
    ("act", "code", "words"),
    [("fail", "model_failed", "the model is sad"), ("out_of_memory", "gpu_out_of_memory", "CUDA out of memory")],
)
def test_what_an_old_model_raises_is_the_failure_of_the_job(
    daemon: Daemon, endpoint: str, act: str, code: str, words: str
) -> None:
    job_id = submit(daemon, endpoint, act=act, job={"max_attempts": 1})
    job = daemon.ended(job_id)
    assert (job["state"], job["error"]["code"], job["attempt"]) == ("failed", code, 1)
    assert words in job["error"]["message"]
    if act == "fail":
        assert "the model begins" in log_of(daemon, job_id)


def test_an_old_server_answers_while_it_works_and_a_cancel_reaches_it(
    daemon: Daemon, uploading: OldServer, tmp_path: Path
) -> None:
    marker = tmp_path / "go"
    held = submit(daemon, act="hold", marker=str(marker))
    until(lambda: stage(daemon, held) == "predict")
    assert uploading.health() == "BUSY"
    waiting = submit(daemon)
    until(lambda: waits_for(daemon, waiting) == "endpoint_busy")
    daemon.http.post(f"/v1/jobs/{held}/cancel")
    assert daemon.ended(held, within_s=20)["state"] == "canceled"
    until(lambda: uploading.health() == "READY")
    hasten(daemon, waiting)
    assert daemon.ended(waiting)["state"] == "succeeded"


def test_a_prediction_whose_first_answer_is_lost_runs_once(daemon: Daemon) -> None:
    Dropping.seen.clear()
    job = daemon.ended(submit(daemon, "dropping", steps=1))
    assert (job["state"], job["attempt"]) == ("succeeded", 1), job["error"]
    assert len(job["outputs"]) == 3
    assert len(Dropping.seen) == 1


@pytest.mark.long
def test_work_of_others_on_an_old_server_is_waited_for(daemon: Daemon, uploading: OldServer, tmp_path: Path) -> None:
    marker = tmp_path / "go"
    held = {"input": {"act": "hold", "marker": str(marker)}}
    httpx2.post(f"{uploading.url}/predictions", json=held, headers={"Prefer": "respond-async"})
    until(lambda: uploading.health() == "BUSY")
    job_id = submit(daemon)
    until(lambda: stage(daemon, job_id) == "wait")
    marker.touch()
    assert daemon.ended(job_id)["state"] == "succeeded"
    assert {outcome for outcome, _ in outcomes(daemon, job_id)} <= {"waiting", "succeeded"}


def test_a_prediction_that_a_killed_daemon_left_behind_is_canceled_by_the_next_attempt(
    daemon: Daemon, uploading: OldServer, tmp_path: Path
) -> None:
    marker = tmp_path / "go"
    job_id = submit(daemon, act="hold", marker=str(marker))
    until(lambda: uploading.health() == "BUSY" and stage(daemon, job_id) == "predict")
    daemon.kill()
    daemon.start()
    until(lambda: daemon.job(job_id)["attempt"] == 2 and stage(daemon, job_id) == "predict")
    marker.touch()
    job = daemon.ended(job_id)
    assert (job["state"], len(job["outputs"])) == ("succeeded", 3)
    assert uploading.health() == "READY"
    assert daemon.violations() == []


def test_a_prediction_that_a_killed_daemon_left_behind_is_canceled_with_its_job(
    daemon: Daemon, uploading: OldServer
) -> None:
    job_id = submit(daemon, act="hold", marker="/nonexistent")
    until(lambda: uploading.health() == "BUSY" and stage(daemon, job_id) == "predict")
    daemon.http.post("/v1/pause", json={}).raise_for_status()
    daemon.kill()
    daemon.start()
    until(lambda: daemon.job(job_id)["state"] == "queued")
    daemon.http.post(f"/v1/jobs/{job_id}/cancel").raise_for_status()
    daemon.http.post("/v1/resume", json={}).raise_for_status()
    # The server tells the end of the prediction until somebody listens at its port again.
    assert daemon.ended(submit(daemon, steps=1))["state"] == "succeeded"


def test_a_crash_of_an_old_model_ends_its_server_and_the_job_is_tried_again(daemon: Daemon, tmp_path: Path) -> None:
    job_id = submit(daemon, "managed", act="crash_once", marker=str(tmp_path / "crashed"))
    job = daemon.ended(job_id)
    assert job["state"] == "succeeded", job["error"]
    assert outcomes(daemon, job_id)[0] == ("failed", "peer_lost")
    assert {outcome for outcome, _ in outcomes(daemon, job_id)[1:-1]} <= {"waiting"}


@pytest.mark.long
def test_an_old_server_whose_setup_fails_says_why(daemon: Daemon) -> None:
    job = daemon.ended(submit(daemon, "broken", job={"max_attempts": 1}))
    assert (job["state"], job["error"]["code"]) == ("failed", "peer_setup_failed")
    assert "no kernel image is available" in job["error"]["message"]
