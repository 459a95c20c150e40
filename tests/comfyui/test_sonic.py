"""Jobs of `sonic`: whose length decides, what happens where memory runs out, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from tests.comfyui.conftest import Server
from tests.comfyui.test_jobs import picture, uploaded
from tests.daemon import Daemon
from tests.media.clips import Samples
from vidqueue.errors import VidqueueError
from vidqueue.processors import registry
from vidqueue.processors.comfy.client import Client
from vidqueue.processors.comfy.failures import failure_of
from vidqueue.processors.comfy.inspection import inspect
from vidqueue.processors.comfy.known import NODES
from vidqueue.processors.comfy.settings import ComfyuiSettings
from vidqueue.processors.sonic import Sonic, length_of, rungs

__all__ = ["picture"]


@pytest.fixture(scope="module")
def voice(daemon: Daemon, samples: Samples) -> str:
    """Two seconds of sound that the daemon has."""
    return uploaded(daemon, samples("audio.mp4"))


def sonic(daemon: Daemon, **parameters: Any) -> dict[str, Any]:
    return daemon.ended(daemon.submit("sonic", inference_steps=2, max_attempts=1, **parameters))


def test_where_memory_runs_out_smaller_pictures_are_tried_and_told(daemon: Daemon, picture: str, voice: str) -> None:
    job = sonic(daemon, image=picture, audio=voice, min_resolution=1024)
    assert job["state"] == "succeeded", job["error"]
    (output,) = job["outputs"]
    assert (output["name"], output["media_type"]) == ("video", "video/mp4")
    facts = output["facts"]
    assert [one["min_resolution"] for one in facts["degraded"]] == [1024, 768]
    assert facts["min_resolution"] == 512
    assert len(facts["warnings"]) >= 2
    assert isinstance(facts["seed"], int)
    log = daemon.http.get(f"/v1/jobs/{job['id']}/logs?attempt=1", headers={"Accept": "text/plain"}).text
    assert "min_resolution 1024" in log
    assert "min_resolution 768" in log


def test_without_leave_to_degrade_the_job_fails_and_says_what_could_be_tried(
    daemon: Daemon, picture: str, voice: str
) -> None:
    job = sonic(daemon, image=picture, audio=voice, min_resolution=768, allow_degrade=False)
    assert (job["state"], job["error"]["code"]) == ("failed", "gpu_out_of_memory")
    assert "min_resolution 512" in job["error"]["hint"]


def test_what_fits_is_not_degraded_and_the_audio_decides_the_length(daemon: Daemon, picture: str, voice: str) -> None:
    job = sonic(daemon, image=picture, audio=voice, duration_s=60, seed=7)
    assert job["state"] == "succeeded", job["error"]
    facts = job["outputs"][0]["facts"]
    assert (facts["degraded"], facts["min_resolution"], facts["seed"]) == ([], 512, 7)
    assert any("the audio ends after" in one for one in facts["warnings"])


@pytest.mark.parametrize(("duration_s", "code"), [(60, "trim_out_of_range"), (1, "media_too_long")])
def test_lengths_that_differ_are_refused_where_that_is_asked_for(
    daemon: Daemon, picture: str, voice: str, duration_s: float, code: str
) -> None:
    job = sonic(daemon, image=picture, audio=voice, duration_s=duration_s, too_long="refuse")
    assert (job["state"], job["error"]["code"]) == ("failed", code)


@pytest.mark.parametrize(
    "wrong",
    [
        {"min_resolution": 64},
        {"min_resolution": 500},
        {"min_resolution": 4096},
        {"duration_s": 0.5},
        {"expand_ratio": 0},
        {"inference_steps": 0},
        {"dynamic_scale": 3},
        {"fps": 1},
        {"motion_scale": 1.0},
        {"server": "nobody"},
    ],
)
def test_values_out_of_range_are_refused_at_submission(
    daemon: Daemon, picture: str, voice: str, wrong: dict[str, Any]
) -> None:
    body = {"processor": "sonic", "input": {"image": picture, "audio": voice} | wrong}
    problem = daemon.http.post("/v1/jobs", json=body).json()
    if "server" in wrong:
        assert problem["code"] == "unknown_model"
        return
    assert problem["code"] == "invalid_params", problem
    assert problem["errors"][0]["pointer"] == f"/input/{next(iter(wrong))}"


def test_a_weight_or_a_node_that_is_missing_is_said_before_anything_runs(pair: list[Server]) -> None:
    """The shipped workflow: these servers have Sonic's nodes, and not the checkpoint."""
    processor = Sonic(ComfyuiSettings.model_validate({"servers": {"main": {"url": pair[0].url}}}))
    params = registry.parse(processor, {"image": "vq:files/x", "audio": "vq:files/y"})
    with pytest.raises(VidqueueError) as raised:
        processor.check(params)
    assert raised.value.code == "missing_model"
    assert "svd_xt_1_1.safetensors" in raised.value.message
    info = dict(NODES.info(Client(pair[0].url)) or {})
    del info["SONICSampler"]
    filled = processor._filled(params, 512, 1.0)
    missing = [fault for fault in inspect(filled.graph, info) if fault.missing]
    assert {fault.node for fault in missing} == {"15", "16"}


