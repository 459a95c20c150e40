"""The API that is compatible with OpenAI's video API, with the official client, unchanged."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import cv2
import numpy as np
import openai
import pytest
from openai import OpenAI

from tests.daemon import Daemon, until

pytestmark = pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")

PICTURE: bytes = cv2.imencode(".png", np.full((48, 64, 3), 90, np.uint8))[1].tobytes()
ALIASES: dict[str, Any] = {
    "still": {
        "processor": "export",
        "input": {"clips": [{}], "fps": 10},
        "parameters": {"input_reference": "clips.0.media", "seconds": "clips.0.duration_s"},
    },
    "hang": {"processor": "zoo", "input": {"act": "hang"}},
    "fail": {"processor": "zoo", "input": {"act": "refuse"}},
    "nothing": {"processor": "nothing"},
    "askew": {"processor": "zoo", "input": {"act": "work"}, "parameters": {"prompt": "act.words"}},
}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("videos") / "data"
    models = json.dumps(ALIASES)
    started = Daemon(folder, VIDQUEUE_VIDEOS__MODELS=models, VIDQUEUE_VIDEOS__DEFAULT_MODEL="still").start()
    yield started
    started.stop()


@pytest.fixture(scope="module")
def client(daemon: Daemon) -> OpenAI:
    return OpenAI(api_key="anything", base_url=f"{daemon.url}/v1", max_retries=0)


@pytest.fixture(scope="module")
def made(client: OpenAI) -> Any:
    """A video that the tests look at."""
    picture = ("in.png", PICTURE, "image/png")
    return client.videos.create_and_poll(
        prompt="a still",
        seconds="1",  # type: ignore[arg-type]
        size="64x48",  # type: ignore[arg-type]
        input_reference=picture,
    )


def job_of(daemon: Daemon, video: Any) -> dict[str, Any]:
    return daemon.job(video.id)


def test_a_video_is_made_of_a_picture_and_read_back(client: OpenAI, made: Any) -> None:
    assert (made.object, made.status, made.progress) == ("video", "completed", 100)
    assert (made.model, made.prompt, made.error, made.remixed_from_video_id) == ("still", "a still", None, None)
    assert (made.seconds, made.size) == ("1", "64x48")
    assert made.created_at <= made.completed_at
    assert client.videos.retrieve(made.id) == made
    answer = client.videos.download_content(made.id)
    assert answer.read()[4:8] == b"ftyp"
    assert answer.response.headers["content-type"] == "video/mp4"


def test_the_job_is_one_like_any_other(daemon: Daemon, made: Any) -> None:
    job = job_of(daemon, made)
    assert (job["processor"], job["title"], job["tags"]) == ("export", "a still", ["videos", "model:still"])
    (clip,) = job["input"]["clips"]
    assert clip["duration_s"] == 1
    assert (job["input"]["width"], job["input"]["height"]) == (64, 48)
    stored = daemon.http.get(f"/v1/files/{clip['media'].removeprefix('vq:files/')}").json()
    assert (stored["name"], stored["media_type"], stored["size"]) == ("in.png", "image/png", len(PICTURE))


@pytest.mark.parametrize(("variant", "media_type"), [("thumbnail", "image/jpeg"), ("spritesheet", "image/jpeg")])
def test_a_variant_is_made_when_it_is_asked_for_and_only_once(
    daemon: Daemon, client: OpenAI, made: Any, variant: Any, media_type: str
) -> None:
    first = client.videos.download_content(made.id, variant=variant)
    assert first.response.headers["content-type"] == media_type
    assert cv2.imdecode(np.frombuffer(first.read(), np.uint8), cv2.IMREAD_COLOR) is not None
    jobs = "SELECT count(*) FROM vidqueue.jobs WHERE processor = 'thumbnails'"
    before = daemon.sql(jobs)
    assert client.videos.download_content(made.id, variant=variant).read() == first.read()
    assert daemon.sql(jobs) == before


def test_a_reference_may_be_an_object(daemon: Daemon, client: OpenAI) -> None:
    """As JSON text, in brackets, as an id of a file, as an address of ours, and as a data: URL of any length."""
    stored = client.files.create(file=("a.png", PICTURE), purpose="vision")
    noise = np.random.default_rng(1).integers(0, 255, (64, 64, 3), np.uint8)
    large = cv2.imencode(".png", noise)[1].tobytes()
    data = f"data:image/png;base64,{base64.b64encode(large).decode()}"
    address = f"{daemon.url}/v1/files/{stored.id}"
    for given in ({"file_id": stored.id}, {"image_url": address}, {"image_url": data}):
        video = client.videos.create(prompt="x", model="hang", extra_body={"input_reference": given})
        media = job_of(daemon, video)["input"]["media"]
        if given.get("image_url") == data:
            assert daemon.http.get(f"/v1/files/{media.removeprefix('vq:files/')}/content").content == large
        else:
            assert media == f"vq:files/{stored.id}"
        client.videos.delete(video.id)
    text = json.dumps({"file_id": stored.id})
    answer = daemon.http.post("/v1/videos", json={"prompt": "x", "model": "hang", "input_reference": text})
    assert job_of(daemon, client.videos.retrieve(answer.json()["id"]))["input"]["media"] == f"vq:files/{stored.id}"
    client.videos.delete(answer.json()["id"])


def test_a_video_is_refused_where_the_model_takes_a_still(daemon: Daemon, client: OpenAI, made: Any) -> None:
    """`duration_s` of a clip is for stills, and a clip with `start_s` is a video."""
    film = client.videos.download_content(made.id).read()
    with pytest.raises(openai.UnprocessableEntityError) as refused:
        client.videos.create(prompt="x", seconds="1", input_reference=("in.mp4", film, "video/mp4"))  # type: ignore[arg-type]
    assert refused.value.code == "not_an_image"
    stored = daemon.http.post("/v1/files", files={"file": ("in.png", PICTURE)}).json()["id"]
    body = {"processor": "export", "input": {"clips": [{"media": f"vq:files/{stored}", "start_s": 1}]}}
    assert daemon.http.post("/v1/jobs", json=body).json()["code"] == "still_image"


def test_further_fields_go_to_the_parameters_of_their_names(daemon: Daemon, client: OpenAI) -> None:
    more: dict[str, Any] = {"seconds": 7.5, "extra_params": json.dumps({"marker": "there"})}
    video = client.videos.create(prompt="x", model="vidqueue/zoo", extra_body=more)
    assert job_of(daemon, video)["input"] == {"seconds": 7.5, "marker": "there"}
    client.videos.delete(video.id)
    with pytest.raises(openai.UnprocessableEntityError) as refused:
        client.videos.create(prompt="x", model="zoo", extra_body={"num_frames": 81})
    assert (refused.value.code, refused.value.param) == ("invalid_params", "num_frames")
    assert "no such parameter" in refused.value.message


def test_a_list_leads_from_page_to_page_in_both_orders(daemon: Daemon, client: OpenAI, made: Any) -> None:
    others = [client.videos.create(prompt=str(number), model="hang").id for number in range(3)]
    native = daemon.submit(act="hang")
    newest_first = [video.id for video in client.videos.list(limit=2)]
    assert newest_first[:3] == list(reversed(others))
    assert made.id in newest_first
    assert native not in newest_first
    oldest_first = [video.id for video in client.videos.list(limit=2, order="asc")]
    assert oldest_first == list(reversed(newest_first))
    for video_id in others:
        assert client.videos.delete(video_id).deleted
    assert client.videos.list(limit=1).has_more is False
    daemon.http.post(f"/v1/jobs/{native}/cancel")


def test_a_delete_stops_what_runs_and_takes_everything_with_it(daemon: Daemon, client: OpenAI) -> None:
    running = client.videos.create(prompt="x", model="hang")
    until(lambda: client.videos.retrieve(running.id).status == "in_progress")
    assert client.videos.delete(running.id).object == "video.deleted"
    with pytest.raises(openai.NotFoundError):
        client.videos.retrieve(running.id)
    picture = ("in.png", PICTURE, "image/png")
    done = client.videos.create_and_poll(prompt="x", seconds="1", input_reference=picture)  # type: ignore[arg-type]
    client.videos.download_content(done.id, variant="thumbnail")
    client.videos.delete(done.id)
    left = f"SELECT count(*) FROM vidqueue.jobs WHERE id = '{done.id}' OR title LIKE '%{done.id}%'"
    assert daemon.sql(left) == [{"count": 0}]


def test_a_failure_and_a_cancel_are_told_with_a_code(daemon: Daemon, client: OpenAI) -> None:
    failed = client.videos.create_and_poll(prompt="x", model="fail")
    assert (failed.status, failed.error and failed.error.code) == ("failed", "unsupported_format")
    assert "The zoo refuses this." in (failed.error.message if failed.error else "")
    with pytest.raises(openai.NotFoundError, match="failed: The zoo refuses"):
        client.videos.download_content(failed.id)
    canceled = client.videos.create(prompt="x", model="hang")
    with pytest.raises(openai.NotFoundError, match="its status is"):
        client.videos.download_content(canceled.id)
    daemon.http.post(f"/v1/jobs/{canceled.id}/cancel")
    told = until(lambda: (seen := client.videos.retrieve(canceled.id)).status == "failed" and seen)
    assert told.error.code == "canceled"


def test_models_are_listed_for_openai_by_every_name_that_a_video_may_ask_for(client: OpenAI) -> None:
    listed = {one.id: one for one in client.models.list()}
    assert {"still", "hang", "vidqueue/export", "vidqueue/zoo"} <= listed.keys()
    assert "nothing" not in listed
    assert (listed["still"].object, listed["still"].owned_by) == ("model", "vidqueue")
    for name in ("still", "vidqueue/export"):
        assert client.models.retrieve(name).id == name
    for name in ("nothing", "unknown", "vidqueue/unknown"):
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve(name)


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"prompt": "x", "model": "sora-9"}, "unknown_model", None),
        ({"prompt": "x", "model": "nobody/nothing"}, "unknown_model", None),
        ({"prompt": "x", "model": "nothing"}, "unknown_model", None),
        ({"prompt": "x", "model": "askew"}, "unknown_model", None),
        ({"prompt": "", "model": "hang"}, "invalid_request", "prompt"),
        ({"prompt": "x", "size": "large"}, "invalid_request", "size"),
        ({"prompt": "x", "input_reference": {"file_id": "no-id"}}, "invalid_request", "input_reference"),
        ({"prompt": "x", "input_reference": {"file_id": str(uuid4())}}, "input_not_found", "input/clips/0/media"),
        ({"prompt": "x", "input_reference": {}}, "invalid_request", "input_reference"),
        ({"prompt": "x", "extra_params": "no JSON"}, "invalid_request", "extra_params"),
        ({"prompt": "x"}, "invalid_params", "input/clips/0"),
    ],
)
def test_what_cannot_be_is_refused_in_the_words_of_openai(
    client: OpenAI, body: dict[str, Any], code: str, param: str | None
) -> None:
    with pytest.raises(openai.UnprocessableEntityError) as refused:
        client.post("/videos", body=body, cast_to=object)
    assert (refused.value.code, refused.value.param, refused.value.type) == (code, param, "invalid_request_error")


def test_an_id_that_is_none_is_refused_in_the_words_of_openai(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as absent:
        client.videos.retrieve("video_68d7512d07848190b3e45da0ecbebcde")
    assert (absent.value.code, absent.value.type) == ("not_found", "invalid_request_error")


def test_a_refused_form_leaves_no_file_behind(daemon: Daemon, client: OpenAI) -> None:
    files = "SELECT count(*) FROM vidqueue.files"
    before = daemon.sql(files)
    with pytest.raises(openai.UnprocessableEntityError):
        client.videos.create(prompt="x", model="sora-9", input_reference=("in.png", PICTURE))
    assert daemon.sql(files) == before


def test_a_form_is_read_as_strictly_as_json(daemon: Daemon) -> None:
    def refused(**form: Any) -> str:
        return str(daemon.http.post("/v1/videos", **form).json()["code"])

    none = {"prompt": (None, "x"), "model": (None, "hang")}
    assert refused(files={**none, "extra_params": (None, '{"a": "\\u0000"}')}) == "invalid_json"
    assert refused(files={**none, "seconds": (None, "nan")}) == "invalid_request"
    assert refused(files={**none, "picture": ("a.png", PICTURE)}) == "invalid_request"
    twice = [("input_reference", ("a.png", PICTURE)), ("input_reference", ("b.png", PICTURE))]
    assert refused(files=[*none.items(), *twice]) == "invalid_request"
    assert refused(content=b"--", headers={"Content-Type": "multipart/form-data"}) == "invalid_request"
    assert refused(content=b"x=1", headers={"Content-Type": "text/plain"}) == "unsupported_media_type"


def test_sync_answers_with_the_bytes(daemon: Daemon) -> None:
    files: dict[str, Any] = {"prompt": (None, "x"), "seconds": (None, "1"), "input_reference": ("a.png", PICTURE)}
    answer = daemon.http.post("/v1/videos/sync", files=files)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "video/mp4")


def test_the_same_key_makes_one_video(client: OpenAI) -> None:
    headers = {"Idempotency-Key": str(uuid4())}
    first, second = (client.videos.create(prompt="x", model="hang", extra_headers=headers) for _ in range(2))
    assert first.id == second.id
    client.videos.delete(first.id)


def test_a_client_is_told_when_to_look_again(daemon: Daemon, made: Any) -> None:
    body = {"prompt": "x", "model": "hang"}
    answer = daemon.http.post("/v1/videos", json=body)
    assert 250 <= int(answer.headers["openai-poll-after-ms"]) <= 5000
    daemon.http.delete(f"/v1/videos/{answer.json()['id']}")
    assert "openai-poll-after-ms" not in daemon.http.get(f"/v1/videos/{made.id}").headers


def test_keys_and_owners_hold(daemon: Daemon, made: Any) -> None:
    """The last test of this file, because from the first key on every request needs one."""
    secrets: list[str] = []
    for owner, role in (("boss", "admin"), ("ann", "submit"), ("local", "read")):
        headers = {"Authorization": f"Bearer {secrets[0]}"} if secrets else {}
        body = {"owner": owner, "role": role}
        secrets.append(daemon.http.post("/v1/keys", json=body, headers=headers).json()["key"])
    boss, ann, reader, stranger = (
        OpenAI(api_key=secret, base_url=f"{daemon.url}/v1", max_retries=0) for secret in (*secrets, "vq_wrong")
    )
    with pytest.raises(openai.NotFoundError):
        ann.videos.retrieve(made.id)
    with pytest.raises(openai.NotFoundError):
        ann.videos.delete(made.id)
    assert list(ann.videos.list()) == []
    assert made.id in [video.id for video in boss.videos.list()]
    assert reader.videos.download_content(made.id).read()
    fresh = boss.videos.create_and_poll(prompt="x", seconds="1", input_reference=("a.png", PICTURE))  # type: ignore[arg-type]
    daemon.sql(f"UPDATE vidqueue.jobs SET owner = 'local' WHERE id = '{fresh.id}'")
    with pytest.raises(openai.PermissionDeniedError):
        reader.videos.download_content(fresh.id, variant="thumbnail")
    with pytest.raises(openai.AuthenticationError) as refused:
        stranger.videos.create(prompt="x")
    assert refused.value.code == "unauthenticated"
