"""The API that is compatible with MoneyPrinterTurbo, every call, with a plain HTTP client."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.daemon import Daemon, until
from tests.factory import Queue
from tests.media.clips import run_ffmpeg
from vidqueue.api.app import build
from vidqueue.jobs import keys
from vidqueue.principal import Role
from vidqueue.services import Services
from vidqueue.settings.compat import MoneyprinterSettings

LENGTH_S = 1.2
SCRIPT = "The sea is calm. Boats lie still."


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("materials")
    recipes: dict[str, list[str]] = {
        "voice.wav": [f"aevalsrc='0.4*sin(300*2*PI*t)*between(t,0.1,1)':d={LENGTH_S}:s=48000"],
        "long.wav": ["sine=300:d=120"],
        "tune.mp3": ["sine=880:d=1"],
        "sea.mp4": ["color=blue:s=64x64:r=25:d=1", "-pix_fmt", "yuv420p"],
        "gull.png": ["color=green:s=64x64", "-frames:v", "1"],
    }
    for name, words in recipes.items():
        run_ffmpeg("-f", "lavfi", "-i", *words, folder / name)
    (folder / "broken.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + bytes(5000))
    return {path.name: path for path in folder.iterdir()}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, files: dict[str, Path]) -> Iterator[Daemon]:
    started = Daemon(tmp_path_factory.mktemp("moneyprinter") / "data", VIDQUEUE_LANES__CPU="1").start()
    for name, path in files.items():
        kind = "video_materials" if path.suffix in (".mp4", ".png") else "musics"
        answer = started.http.post(f"/api/v1/{kind}", files={"file": (name, path.read_bytes())})
        assert answer.status_code == 200, answer.text
        assert answer.json()["data"]["name"] == name
    yield started
    started.stop()


def film(**wishes: Any) -> dict[str, Any]:
    """A request as a client of MoneyPrinterTurbo sends it, with fields that nobody here knows."""
    return {
        "video_subject": "the sea", "video_script": SCRIPT, "video_terms": None, "video_aspect": "1:1",
        "video_concat_mode": "sequential", "video_transition_mode": None, "video_clip_duration": 1, "video_count": 1,
        "video_source": "local", "video_materials": [{"provider": "local", "url": "sea.mp4", "duration": 0}],
        "custom_audio_file": "voice.wav", "voice_name": "zh-CN-XiaoxiaoNeural-Female", "bgm_type": "", "bgm_file": "",
        "subtitle_enabled": True, "subtitle_position": "bottom", "custom_position": 70.0, "font_size": 60,
        "font_name": "STHeitiMedium.ttc", "text_fore_color": "#FFFFFF", "text_background_color": True,
        "stroke_color": "#000000", "stroke_width": 1.5, "n_threads": 2, "paragraph_number": 1, "video_language": "",
    } | wishes  # fmt: skip


def create(daemon: Daemon, body: dict[str, Any], kind: str = "videos") -> str:
    answer = daemon.http.post(f"/api/v1/{kind}", json=body)
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert (told["status"], told["message"]) == (200, "success")
    return str(told["data"]["task_id"])


def task(daemon: Daemon, task_id: str) -> dict[str, Any]:
    answer = daemon.http.get(f"/api/v1/tasks/{task_id}")
    assert answer.status_code == 200, answer.text
    return dict(answer.json()["data"])


def ended(daemon: Daemon, task_id: str, seen: list[int] | None = None) -> dict[str, Any]:
    """The task once it is over; each progress on the way."""

    def over() -> dict[str, Any] | None:
        now = task(daemon, task_id)
        assert now["state"] in (4, 1, -1)
        if seen is not None:
            seen.append(now["progress"])
        return now if now["state"] != 4 else None

    return dict(until(over, within_s=120))


@pytest.fixture(scope="module")
def made(daemon: Daemon, files: dict[str, Path]) -> dict[str, Any]:
    """A film that the tests look at."""
    seen: list[int] = []
    body = film(bgm_type="random", idempotency_key="a-key", video_materials=[{"url": "sea.mp4"}, {"url": "gull.png"}])
    task_id = create(daemon, body)
    done = ended(daemon, task_id, seen)
    assert done["state"] == 1, done
    assert seen == sorted(seen)
    # Other music in the library makes no other request of it.
    tune = files["tune.mp3"].read_bytes()
    for name in ("a.mp3", "b.mp3"):
        daemon.http.post("/api/v1/musics", files={"file": (name, tune)})
    assert create(daemon, body) == task_id
    refused = daemon.http.post("/api/v1/videos", json={**body, "video_count": 2})
    assert (refused.status_code, refused.json()["status"]) == (409, 409)
    return done


def test_a_film_is_made_of_a_narration_and_materials_and_its_addresses_work(
    daemon: Daemon, made: dict[str, Any]
) -> None:
    assert (made["progress"], made["audio_duration"], made["script"], made["error"]) == (100, 2, SCRIPT, None)
    assert made["job_id"] == made["task_id"]
    assert made["videos"] == [f"{daemon.url}/tasks/{made['task_id']}/final-1.mp4"]
    assert made["combined_videos"] == [f"{daemon.url}/tasks/{made['task_id']}/combined-1.mp4"]
    whole = daemon.http.get(made["videos"][0])
    assert (whole.status_code, whole.headers["content-type"]) == (200, "video/mp4")
    facts = {one["name"]: one["facts"] for one in daemon.job(made["job_id"])["outputs"]}
    assert abs(facts["final_1"]["duration_s"] - LENGTH_S) <= 1 / 30
    assert "boats lie still" in daemon.http.get(made["subtitle_path"]).text.lower()
    assert daemon.http.get(made["audio_file"]).content[:4] == b"RIFF"


def test_stream_always_answers_206_and_download_is_an_attachment(daemon: Daemon, made: dict[str, Any]) -> None:
    place = f"{made['task_id']}/final-1.mp4"
    whole = daemon.http.get(f"/tasks/{place}").content
    for headers, content in (({}, whole), ({"Range": "bytes=10-19"}, whole[10:20]), ({"Range": "pages=1"}, whole)):
        answer = daemon.http.get(f"/api/v1/stream/{place}", headers=headers)
        assert (answer.status_code, answer.content) == (206, content)
        assert answer.headers["content-range"].endswith(f"/{len(whole)}")
        assert answer.headers["content-disposition"].startswith("inline")
    beyond = daemon.http.get(f"/api/v1/stream/{place}", headers={"Range": f"bytes={len(whole)}-"})
    assert (beyond.status_code, beyond.json()["status"]) == (416, 416)
    answer = daemon.http.get(f"/api/v1/download/{place}")
    assert (answer.status_code, answer.content) == (200, whole)
    assert answer.headers["content-disposition"].startswith("attachment")


def test_audio_and_subtitle_end_after_their_stage(daemon: Daemon) -> None:
    speech = {"video_script": SCRIPT, "custom_audio_file": "voice.wav"}
    audio, subtitle = create(daemon, speech, "audio"), create(daemon, speech, "subtitle")
    done = ended(daemon, audio)
    assert (done["state"], done["videos"], done["subtitle_path"]) == (1, [], None)
    assert daemon.http.get(done["audio_file"]).status_code == 200
    assert daemon.http.get(f"/api/v1/download/{audio}/audio.wav").status_code == 200
    done = ended(daemon, subtitle)
    assert (done["state"], done["audio_duration"]) == (1, 2)
    assert "-->" in daemon.http.get(done["subtitle_path"]).text


def test_the_library_is_listed_and_the_tasks_are_paged(daemon: Daemon, made: dict[str, Any]) -> None:
    for kind, names in (("musics", {"voice.wav", "tune.mp3"}), ("video_materials", {"sea.mp4", "gull.png"})):
        listed = daemon.http.get(f"/api/v1/{kind}").json()["data"]["files"]
        assert names <= {one["name"] for one in listed}
        assert all(one["size"] > 0 and one["file"].startswith("vq:files/") for one in listed)
    refused = daemon.http.post("/api/v1/musics", files={"file": ("notes.txt", b"text")})
    assert (refused.status_code, "mp3" in refused.json()["message"]) == (400, True)
    assert daemon.http.post("/api/v1/musics", content=b"text").status_code == 400
    two = [("file", ("one.mp3", b"ID3 one")), ("file", ("two.mp3", b"ID3 two"))]
    refused = daemon.http.post("/api/v1/musics", files=two)
    assert (refused.status_code, "one a request" in refused.json()["message"]) == (400, True)
    assert "one.mp3" not in daemon.http.get("/api/v1/musics").text
    assert not [one for one in daemon.sql("SELECT name FROM vidqueue.files") if one["name"] == "one.mp3"]
    page = daemon.http.get("/api/v1/tasks?page=1&page_size=1").json()["data"]
    assert (page["page"], page["page_size"], len(page["tasks"])) == (1, 1, 1)
    tasks = daemon.http.get("/api/v1/tasks?page_size=100").json()["data"]
    assert tasks["total"] == page["total"] == len(tasks["tasks"])
    assert made["task_id"] in {one["task_id"] for one in tasks["tasks"]}
    assert daemon.http.get("/api/v1/tasks?page=9").json()["data"]["tasks"] == []


@pytest.mark.parametrize(
    ("kind", "body", "told"),
    [
        ("videos", film(video_materials=None), "video_materials"),
        ("videos", film(video_source="pexels", video_materials=[]), "no videos of pexels"),
        ("videos", film(video_materials=[{"url": "unknown.mp4"}]), "'unknown.mp4'"),
        ("videos", film(custom_audio_file=None), "no program that speaks"),
        ("videos", film(custom_audio_file="sea.mp4"), "Sound is needed"),
        ("videos", film(video_count=99), "video_count"),
        ("audio", {"video_subject": "the sea"}, "no program that speaks"),
        ("subtitle", {}, "give a narration"),
    ],
)
def test_what_can_never_work_is_refused_at_once_with_the_words(
    daemon: Daemon, kind: str, body: dict[str, Any], told: str
) -> None:
    answer = daemon.http.post(f"/api/v1/{kind}", json=body)
    assert (answer.status_code, answer.json()["status"]) == (400, 400)
    assert told in answer.text


def test_what_is_not_there_is_not_found(daemon: Daemon, made: dict[str, Any]) -> None:
    other = daemon.submit("zoo", act="work")
    for task_id in ("nothing", other, "01890000-0000-7000-8000-000000000000"):
        for method, path in (("GET", "tasks/{}"), ("DELETE", "tasks/{}"), ("GET", "stream/{}/final-1.mp4")):
            answer = daemon.http.request(method, f"/api/v1/{path.format(task_id)}")
            assert (answer.status_code, answer.json()["status"]) == (404, 404)
            assert answer.json()["message"].endswith("task not found")
    for file in ("final-2.mp4", "../../etc/passwd", "final-1.mkv"):
        assert daemon.http.get(f"/tasks/{made['task_id']}/{file}").status_code == 404


@pytest.mark.parametrize("path", ["social-metadata", "scripts/7", "", "logs", "musics/a.mp3"])
def test_an_address_that_is_unknown_here_answers_in_the_envelope(daemon: Daemon, path: str) -> None:
    answer = daemon.http.post(f"/api/v1/{path}", json={})
    assert (answer.status_code, answer.json()["status"], answer.json()["data"]) == (404, 404, None)
    assert "There is nothing at" in answer.json()["message"]


@pytest.mark.parametrize("path", ["scripts", "terms"])
def test_nothing_is_written_where_no_service_is_configured(daemon: Daemon, path: str) -> None:
    answer = daemon.http.post(f"/api/v1/{path}", json={"video_subject": "the sea"})
    told = answer.json()
    assert (answer.status_code, told["status"], told["data"], told["code"]) == (400, 400, None, "processor_unavailable")
    assert "compose.script_url" in told["message"]
    assert daemon.http.post(f"/api/v1/{path}", json={"video_subject": " "}).status_code == 400
    assert daemon.http.get(f"/api/v1/{path}").status_code == 405


def test_a_failure_has_its_words_and_a_delete_stops_what_runs(daemon: Daemon) -> None:
    failed = ended(daemon, create(daemon, film(video_materials=["broken.mp4"])))
    assert failed["state"] == -1
    assert failed["error"]
    assert failed["error_code"] == daemon.job(failed["job_id"])["error"]["code"]
    running = create(daemon, film(custom_audio_file="long.wav", video_script="", subtitle_enabled=False))
    waiting = create(daemon, film())
    until(lambda: daemon.job(running)["stage"] == "combine")
    assert task(daemon, waiting)["state"] == 4
    assert daemon.http.delete(f"/api/v1/tasks/{waiting}").json() == {"status": 200, "message": "success", "data": None}
    assert daemon.http.delete(f"/api/v1/tasks/{running}").status_code == 200
    for task_id in (running, waiting):
        assert daemon.http.get(f"/api/v1/tasks/{task_id}").status_code == 404
        assert daemon.http.get(f"/v1/jobs/{task_id}").status_code == 404
    until(lambda: not daemon.children("ffmpeg"))


def test_a_task_survives_a_killed_daemon_and_its_progress_never_falls(daemon: Daemon) -> None:
    task_id = create(daemon, film())
    before = until(lambda: (now := task(daemon, task_id)["progress"]) >= 30 and now)
    daemon.kill()
    daemon.start()
    seen: list[int] = [before]
    done = ended(daemon, task_id, seen)
    assert done["state"] == 1
    assert seen == sorted(seen)
    assert done["videos"][0].startswith(daemon.url)


async def test_tasks_and_the_library_belong_to_their_owner(
    services: Services, queue: Queue, files: dict[str, Path]
) -> None:
    settings = services.settings.model_copy(update={"moneyprinter": MoneyprinterSettings(queued_state=0)})
    headers = {
        owner: {"Authorization": f"Bearer {(await keys.create(services.database, owner=owner, role=role)).secret}"}
        for owner, role in (("ann", Role.SUBMIT), ("bob", Role.SUBMIT), ("boss", Role.OPERATE))
    }
    voice = f"data:audio/wav;base64,{base64.b64encode(files['voice.wav'].read_bytes()[:2000]).decode()}"
    transport = httpx2.ASGITransport(app=build(replace(services, settings=settings)), raise_app_exceptions=True)
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
        stranger = await client.get("/api/v1/tasks")
        assert (stranger.status_code, stranger.json()["status"]) == (401, 401)
        upload = {"file": ("tune.mp3", files["tune.mp3"].read_bytes())}
        assert (await client.post("/api/v1/musics", files=upload, headers=headers["ann"])).status_code == 200
        body = {"video_script": SCRIPT, "custom_audio_file": voice}
        made = await client.post("/api/v1/audio", json=body, headers=headers["ann"])
        task_id = made.json()["data"]["task_id"]
        for owner, there in (("ann", True), ("bob", False), ("boss", True)):
            found = await client.get(f"/api/v1/tasks/{task_id}", headers=headers[owner])
            assert found.status_code == (200 if there else 404)
            assert (await client.get("/api/v1/tasks", headers=headers[owner])).json()["data"]["total"] == int(there)
            listed = (await client.get("/api/v1/musics", headers=headers[owner])).json()["data"]["files"]
            assert len(listed) == int(owner == "ann")
        assert (await client.get(f"/api/v1/tasks/{task_id}", headers=headers["ann"])).json()["data"]["state"] == 0
        assert (await client.delete(f"/api/v1/tasks/{task_id}", headers=headers["bob"])).status_code == 404
        named = {"video_script": SCRIPT, "custom_audio_file": "tune.mp3"}
        assert (await client.post("/api/v1/audio", json=named, headers=headers["bob"])).status_code == 400
        assert (await client.post("/api/v1/audio", json=named, headers=headers["ann"])).status_code == 200