def test_the_length_is_that_of_the_shorter_one() -> None:
    def params(**given: Any) -> Any:
        return Sonic.Params.model_validate({"image": "vq:files/x", "audio": "vq:files/y"} | given)

    warnings: list[str] = []
    assert length_of(params(), 3.2, warnings) == 3.2
    assert length_of(params(duration_s=3.15), 3.2, warnings) == 3.15
    assert warnings == []
    assert length_of(params(duration_s=2), 3.2, warnings) == 2
    assert length_of(params(duration_s=9), 3.2, warnings) == 3.2
    assert len(warnings) == 2
    with pytest.raises(VidqueueError, match="a second at least"):
        length_of(params(), 0.9, warnings)
    assert rungs(params(min_resolution=1024)) == [1024, 768, 512]
    assert rungs(params(min_resolution=896)) == [896, 768, 512]
    assert rungs(params()) == [512]
    assert rungs(params(min_resolution=2048, allow_degrade=False)) == [2048]


def test_only_a_server_that_the_daemon_starts_counts_its_memory() -> None:
    """An external one on the card of a lane holds that memory all the time, and its next job needs no more."""
    here = Sonic(ComfyuiSettings.model_validate({"servers": {"a": {"command": ["comfyui"]}}}))
    away = Sonic(ComfyuiSettings.model_validate({"servers": {"a": {"url": "http://127.0.0.1:1", "lane": "gpu0"}}}))
    params = Sonic.Params.model_validate({"image": "vq:files/x", "audio": "vq:files/y", "min_resolution": 1024})
    stubborn = params.model_copy(update={"allow_degrade": False})
    assert away.vram_mb(params) == 0
    assert 0 < here.vram_mb(params) < here.vram_mb(stubborn)
    assert away.lane_for(params) == "gpu0"


def test_a_face_that_is_not_found_is_told_where_it_can_be_known() -> None:
    def ended(**error: Any) -> dict[str, Any]:
        told = {
            "node_id": "17", "node_type": "SONIC_PreData", "exception_type": "TypeError",
            "exception_message": "'NoneType' object is not subscriptable",
            "traceback": ["crop_face_image(image, face_info)"],
        } | error  # fmt: skip
        return {"status": {"status_str": "error", "messages": [["execution_error", told]]}}

    def code(**error: Any) -> str:
        failure = failure_of(ended(**error))
        assert failure is not None
        return failure.code

    assert code() == "no_face"
    assert code(traceback=["whisper(audio)"]) == "model_failed"
    assert code(exception_message="Please download the model first") == "missing_model"
    assert code(exception_type="RuntimeError", exception_message="CUDA out of memory.") == "gpu_out_of_memory"
