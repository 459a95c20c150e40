"""Generation with real pipelines of diffusers, of random weights: pictures, seeds, memory, and a daemon's lane."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.daemon import Daemon, until
from vidqueue.errors import CanceledError, VidqueueError
from vidqueue.job import Failure
from vidqueue.processors import registry
from vidqueue.processors.diffusion.rungs import precision_of
from vidqueue.processors.diffusion.settings import Pipeline
from vidqueue.processors.generate import Generate, GenerateParams
from vidqueue.testing import Trial
from vidqueue.worker.executor import ladder

pytest.importorskip("diffusers", reason="the extra `generate` is not installed")

SIZE = {"width": 32, "height": 32}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    import torch

    from tests.processors.tiny_pipelines import make_all

    # Threads that spin for a tiny picture are slower than none.
    torch.set_num_threads(1)
    return make_all(tmp_path_factory.mktemp("pipelines"))


@pytest.fixture
def trial(models: dict[str, dict[str, str]], tmp_path: Path) -> Trial:
    return Trial(Generate, tmp_path / "1-1", settings={"models": models})


def generated(trial: Trial, **params: Any) -> tuple[bytes, dict[str, Any]]:
    """The bytes and the facts of the only output."""
    ((name, output),) = trial.run(**({"prompt": "a cat", "steps": 2, **SIZE} | params)).items()
    assert output.path.suffix == {"image": ".png", "video": ".mp4"}[name]
    data = output.path.read_bytes()
    output.path.unlink()
    return data, output.facts


def loads(trial: Trial) -> int:
    return sum(line.text.startswith("Loading") for line in trial.log)


def test_a_picture_of_a_seed_is_the_same_to_the_byte_and_its_record_says_what_made_it(trial: Trial) -> None:
    first, facts = generated(trial, model="mini-sd", seed=7)
    picture = cv2.imdecode(np.frombuffer(first, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    assert picture.shape == (32, 32, 3)
    assert generated(trial, model="mini-sd", seed=7)[0] == first
    assert generated(trial, model="mini-sd", seed=8)[0] != first
    assert generated(trial, model="mini-sd", seed=7, negative_prompt="dog", guidance=9)[0] != first
    assert (facts["seed"], facts["degraded"], facts["warnings"], loads(trial)) == (7, [], [], 1)
    record = facts["record"]
    assert record["versions"].keys() >= {"torch", "diffusers", "vidqueue"}
    assert (record["device"], record["dtype"], record["pipeline"]) == ("cpu", "float32", "StableDiffusionPipeline")
    assert len(record["sha256"]["unet/diffusion_pytorch_model.safetensors"]) == 64
    assert record["parameters"]["seed"] == 7
    json.dumps(facts)


def test_a_seed_that_was_drawn_is_told_and_repeats_the_picture_at_the_models_own_size(trial: Trial) -> None:
    drawn, facts = generated(trial, model="mini-sd", width=None, height=None)
    assert (facts["width"], facts["height"]) == (16, 16)
    assert generated(trial, model="mini-sd", width=None, height=None, seed=facts["seed"])[0] == drawn


def test_a_lora_of_the_listed_folder_changes_the_picture_and_leaves_no_trace(trial: Trial) -> None:
    plain, _ = generated(trial, model="mini-sd", seed=7)
    changed, facts = generated(trial, model="mini-sd", seed=7, loras=[{"name": "other", "scale": 2}])
    assert changed != plain
    assert "loras/other.safetensors" in facts["record"]["sha256"]
    assert generated(trial, model="mini-sd", seed=7)[0] == plain
    assert loads(trial) == 1


def test_videos_of_text_and_of_a_picture_have_the_frames_asked_for(trial: Trial, tmp_path: Path) -> None:
    first, facts = generated(trial, model="tiny-wan-t2v", frames=9, fps=8, seed=1)
    video = facts["video"]
    assert (video["width"], video["height"], video["frames"], video["codec"]) == (32, 32, 9, "h264")
    assert facts["duration_s"] == pytest.approx(9 / 8, abs=0.01)
    assert generated(trial, model="tiny-wan-t2v", frames=9, fps=8, seed=1)[0] == first
    picture = tmp_path / "tall.png"
    cv2.imwrite(str(picture), np.full((90, 50, 3), 200, np.uint8))
    asked = {"model": "tiny-wan-i2v", "image": picture, "frames": 5, "seed": 1}
    one, facts = generated(trial, **asked, width=16, height=None)
    assert (facts["video"]["width"], facts["video"]["height"], facts["video"]["frames"]) == (16, 32, 5)
    cv2.imwrite(str(picture), np.full((90, 50, 3), 20, np.uint8))
    assert generated(trial, **asked, width=16, height=None)[0] != one


def test_each_step_is_told_with_a_picture_and_a_cancel_between_steps_keeps_the_pipeline(trial: Trial) -> None:
    generated(trial, model="mini-sd", steps=4, seed=1)
    told = [one.message for one in trial.reports if one.stage == "sample"]
    assert told == [f"step {number} of 4" for number in (1, 2, 3, 4)]
    fractions = [one.fraction for one in trial.reports]
    assert fractions == sorted(fractions)
    assert trial.previews
    assert trial.previews[0].startswith(b"\xff\xd8\xff")

    def cancel(_: Any) -> None:
        trial.canceled.set()

    stopping = replace(trial.context, report=cancel)
    params = registry.parse(trial.processor, {"model": "mini-sd", "prompt": "a cat", "steps": 4})
    with pytest.raises(CanceledError):
        trial.processor.run(params, stopping)
    trial.canceled.clear()
    generated(trial, model="mini-sd", seed=1)
    assert loads(trial) == 1


def test_the_precision_follows_from_the_device_and_not_from_what_the_process_has_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    params, pipeline = (
        GenerateParams(model="m", prompt="p"),
        Pipeline.model_validate({"path": "/m", "task": "text-to-image"}),
    )
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert precision_of(params, pipeline, "cuda:0") == "bfloat16"
    assert precision_of(params, pipeline, "cpu") == "float32"
    assert precision_of(params, pipeline.model_copy(update={"dtype": "float16"}), "cuda:0") == "float16"


def run_ladder(trial: Trial, **params: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What a lane's executor does when memory runs out."""

    def explain(error: BaseException) -> Failure:
        code = "gpu_out_of_memory" if type(error).__name__ == "OutOfMemoryError" else "processor_error"
        return Failure.of(code, str(error))

    asked = registry.parse(trial.processor, {"prompt": "a cat", "steps": 1, **params})
    degraded: list[dict[str, Any]] = []
    outputs = ladder.run(trial.processor, asked, trial.context, degraded, explain=explain, has_published=bool)
    return outputs[0].facts, degraded


