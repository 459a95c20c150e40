"""The processor `videos`: against `/v1/videos` of another daemon, and servers that forget, refuse and lie."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from tests.compat.test_videos import ALIASES, PICTURE
from tests.daemon import FINAL, Daemon, until
from tests.web import Asked, Web, answer, serving
from vidqueue.job import Interrupted, RetryState, State, verdict

KEY = "sk-of-the-video-server"


@pytest.fixture(scope="module")
def web() -> Iterator[Web]:
    """Servers that do what their tests say, each below a path of its own."""
    with serving() as running:
        yield running


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon whose door is the server of the other one."""
    folder = tmp_path_factory.mktemp("door") / "data"
    started = Daemon(folder, VIDQUEUE_VIDEOS__MODELS=json.dumps(ALIASES)).start()
    yield started
    started.stop()


@pytest.fixture(scope="module")
def daemon(door: Daemon, web: Web, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("videos")
    key_file = folder / "key"
    key_file.write_text(f"{KEY}\n")
    names = ("forgetful", "refusing", "busy", "lying", "failing", "odd", "away")
    servers: dict[str, dict[str, Any]] = {
        "ours": {"url": f"{door.url}/v1", "concurrency": 2},
        "single": {"url": f"{door.url}/v1"},
        "absent": {"url": "http://127.0.0.1:1/v1"},
        "fickle": {"url": f"{web.url}/fickle"},
        "patient": {"url": f"{web.url}/patient"},
        "managed": {"command": [sys.executable, str(Path(__file__).parent / "video_server.py"), "{port}"]},
        **{name: {"url": f"{web.url}/{name}", "key_file": str(key_file), "away_timeout_s": 0.5} for name in names},
    }
    started = Daemon(folder / "data", VIDQUEUE_VIDEOS__SERVERS=json.dumps(servers)).start()
    yield started
    started.stop()


def submit(daemon: Daemon, server: str, **given: Any) -> str:
    return daemon.submit("videos", server=server, **{"prompt": "a fox", **given})


def attempts(daemon: Daemon, job_id: str) -> list[tuple[str, str | None]]:
    found = daemon.http.get(f"/v1/jobs/{job_id}/attempts").json()["attempts"]
    return [(one["outcome"], one["reason"]) for one in found]


def answers(*values: tuple[int, Any]) -> Callable[[BaseHTTPRequestHandler, Asked], None]:
    """A handler that gives these answers one after the other, and then the last one."""
    left = list(values)

    def handle(server: BaseHTTPRequestHandler, asked: Asked) -> None:
        status, value = left.pop(0) if len(left) > 1 else left[0]
        answer(status, json.dumps(value).encode(), Content_Type="application/json")(server, asked)

    return handle


def video(status: str, **more: Any) -> dict[str, Any]:
    return {"id": "video_1", "object": "video", "status": status, "progress": 50, **more}


def asked(web: Web, path: str) -> list[Asked]:
    return [one for one in web.asked if one.path == path]


def test_a_video_is_made_at_our_own_door(daemon: Daemon, door: Daemon) -> None:
    stored = daemon.http.post("/v1/files", files={"file": ("in.png", PICTURE, "image/png")}).json()
    job_id = submit(daemon, "ours", model="still", image=stored["reference"], seconds=1, size="64x48")
    job = daemon.ended(job_id)
    assert job["state"] == "succeeded", job
    (output,) = job["outputs"]
    assert (output["name"], output["media_type"]) == ("video", "video/mp4")
    theirs = door.job(output["facts"]["server_id"])
    assert (theirs["title"], theirs["outputs"][0]["sha256"]) == ("a fox", output["sha256"])
    assert (theirs["input"]["width"], theirs["input"]["clips"][0]["duration_s"]) == (64, 1)


def models_at(door: Daemon) -> list[str]:
    """The models of the videos that are there."""
    return [one["model"] for one in door.http.get("/v1/videos").json()["data"]]


def test_a_cancel_deletes_the_video_on_the_server(daemon: Daemon, door: Daemon) -> None:
    job_id = submit(daemon, "ours", model="hang")
    until(lambda: daemon.job(job_id)["stage"] == "generate")
    daemon.http.post(f"/v1/jobs/{job_id}/cancel")
    assert daemon.ended(job_id)["state"] == "canceled"
    assert "hang" not in models_at(door)


@pytest.mark.parametrize("ends_by", [signal.SIGKILL, signal.SIGTERM])
def test_when_the_daemon_ends_the_next_attempt_goes_on_with_the_same_video(
    daemon: Daemon, door: Daemon, tmp_path: Path, ends_by: signal.Signals
) -> None:
    marker = tmp_path / "marker"
    extra = {"extra_params": {"act": "publish", "marker": str(marker)}}
    job_id = submit(daemon, "ours", model="vidqueue/zoo", extra=extra)
    until(lambda: daemon.job(job_id)["stage"] == "generate")
    before = door.sql("SELECT id FROM vidqueue.jobs ORDER BY id")
    daemon.process.send_signal(ends_by)
    daemon.end(by=ends_by)
    marker.touch()
    daemon.start()
    job = daemon.ended(job_id)
    assert (job["state"], job["attempt"]) == ("succeeded", 2), job["error"]
    assert door.sql("SELECT id FROM vidqueue.jobs ORDER BY id") == before


def test_a_video_is_deleted_when_its_job_is_canceled_after_a_kill(daemon: Daemon, door: Daemon) -> None:
    """No attempt is there that could tell the server."""
    job_id = submit(daemon, "ours", model="hang")
    until(lambda: daemon.job(job_id)["stage"] == "generate")
    assert "hang" in models_at(door)
    daemon.http.post("/v1/pause", json={}).raise_for_status()
    daemon.kill()
    daemon.start()
    until(lambda: daemon.job(job_id)["state"] == "queued")
    daemon.http.post(f"/v1/jobs/{job_id}/cancel").raise_for_status()
    until(lambda: "hang" not in models_at(door), what="the video is deleted")
    daemon.http.post("/v1/resume", json={}).raise_for_status()


def test_a_job_that_the_server_forgot_is_interrupted_and_not_failed(daemon: Daemon, web: Web) -> None:
    made = answers((200, video("queued")), (200, video("queued") | {"id": "video_2"}))
    web.pages["/forgetful/videos"] = made
    web.pages["/forgetful/videos/video_1"] = answers((200, video("in_progress")), (404, {"error": {"message": "?"}}))
    web.pages["/forgetful/videos/video_2"] = answers((200, video("completed")))
    web.pages["/forgetful/videos/video_2/content"] = answer(200, b"bytes", Content_Type="video/mp4")
    job_id = submit(daemon, "forgetful")
    job = daemon.ended(job_id)
    assert job["state"] == "succeeded"
    (first, reason), (second, _) = attempts(daemon, job_id)
    assert (first, second) == ("interrupted", "succeeded")
    assert reason is not None
    assert reason.startswith("peer_lost: The video server forgetful no longer has the work")
    assert daemon.sql(f"SELECT failures FROM vidqueue.jobs WHERE id = '{job_id}'") == [{"failures": 0}]
    keys = {one.headers["idempotency-key"] for one in asked(web, "/forgetful/videos")}
    assert len(keys) == 2
    assert all(one.headers["authorization"] == f"Bearer {KEY}" for one in asked(web, "/forgetful/videos"))
    assert KEY not in daemon.http.get(f"/v1/jobs/{job_id}/logs?attempt=1").text


def test_a_server_that_is_overloaded_for_a_while_begins_nothing_anew(daemon: Daemon, web: Web) -> None:
    """A proxy answers in its place, in the middle of the work and when the next attempt asks for it."""
    bad = [answer(status, b"Bad Gateway", Retry_After="1") for status in (502, 503, 429, 500, 504, 502, 503)]
    at_work = json.dumps(video("in_progress")).encode()
    told = [answer(200, at_work, openai_poll_after_ms="200"), *bad, answer(200, at_work)]
    web.pages["/patient/videos"] = answers((200, video("queued")))

    def tell(server: BaseHTTPRequestHandler, asked: Asked) -> None:
        (told.pop(0) if told[1:] else told[0])(server, asked)

    web.pages["/patient/videos/video_1"] = tell
    web.pages["/patient/videos/video_1/content"] = answer(200, b"bytes", Content_Type="video/mp4")
    job_id = submit(daemon, "patient")
    until(lambda: len(told) == 1)
    daemon.kill()
    told[:] = [bad[0]]
    daemon.start()
    until(lambda: "waiting" in {outcome for outcome, _ in attempts(daemon, job_id)})
    told[:] = [answer(200, json.dumps(video("completed")).encode())]
    assert daemon.ended(job_id)["state"] == "succeeded"
    assert len(asked(web, "/patient/videos")) == 1, "the work is begun once"
    assert {outcome for outcome, _ in attempts(daemon, job_id)} == {"interrupted", "waiting", "succeeded"}


def test_ten_losses_in_a_row_are_no_accident() -> None:
    lost = Interrupted("peer_lost: it was restarted", lost=True, delay_s=1, by_peer=True)
    first, last = (verdict(lost, RetryState(0, 0, 3, losses=losses)) for losses in (0, 9))
    assert (first.state, first.lost, first.burned, first.delay_s) == (State.QUEUED, True, False, 1)
    assert (last.state, last.failure and last.failure.code) == (State.FAILED, "peer_lost")


def test_a_server_that_goes_away_in_the_middle_interrupts(daemon: Daemon, web: Web) -> None:
    def gone(server: BaseHTTPRequestHandler, asked: Asked) -> None:
        server.close_connection = True

    web.pages["/away/videos"] = answers((200, video("queued")))
    web.pages["/away/videos/video_1"] = gone
    job_id = submit(daemon, "away")
    until(lambda: [outcome for outcome, _ in attempts(daemon, job_id)][:1] == ["interrupted"])
    web.pages["/away/videos/video_1"] = answers((200, video("completed")))
    web.pages["/away/videos/video_1/content"] = answer(200, b"bytes", Content_Type="video/mp4")
    daemon.sql(f"UPDATE vidqueue.jobs SET run_at = queued_at WHERE id = '{job_id}' AND state = 'queued'")
    assert daemon.ended(job_id)["state"] == "succeeded"
    assert len(asked(web, "/away/videos")) == 1


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (400, {"error": {"message": "seconds must be 4", "code": "invalid_value"}}, "invalid_params"),
        (422, {"detail": [{"loc": ["body", "size"], "msg": "bad size"}]}, "invalid_params"),
        (404, {"error": {"message": "no such model", "code": "model_not_found"}}, "missing_model"),
        (400, {"error": {"message": "no", "code": "moderation_blocked"}}, "content_refused"),
    ],
)
def test_what_the_server_refuses_fails_with_its_words(
    daemon: Daemon, web: Web, status: int, body: Any, code: str
) -> None:
    web.pages["/refusing/videos"] = answers((status, body))
    job = daemon.ended(submit(daemon, "refusing"))
    assert (job["state"], job["error"]["code"], job["attempt"]) == ("failed", code, 1)


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (429, {"error": {"message": "slow down"}}, "peer_busy"),
        (503, {}, "peer_busy"),
        (401, {"error": {"message": "wrong key"}}, "peer_unavailable"),
        (404, {}, "peer_unavailable"),
        (302, {}, "peer_unavailable"),
    ],
)
def test_a_server_that_cannot_take_the_work_lets_it_wait(
    daemon: Daemon, web: Web, status: int, body: Any, reason: str
) -> None:
    web.pages["/busy/videos"] = answers((status, body))
    job_id = submit(daemon, "busy")
    until(lambda: daemon.job(job_id)["wait_reason"] == reason)
    daemon.http.post(f"/v1/jobs/{job_id}/cancel")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ({"code": "server_error", "message": "CUDA out of memory. Tried to allocate 2 GiB"}, "gpu_out_of_memory"),
        ({"code": "moderation_blocked", "message": "not that"}, "content_refused"),
        ({"code": "generation_failed", "message": "the model is sad"}, "model_failed"),
        (None, "model_failed"),
    ],
)
def test_a_failure_has_the_code_that_fits(daemon: Daemon, web: Web, error: Any, code: str) -> None:
    web.pages["/failing/videos"] = answers((200, video("failed", error=error)))
    job = daemon.ended(daemon.submit("videos", server="failing", prompt="x", max_attempts=1))
    assert job["error"]["code"] == code
    assert error is None or error["message"] in job["error"]["message"]


