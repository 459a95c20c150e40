"""The processor `cog` with a real Cog server, and with servers that answer nonsense."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import httpx2
import pytest

from tests.daemon import Daemon, until
from vidqueue.processors.remote.documents import Documents
from vidqueue.processors.remote.peer import Peer, PeerError

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv-others/bin/python"
MODEL = Path(__file__).parent / "cog_model"

pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason="no Cog here; `make .venv-others/.installed` installs it")


class CogServer:
    """A real Cog server of the model beside this file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> CogServer:
        # The worker of the server is started as `python`, whichever comes first on PATH.
        environment = {
            "PATH": f"{PYTHON.parent}:{os.environ['PATH']}", "PORT": str(self.port), "TMPDIR": str(self._folder),
            "COG_PREDICT_TYPE_STUB": "predict.py:Runner", "HOME": str(self._folder),
        }  # fmt: skip
        with (self._folder / "cog.log").open("ab") as log:
            self.process = subprocess.Popen(
                [PYTHON, "-m", "cog.server.http", "--host", "127.0.0.1"], cwd=MODEL, env=environment,
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        until(lambda: self.health() == "READY", what=f"the start of Cog; see {self._folder / 'cog.log'}")
        return self

    def stop(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def health(self) -> str:
        try:
            return str(httpx2.get(f"{self.url}/health-check", timeout=5).json()["status"])
        except httpx2.HTTPError:
            return "down"


class Nonsense(BaseHTTPRequestHandler):
    """Is READY, and answers each prediction with what the path of its endpoint says."""

    ANSWERS: ClassVar[dict[str, tuple[int, bytes]]] = {
        "words": (200, b"it works!"),
        "list": (200, b"[]"),
        "broken": (500, b"Internal Server Error"),
        "refused": (422, b'{"detail":[{"loc":["body","input","steps"],"msg":"too many"}]}'),
        "no_file": (200, b'{"status":"succeeded","output":"http://127.0.0.1:1/video.mp4"}'),
        "base64": (200, b'{"status":"succeeded","output":"data:video/mp4;base64,%%%"}'),
        "plain": (200, b'{"status":"succeeded","output":{"text":["a","b"],"score":0.5}}'),
        "giant": (200, b'{"status":"succeeded","output":"data:video/mp4;base64,' + b"A" * (18 << 20) + b'"}'),
    }

    def do_GET(self) -> None:
        if self.path.startswith("/dripping/"):
            self._drip()
            return
        self._answer(200, b'{"status":"READY"}' if self.path.endswith("/health-check") else b"{}")

    asked: ClassVar[list[str]] = []

    def do_PUT(self) -> None:
        self.asked.append(self.path.split("/")[1])
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(*self.ANSWERS[self.path.split("/")[1]])

    def _drip(self) -> None:
        """Never be done, and never be silent for long."""
        self.send_response(200)
        self.send_header("Content-Length", "1000000")
        self.end_headers()
        with contextlib.suppress(OSError):
            while True:
                self.wfile.write(b" ")
                time.sleep(0.2)

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def cog(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CogServer]:
    server = CogServer(tmp_path_factory.mktemp("cog")).start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def daemon(cog: CogServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    liar = ThreadingHTTPServer(("127.0.0.1", 0), Nonsense)
    threading.Thread(target=liar.serve_forever, args=(0.1,), daemon=True).start()
    endpoints: dict[str, dict[str, Any]] = {
        "model": {"url": cog.url},
        "impatient": {"url": cog.url, "busy_timeout_s": 0.5, "concurrency": 5},
        "absent": {"url": "http://127.0.0.1:1"},
        "dripping": {"url": f"http://127.0.0.1:{liar.server_port}/dripping"},
        **{
            name: {"url": f"http://127.0.0.1:{liar.server_port}/{name}", "file_limit_mb": 1}
            for name in Nonsense.ANSWERS
        },
    }
    endpoints = {name: {"device": "cpu", **endpoint} for name, endpoint in endpoints.items()}
    folder = tmp_path_factory.mktemp("vidqueue")
    started = Daemon(folder / "data", VIDQUEUE_COG__ENDPOINTS=json.dumps(endpoints)).start()
    yield started
    started.stop()
    liar.shutdown()


def submit(daemon: Daemon, endpoint: str = "model", job: dict[str, Any] | None = None, **given: Any) -> str:
    body = {"processor": "cog", "input": {"endpoint": endpoint, "input": given}, **(job or {})}
    answer = daemon.http.post("/v1/jobs", json=body)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def refused(daemon: Daemon, endpoint: str = "model", **given: Any) -> dict[str, Any]:
    answer = daemon.http.post("/v1/jobs", json={"processor": "cog", "input": {"endpoint": endpoint, "input": given}})
    assert answer.status_code == 422, answer.text
    return dict(answer.json())


def stage(daemon: Daemon, job_id: str) -> str | None:
    return daemon.job(job_id)["stage"]  # type: ignore[no-any-return]


def waits_for(daemon: Daemon, job_id: str) -> str | None:
    return daemon.job(job_id)["wait_reason"]  # type: ignore[no-any-return]


def hasten(daemon: Daemon, job_id: str) -> None:
    """Let a job that was put back be tried again now."""
    daemon.sql(f"UPDATE vidqueue.jobs SET run_at = queued_at WHERE id = '{job_id}' AND state = 'queued'")


def log_of(daemon: Daemon, job_id: str) -> str:
    return daemon.http.get(f"/v1/jobs/{job_id}/logs", params={"attempt": 1}).text


def test_a_video_goes_in_and_files_come_out_with_progress_on_the_way(daemon: Daemon) -> None:
    video = os.urandom(1 << 20)
    uploaded = daemon.http.post("/v1/files", files={"file": ("in.mp4", video, "video/mp4")}).json()
    job_id = submit(daemon, video=f"vq:files/{uploaded['id']}")
    job = daemon.ended(job_id)
    assert (job["state"], job["attempt"]) == ("succeeded", 1), job["error"]
    outputs = {one["name"]: one for one in job["outputs"]}
    assert {name: one["media_type"] for name, one in outputs.items()} == {
        "output_1": "video/mp4", "output_2": "text/plain", "result": "application/json",
    }  # fmt: skip
    assert daemon.http.get(f"/v1/jobs/{job_id}/outputs/output_1").content == video
    result = daemon.http.get(f"/v1/jobs/{job_id}/outputs/result").json()
    assert result == [{"output": "output_1"}, {"output": "output_2"}]
    assert "50%|###| 1/2" in log_of(daemon, job_id)
    seen = daemon.sql(f"SELECT data FROM vidqueue.events WHERE job_id = '{job_id}' AND kind = 'progress'")
    assert 0.5 in [row["data"]["progress"] for row in seen if row["data"].get("stage") == "predict"]


def test_what_the_model_does_not_take_is_refused_at_submission(daemon: Daemon) -> None:
    problem = refused(daemon, steps=0, act="dance", wings=2, marker=3)
    assert problem["code"] == "invalid_params"
    told = {one["pointer"]: one["detail"] for one in problem["errors"]}
    assert set(told) == {"/input/input/steps", "/input/input/act", "/input/input/wings", "/input/input/marker"}
    assert "minimum of 1" in told["/input/input/steps"]
    problem = refused(daemon, "nobody")
    assert (problem["code"], problem["errors"][0]["pointer"]) == ("unknown_model", "/input/endpoint")
    assert "model" in problem["detail"]
    batch = {"jobs": [{"processor": "cog", "input": {"endpoint": "model", "input": {"steps": 99}}}]}
    answer = daemon.http.post("/v1/batches", json=batch)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/jobs/0/input/input/steps")
    assert refused(daemon, video="vq:files/01890000-0000-7000-8000-000000000000")["code"] == "input_not_found"


@pytest.mark.parametrize(
    ("act", "code", "words"),
    [
        ("fail", "model_failed", "RuntimeError: the model is sad"),
        ("out_of_memory", "gpu_out_of_memory", "CUDA out of memory"),
    ],
)
def test_what_the_model_raises_is_the_failure_of_the_job(daemon: Daemon, act: str, code: str, words: str) -> None:
    job_id = submit(daemon, act=act, job={"max_attempts": 1})
    job = daemon.ended(job_id)
    assert (job["state"], job["error"]["code"], job["attempt"]) == ("failed", code, 1)
    assert words in job["error"]["message"]
    if act == "fail":
        assert "the model begins" in log_of(daemon, job_id)


def test_a_second_job_waits_for_the_endpoint_and_burns_nothing(daemon: Daemon, tmp_path: Path) -> None:
    marker = tmp_path / "go"
    first = submit(daemon, act="hold", marker=str(marker))
    until(lambda: stage(daemon, first) == "predict")
    second = submit(daemon)
    until(lambda: waits_for(daemon, second) == "endpoint_busy")
    marker.touch()
    assert daemon.ended(first)["state"] == "succeeded"
    hasten(daemon, second)
    assert daemon.ended(second)["state"] == "succeeded"
    rows = daemon.sql(f"SELECT outcome FROM vidqueue.attempts WHERE job_id = '{second}' ORDER BY number")
    assert [row["outcome"] for row in rows][0 :: len(rows) - 1] == ["waiting", "succeeded"]
    assert daemon.sql(f"SELECT failures FROM vidqueue.jobs WHERE id = '{second}'") == [{"failures": 0}]


def test_work_of_others_on_the_server_is_waited_for(daemon: Daemon, cog: CogServer, tmp_path: Path) -> None:
    marker = tmp_path / "go"
    held = {"input": {"act": "hold", "marker": str(marker)}}
    httpx2.post(f"{cog.url}/predictions", json=held, headers={"Prefer": "respond-async"})
    until(lambda: cog.health() == "BUSY")
    patient, impatient = submit(daemon), submit(daemon, "impatient")
    until(lambda: stage(daemon, patient) == "wait")
    until(lambda: waits_for(daemon, impatient) == "endpoint_busy")
    marker.touch()
    assert daemon.ended(patient)["state"] == "succeeded"
    hasten(daemon, impatient)
    for job_id in (patient, impatient):
        assert daemon.ended(job_id)["state"] == "succeeded"
        assert daemon.sql(f"SELECT failures FROM vidqueue.jobs WHERE id = '{job_id}'") == [{"failures": 0}]


def test_a_cancel_reaches_the_server(daemon: Daemon, cog: CogServer, tmp_path: Path) -> None:
    job_id = submit(daemon, act="hold", marker=str(tmp_path / "never"))
    until(lambda: cog.health() == "BUSY" and stage(daemon, job_id) == "predict")
    daemon.http.post(f"/v1/jobs/{job_id}/cancel")
    assert daemon.ended(job_id, within_s=20)["state"] == "canceled"
    until(lambda: cog.health() == "READY", within_s=10)


@pytest.mark.parametrize(
    ("endpoint", "code"),
    [
        ("words", "peer_lost"),
        ("list", "peer_lost"),
        ("broken", "peer_lost"),
        ("refused", "invalid_params"),
        ("no_file", "peer_lost"),
        ("base64", "bad_output"),
        ("giant", "output_too_large"),
    ],
)
def test_a_server_that_answers_nonsense_fails_the_job_with_a_code(daemon: Daemon, endpoint: str, code: str) -> None:
    job = daemon.ended(submit(daemon, endpoint, job={"max_attempts": 1}))
    assert (job["state"], job["error"]["code"]) == ("failed", code)
    assert ("--upload-url" in job["error"]["hint"]) == (endpoint == "giant")
    assert Nonsense.asked.count(endpoint) == 1


def test_a_model_that_returns_no_file_has_a_result(daemon: Daemon) -> None:
    job_id = submit(daemon, "plain")
    assert [one["name"] for one in daemon.ended(job_id)["outputs"]] == ["result"]
    result = daemon.http.get(f"/v1/jobs/{job_id}/outputs/result").json()
    assert result == {"text": ["a", "b"], "score": 0.5}


def test_a_server_that_is_down_is_waited_for(daemon: Daemon) -> None:
    job_id = submit(daemon, "absent")
    until(lambda: waits_for(daemon, job_id) == "peer_unavailable")
    job = daemon.job(job_id)
    assert "does not answer" in job["message"]
    daemon.http.post(f"/v1/jobs/{job_id}/cancel")
    assert daemon.job(job_id)["state"] == "canceled"


def test_a_whole_answer_has_a_time_and_each_document_its_own_question() -> None:
    liar = ThreadingHTTPServer(("127.0.0.1", 0), Nonsense)
    threading.Thread(target=liar.serve_forever, args=(0.1,), daemon=True).start()
    documents = Documents(known_for_s=60, unknown_for_s=60)

    def drip() -> None:
        with pytest.raises(PeerError, match="did not answer in time"):
            Peer(f"http://127.0.0.1:{liar.server_port}/dripping").ask("GET", "/openapi.json", idle_s=0.5)

    with ThreadPoolExecutor() as pool:
        dripping = pool.submit(documents.get, "dripping", drip)
        until(dripping.running)
        assert documents.get("other", lambda: {"is": "there"}) == {"is": "there"}
        assert not dripping.done()
        assert dripping.result(timeout=20) is None
    liar.shutdown()


@pytest.mark.long
def test_a_server_that_drips_keeps_nobody_waiting(daemon: Daemon) -> None:
    """Its schema is asked for at a submission, and nobody else's question waits for its answer."""
    with ThreadPoolExecutor() as pool:
        submitted = pool.submit(submit, daemon, "dripping")
        assert not submitted.done()
        assert daemon.ended(submit(daemon, "plain"))["state"] == "succeeded"
        job_id = submitted.result()
    daemon.http.post(f"/v1/jobs/{job_id}/cancel")
    assert daemon.ended(job_id, within_s=40)["state"] == "canceled"


def test_a_crash_of_the_model_is_tried_again_once_the_server_is_back(
    daemon: Daemon, cog: CogServer, tmp_path: Path
) -> None:
    job_id = submit(daemon, act="crash_once", marker=str(tmp_path / "crashed"))
    until(lambda: waits_for(daemon, job_id) == "peer_unavailable", within_s=40)
    assert "must be started again" in daemon.job(job_id)["message"]
    cog.stop()
    cog.start()
    hasten(daemon, job_id)
    job = daemon.ended(job_id)
    assert job["state"] == "succeeded"
    rows = daemon.sql(f"SELECT outcome, error_code FROM vidqueue.attempts WHERE job_id = '{job_id}' ORDER BY number")
    assert rows[0] == {"outcome": "failed", "error_code": "peer_lost"}
    assert {row["outcome"] for row in rows[1:-1]} == {"waiting"}


def test_after_a_kill_of_the_daemon_no_run_is_left_and_the_job_succeeds_once(
    daemon: Daemon, cog: CogServer, tmp_path: Path
) -> None:
    marker = tmp_path / "go"
    job_id = submit(daemon, act="hold", marker=str(marker))
    until(lambda: cog.health() == "BUSY" and stage(daemon, job_id) == "predict")
    daemon.kill()
    until(lambda: cog.health() == "READY", within_s=10)
    marker.touch()
    daemon.start()
    job = daemon.ended(job_id)
    assert (job["state"], len(job["outputs"])) == ("succeeded", 3)
    assert daemon.violations() == []