def test_where_memory_runs_out_it_is_made_with_less_and_each_rung_is_told(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    import diffusers
    import torch

    decode: Callable[..., Any] = diffusers.AutoencoderKLWan.decode

    def too_much(vae: Any, latents: Any, *rest: Any, **named: Any) -> Any:
        if latents.shape[2] > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return decode(vae, latents, *rest, **named)

    monkeypatch.setattr(diffusers.AutoencoderKLWan, "decode", too_much)
    facts, degraded = run_ladder(trial, model="tiny-wan-t2v", frames=9, **SIZE)
    asked = [{name: value for name, value in rung.items() if name != "code"} for rung in degraded]
    before = [{"dtype": "auto"}, {"tiling": False}, {"offload": "none"}, {"offload": "model"}, {"frames": 9}]
    assert asked == before
    assert facts["degraded"] == facts["record"]["rungs"] == degraded
    assert (facts["video"]["frames"], facts["record"]["dtype"]) == (5, "bfloat16")
    assert len(facts["warnings"]) == 5
    with pytest.raises(VidqueueError) as refused:
        run_ladder(trial, model="tiny-wan-t2v", frames=9, allow_degrade=False, **SIZE)
    assert refused.value.code == "gpu_out_of_memory"
    assert "bfloat16" in refused.value.hint


def test_a_picture_becomes_smaller_but_not_below_a_quarter_of_what_the_model_was_made_for(trial: Trial) -> None:
    error = VidqueueError("out_of_memory", "no memory")
    params = registry.parse(trial.processor, {"model": "mini-sd", "prompt": "", "width": 16, "height": 24})
    seen = []
    while (params := trial.processor.degrade(params, error)) is not None:
        seen.append((params.dtype, params.tiling, params.offload, params.width, params.height))
    assert seen == [
        ("bfloat16", False, "none", 16, 24), ("bfloat16", True, "none", 16, 24), ("bfloat16", True, "none", 8, 16)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("params", "code", "told"),
    [
        ({"model": "other"}, "unknown_model", "Known: mini-sd, tiny-wan-i2v, tiny-wan-t2v"),
        ({"model": "tiny-wan-i2v"}, "invalid_params", "`image` is required"),
        ({"model": "mini-sd", "image": "vq:files/1"}, "invalid_params", "`image` is not accepted"),
        ({"model": "mini-sd", "frames": 9}, "invalid_params", "`frames` is not accepted"),
        ({"model": "tiny-wan-t2v", "frames": 8}, "invalid_params", "/input/frames"),
        ({"model": "tiny-wan-t2v", "width": 24}, "invalid_params", "multiple of 16"),
        ({"model": "mini-sd", "width": 20}, "invalid_params", "multiple of 8"),
        ({"model": "mini-sd", "loras": [{"name": "../x"}]}, "unknown_model", "Known: other"),
        ({"model": "tiny-wan-t2v", "loras": [{"name": "other"}]}, "unknown_model", "Known: none"),
        ({"model": "mini-sd", "unknown": 1}, "invalid_params", "unknown"),
    ],
)
def test_what_cannot_work_is_refused_at_submission(trial: Trial, params: dict[str, Any], code: str, told: str) -> None:
    with pytest.raises(VidqueueError) as refused:
        registry.accept(trial.processor, {"prompt": "a cat", **params})
    assert refused.value.code == code
    assert told in refused.value.message


def test_only_safetensors_are_read_and_what_is_missing_is_said(
    models: dict[str, dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pickled, empty = tmp_path / "pickled", tmp_path / "empty"
    empty.mkdir()
    for path in Path(models["mini-sd"]["path"]).rglob("*"):
        target = pickled / path.relative_to(models["mini-sd"]["path"])
        if path.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.with_suffix(".bin" if path.suffix == ".safetensors" else path.suffix).write_bytes(path.read_bytes())
    listed = {name: {"path": str(tmp_path / name), "task": "text-to-image"} for name in ("pickled", "empty")}
    processor = Trial(Generate, tmp_path / "1-1", settings={"models": listed}).processor
    for name, told in (("pickled", "no safetensors"), ("empty", "no model_index.json")):
        with pytest.raises(VidqueueError, match=told) as refused:
            registry.accept(processor, {"model": name, "prompt": ""})
        assert refused.value.code == "missing_model"
    assert Generate().unavailable() == "no pipeline is configured under [generate.models]"
    monkeypatch.setattr("vidqueue.processors.generate.find_spec", lambda name: None if name == "diffusers" else name)
    assert processor.unavailable() == "diffusers not installed: pip install 'vidqueue[generate]'"
    with pytest.raises(VidqueueError, match="diffusers not installed") as refused:
        registry.accept(processor, {"model": "empty", "prompt": ""})
    assert refused.value.code == "processor_unavailable"


SHARDS = {"weight_map": {"a": "x-1.safetensors", "b": "x-2.safetensors"}}


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        (lambda folder: shutil.rmtree(folder / "tokenizer"), "no part tokenizer"),
        (lambda folder: shutil.rmtree(folder / "vae"), "no part vae"),
        (lambda folder: (folder / "unet/diffusion_pytorch_model.safetensors").unlink(), "unet of .* has no weights"),
        (lambda folder: (folder / "unet/x.safetensors.index.json").write_text(json.dumps(SHARDS)), r"no x-1\.safet"),
    ],
)
def test_a_part_that_is_missing_is_told_at_submission(
    models: dict[str, dict[str, str]], tmp_path: Path, broken: Callable[[Path], object], told: str
) -> None:
    folder = Path(shutil.copytree(models["mini-sd"]["path"], tmp_path / "model"))
    listed = {"model": {"path": str(folder), "task": "text-to-image"}}
    processor = Trial(Generate, tmp_path / "1-1", settings={"models": listed}).processor
    registry.accept(processor, {"model": "model", "prompt": ""})
    broken(folder)
    with pytest.raises(VidqueueError, match=told) as refused:
        registry.accept(processor, {"model": "model", "prompt": ""})
    assert refused.value.code == "missing_model"


@pytest.mark.parametrize(
    ("model", "task", "told"),
    [
        ("mini-sd", "text-to-video", "makes pictures"),
        ("tiny-wan-t2v", "text-to-image", "makes videos"),
        ("tiny-wan-t2v", "image-to-video", "takes no picture"),
        ("tiny-wan-i2v", "text-to-video", "needs a picture"),
    ],
)
def test_a_pipeline_for_another_task_is_told(
    models: dict[str, dict[str, str]], tmp_path: Path, model: str, task: str, told: str
) -> None:
    listed = {"model": {"path": models[model]["path"], "task": task}}
    image = tmp_path / "image.png"
    cv2.imwrite(str(image), np.zeros((32, 32, 3), np.uint8))
    trial = Trial(Generate, tmp_path / "1-1", settings={"models": listed})
    with pytest.raises(VidqueueError, match=f"{told}: it is not for {task}") as caught:
        generated(trial, model="model", **({"image": str(image)} if task == "image-to-video" else {}))
    assert caught.value.code == "missing_model"


def test_a_picture_that_is_very_long_has_a_preview() -> None:
    import torch

    from vidqueue.processors.diffusion.previews import preview_of

    assert preview_of(torch.rand(1, 4, 1024, 2), 4)


def test_the_extra_leaves_torch_as_it_is_pinned() -> None:
    from importlib.metadata import PackageNotFoundError, version

    assert version("torch").partition("+")[0] == "2.13.0"
    with pytest.raises(PackageNotFoundError):
        version("torchvision")


@pytest.fixture(scope="module")
def daemon(models: dict[str, dict[str, str]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("generate") / "data"
    told = {"VIDQUEUE_GENERATE__MODELS": json.dumps(models), "VIDQUEUE_LANES__CPU": "1"}
    started = Daemon(folder, **told).start()
    yield started
    started.stop()


def test_a_lane_keeps_the_pipeline_from_job_to_job_and_through_a_cancel(daemon: Daemon) -> None:
    asked = {"model": "mini-sd", "prompt": "a cat", "seed": 7, **SIZE}
    first = daemon.ended(daemon.submit("generate", **asked, steps=2))
    assert first["state"] == "succeeded", first["error"]
    (executor,) = daemon.children("vidqueue.worker.executor.child")
    long = daemon.submit("generate", **asked, steps=500)
    until(lambda: daemon.job(long)["stage"] == "sample", what=f"the steps of {daemon.job(long)}")
    until(lambda: daemon.http.get(f"/v1/jobs/{long}/preview").status_code == 200)
    daemon.http.post(f"/v1/jobs/{long}/cancel")
    assert daemon.ended(long)["state"] == "canceled"
    again = daemon.ended(daemon.submit("generate", **asked, steps=2))
    assert daemon.children("vidqueue.worker.executor.child") == [executor]
    assert again["outputs"][0]["sha256"] == first["outputs"][0]["sha256"]
    words = daemon.http.get(f"/v1/jobs/{again['id']}/log").text
    assert "Loading" not in words


def test_the_doors_offer_each_pipeline_as_a_model(daemon: Daemon) -> None:
    model = daemon.http.get("/v1/models/generate/mini-sd").json()
    asked = model["latest_version"]["openapi_schema"]["components"]["schemas"]["Input"]
    assert ("model" in asked["properties"], "prompt" in asked["properties"]) == (False, True)
    assert asked["required"] == ["prompt"]
    body = {"version": "generate/mini-sd", "input": {"prompt": "a cat", "steps": 1, **SIZE}}
    made = daemon.http.post("/v1/predictions", json=body, headers={"Prefer": "wait=60"}).json()
    assert (made["status"], made["model"]) == ("succeeded", "generate/mini-sd")
    assert daemon.http.get(made["output"]).headers["content-type"] == "image/png"
    fields = {"model": "generate/tiny-wan-t2v", "prompt": "a cat", "size": "16x16", "num_frames": 5}
    video = daemon.http.post("/v1/videos", json=fields | {"num_inference_steps": 1}).json()
    assert video["model"] == "generate/tiny-wan-t2v", video
    assert daemon.ended(video["id"])["state"] == "succeeded"