@pytest.mark.parametrize(
    ("kind", "content"),
    [("application/json", b'{"error": "none"}'), ("video/mp4", b""), ("text/html", b"<html>")],
)
def test_a_server_that_delivers_no_video_is_not_believed(daemon: Daemon, web: Web, kind: str, content: bytes) -> None:
    web.pages["/lying/videos"] = answers((200, video("completed")))
    web.pages["/lying/videos/video_1/content"] = answer(200, content, Content_Type=kind)
    job = daemon.ended(daemon.submit("videos", server="lying", prompt="x", max_attempts=1))
    assert (job["error"]["code"], "delivers none" in job["error"]["message"]) == ("peer_lost", True)


def test_a_video_that_is_not_delivered_is_asked_for_again_before_it_is_made_again(daemon: Daemon, web: Web) -> None:
    web.pages["/fickle/videos"] = answers((200, video("completed")))
    web.pages["/fickle/videos/video_1"] = answers((200, video("completed")))
    told = [answer(404, b"{}"), answer(200, b"", Content_Type="video/mp4"), answer(200, b"x", Content_Type="video/mp4")]

    def tell(server: BaseHTTPRequestHandler, asked: Asked) -> None:
        (told.pop(0) if told[1:] else told[0])(server, asked)

    web.pages["/fickle/videos/video_1/content"] = tell
    job_id = submit(daemon, "fickle")
    hasten(daemon, job_id)
    assert daemon.ended(job_id)["state"] == "succeeded"
    assert [outcome for outcome, _ in attempts(daemon, job_id)] == ["failed", "failed", "succeeded"]
    assert len(asked(web, "/fickle/videos")) == 2


def hasten(daemon: Daemon, job_id: str) -> None:
    """Leave out the pauses between two attempts."""

    def over() -> bool:
        daemon.sql(
            f"UPDATE vidqueue.jobs SET run_at = queued_at WHERE id = '{job_id}' AND state = 'queued' AND attempt > 0"
        )
        return daemon.job(job_id)["state"] in FINAL

    until(over)


@pytest.mark.parametrize("body", [[], {"status": "queued"}, {"id": "../../etc", "status": "queued"}, "words"])
def test_an_answer_that_is_no_video_is_a_loss(daemon: Daemon, web: Web, body: Any) -> None:
    web.pages["/odd/videos"] = answers((200, body))
    job = daemon.ended(daemon.submit("videos", server="odd", prompt="x", max_attempts=1))
    assert job["error"]["code"] == "peer_lost"


def test_more_jobs_than_a_server_takes_wait_and_say_so(daemon: Daemon, door: Daemon) -> None:
    """It takes one, and the other lane is free."""
    jobs = [submit(daemon, "single", model="hang") for _ in range(2)]
    until(lambda: [daemon.job(job_id)["wait_reason"] for job_id in jobs].count("endpoint_busy") == 1)
    for job_id in jobs:
        daemon.http.post(f"/v1/jobs/{job_id}/cancel")
        assert daemon.ended(job_id)["state"] == "canceled"


def managed(daemon: Daemon) -> dict[str, Any]:
    """The managed server of the first lane, as people see it."""
    lanes = {one["name"]: one for one in daemon.http.get("/v1/lanes").json()["lanes"]}
    return dict({one["name"]: one for one in lanes["cpu0"]["peers"]}["videos:managed"])


def test_a_server_with_a_command_is_started_and_started_again_when_it_dies(daemon: Daemon, tmp_path: Path) -> None:
    until(lambda: managed(daemon)["state"] == "stopped")
    job = daemon.ended(submit(daemon, "managed", lane="cpu0"))
    assert (job["state"], job["attempt"], job["outputs"][0]["size"]) == ("succeeded", 1, 9), job["error"]
    log = daemon.http.get(f"/v1/jobs/{job['id']}/logs?attempt=1").text
    assert "takes video_1" in log
    until(lambda: managed(daemon)["state"] == "ready")

    job_id = submit(daemon, "managed", lane="cpu0", prompt="wait", negative_prompt=str(tmp_path / "go"))
    until(lambda: daemon.job(job_id)["stage"] == "generate")
    (server,) = [pid for pid in daemon.children("video_server.py") if "subreaper.py" not in command_of(pid)]
    (tmp_path / "go").touch()
    os.kill(server, signal.SIGKILL)
    assert daemon.ended(job_id)["state"] == "succeeded"
    outcomes = [outcome for outcome, _ in attempts(daemon, job_id)]
    assert outcomes == ["interrupted", "succeeded"], "it burns nothing"
    assert managed(daemon)["starts"] == 2


def command_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text()


def test_a_cancel_deletes_the_video_on_a_server_that_stays(daemon: Daemon) -> None:
    starts = managed(daemon)["starts"]
    job_id = submit(daemon, "managed", lane="cpu0", prompt="wait", negative_prompt="/nonexistent")
    until(lambda: daemon.job(job_id)["stage"] == "generate")
    daemon.http.post(f"/v1/jobs/{job_id}/cancel")
    assert daemon.ended(job_id)["state"] == "canceled"
    assert "deletes one" in daemon.http.get(f"/v1/jobs/{job_id}/logs?attempt=1").text
    assert daemon.ended(submit(daemon, "managed", lane="cpu0"))["state"] == "succeeded"
    assert managed(daemon)["starts"] == starts


def test_what_cannot_be_is_refused_at_submission(daemon: Daemon) -> None:
    for given in ({"server": "unknown"}, {"server": "ours", "size": "big"}):
        body = {"processor": "videos", "input": {"prompt": "x", **given}}
        answer = daemon.http.post("/v1/jobs", json=body)
        assert (answer.status_code, answer.json()["code"]) == (
            (422, "unknown_model") if given["server"] == "unknown" else (422, "invalid_params")
        )
        (fault, *_) = answer.json()["errors"]
        assert fault["pointer"] == ("/input/server" if given["server"] == "unknown" else "/input/size")


def test_a_server_that_is_not_there_lets_the_job_wait(daemon: Daemon) -> None:
    job_id = submit(daemon, "absent")
    until(lambda: daemon.job(job_id)["wait_reason"] == "peer_unavailable")
    daemon.http.post(f"/v1/jobs/{job_id}/cancel")


def test_a_video_whose_first_answer_is_lost_is_found_and_made_once(daemon: Daemon) -> None:
    job_id = submit(daemon, "managed", lane="cpu0", prompt="drop the answer")
    job = daemon.ended(job_id)
    assert (job["state"], job["attempt"]) == ("succeeded", 1), job["error"]
    log = daemon.http.get(f"/v1/jobs/{job_id}/logs?attempt=1").text
    assert (log.count("takes video_"), "was lost; the server lists it" in log) == (1, True)


def test_a_cancel_before_the_first_answer_leaves_no_video(daemon: Daemon) -> None:
    job_id = submit(daemon, "managed", lane="cpu0", prompt="hold")

    def log() -> str:
        return daemon.http.get(f"/v1/jobs/{job_id}/logs?attempt=1").text

    until(lambda: "takes video_" in log())
    daemon.http.post(f"/v1/jobs/{job_id}/cancel")
    assert daemon.ended(job_id)["state"] == "canceled"
    assert "deletes one" in log()


def lose_answers(server: BaseHTTPRequestHandler, asked: Asked) -> None:
    server.close_connection = True


def test_a_video_that_a_server_did_not_begin_is_asked_for_again_and_burns_nothing(daemon: Daemon, web: Web) -> None:
    """Its list has an older video of the same prompt, and one of another job."""

    def listed(server: BaseHTTPRequestHandler, asked: Asked) -> None:
        if asked.method == "POST":
            first = len([one for one in web.asked if one.path == asked.path and one.method == "POST"]) == 1
            return (lose_answers if first else answers((200, video("completed"))))(server, asked)
        others = [video("queued", prompt="a fox", created_at=1), video("queued", prompt="a cat", created_at=9e9)]
        return answers((200, {"object": "list", "data": others}))(server, asked)

    web.pages["/odd/videos"] = listed
    web.pages["/odd/videos/video_1/content"] = answer(200, b"bytes", Content_Type="video/mp4")
    web.asked.clear()
    job_id = submit(daemon, "odd")
    hasten(daemon, job_id)
    assert daemon.ended(job_id)["state"] == "succeeded"
    assert [outcome for outcome, _ in attempts(daemon, job_id)] == ["interrupted", "succeeded"]
    keys = [one.headers["idempotency-key"] for one in web.asked if one.method == "POST"]
    assert len(keys) == 2
    assert len(set(keys)) == 1
