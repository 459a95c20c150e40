"""The processor `facefusion` with a stand-in that behaves as FaceFusion 3.8 was recorded to, and with a real one."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.comfyui.contract import PNG
from tests.daemon import Daemon, until
from tests.media.clips import Samples, samples
from vidqueue.errors import VidqueueError
from vidqueue.processors.face.flags import INSTALLED
from vidqueue.processors.face.settings import FacefusionSettings
from vidqueue.processors.facefusion import Facefusion

__all__ = ["samples"]

STAND_IN = Path(__file__).parent / "facefusion" / "facefusion.py"
# A real installation: its folder, and its Python in .venv there.
REAL = os.environ.get("VIDQUEUE_TEST_FACEFUSION")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("facefusion")
    shutil.copy(STAND_IN, folder)
    return folder


@pytest.fixture(scope="module")
def daemon(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("vidqueue")
    started = Daemon(
        folder / "data", VIDQUEUE_FACEFUSION__HOME=str(home), VIDQUEUE_FACEFUSION__PYTHON=sys.executable
    ).start()
    yield started
    assert started.stop() == 0


@pytest.fixture(scope="module")
def target(daemon: Daemon, samples: Samples) -> str:
    return uploaded(daemon, "target.mp4", samples("plain.mp4").read_bytes())


def uploaded(daemon: Daemon, name: str, content: bytes = PNG) -> str:
    """The sources are made by name; what the stand-in does goes by the name of the first one."""
    return f"vq:files/{daemon.http.post('/v1/files', files={'file': (name, content)}).json()['id']}"


def source(daemon: Daemon, act: str) -> str:
    """A picture under inputs.roots, whose name is what the stand-in shall do."""
    path = daemon.data_dir.parent / f"{act}.png"
    path.write_bytes(PNG)
    return str(path)


def submit(daemon: Daemon, target: str, act: str = "face", **given: Any) -> str:
    values = {"sources": [source(daemon, act)], "target": target} | given
    answer = daemon.http.post("/v1/jobs", json={"processor": "facefusion", "max_attempts": 1, "input": values})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def refused(daemon: Daemon, target: str, **given: Any) -> dict[str, Any]:
    values = {"sources": [source(daemon, "face")], "target": target} | given
    answer = daemon.http.post("/v1/jobs", json={"processor": "facefusion", "input": values})
    assert answer.status_code == 422, answer.text
    return dict(answer.json())


def test_a_video_is_made_with_folders_of_its_own_and_progress_from_the_bars(daemon: Daemon, target: str) -> None:
    options = {
        "face_selector_mode": "many",
        "face-swapper-model": "inswapper_128",
        "face-mask-blur": 0.3,
        "output-video-scale": 1,
    }
    twice = [submit(daemon, target, options=options, quality=90, trim_frame_end=20) for _ in range(2)]
    for job_id in twice:
        job = daemon.ended(job_id)
        assert job["state"] == "succeeded", job["error"]
        assert [(one["name"], one["media_type"]) for one in job["outputs"]] == [("video", "video/mp4")]
    said = daemon.http.get(f"/v1/jobs/{twice[0]}/logs").text
    for words in ("--face-selector-mode many", "--face-swapper-model inswapper_128", "--output-video-quality 90",
                  "--trim-frame-end 20", "--execution-device-ids 0", "--execution-providers cpu",
                  "CUDA_VISIBLE_DEVICES= "):  # fmt: skip
        assert words in said
    seen = daemon.sql(f"SELECT data FROM vidqueue.events WHERE job_id = '{twice[0]}' AND kind = 'progress'")
    assert {"analysing", "processing"} & {row["data"].get("stage") for row in seen}


def test_a_picture_is_a_picture(daemon: Daemon) -> None:
    job = daemon.ended(submit(daemon, uploaded(daemon, "portrait.png")))
    assert [(one["name"], one["media_type"]) for one in job["outputs"]] == [("image", "image/png")], job["error"]


@pytest.mark.parametrize(
    ("act", "code"),
    [
        ("no_models", "missing_model"),
        ("faceless", "no_face"),
        ("refused", "content_refused"),
        ("memory", "gpu_out_of_memory"),
        ("interrupted", "program_failed"),
        ("silent", "program_failed"),
    ],
)
def test_a_run_that_made_nothing_is_no_success(daemon: Daemon, target: str, act: str, code: str) -> None:
    job = daemon.ended(submit(daemon, target, act))
    assert (job["state"], job["error"]["code"]) == ("failed", code), job["error"]


def test_a_result_that_nobody_can_read_is_no_success(daemon: Daemon, target: str) -> None:
    job = daemon.ended(submit(daemon, target, "damaged"))
    assert (job["state"], job["error"]["code"]) == ("failed", "program_failed"), job
    assert "its result cannot be read" in job["error"]["message"]


def test_a_cancel_ends_the_program(daemon: Daemon, target: str) -> None:
    job_id = submit(daemon, target, "hold")
    until(lambda: daemon.job(job_id)["stage"] == "processing")
    daemon.http.post(f"/v1/jobs/{job_id}/cancel")
    assert daemon.ended(job_id)["state"] == "canceled"
    until(lambda: not daemon.children("headless-run"), what="its program has ended")


@pytest.mark.parametrize(
    ("given", "code", "pointer"),
    [
        ({"options": {"face-swapper-weight": 1}}, "missing_model", "/input/options/face-swapper-weight"),
        ({"options": {"face-selector-mode": "all"}}, "invalid_params", "/input/options/face-selector-mode"),
        ({"options": {"--face-selector-mode": "one"}}, "invalid_params", "/input/options/--face-selector-mode"),
        ({"options": {"output_path": "/etc/passwd"}}, "invalid_params", "/input/options/output_path"),
        ({"options": {"face-mask-blur": "--log-level"}}, "invalid_params", "/input/options/face-mask-blur"),
        ({"processors": ["face_dancer"]}, "missing_model", "/input/processors"),
        ({"encoder": "av1_moon"}, "missing_model", "/input/encoder"),
    ],
)
def test_what_the_installed_version_does_not_know_is_refused_at_submission(
    daemon: Daemon, target: str, given: dict[str, Any], code: str, pointer: str
) -> None:
    problem = refused(daemon, target, **given)
    assert (problem["code"], problem["errors"][0]["pointer"]) == (code, pointer)


def test_without_a_source_there_is_no_face_to_put_in(daemon: Daemon, target: str) -> None:
    assert refused(daemon, target, sources=[])["code"] == "invalid_params"


def test_where_it_is_not_installed_that_is_said(daemon: Daemon, home: Path, tmp_path: Path) -> None:
    listed = {one["name"]: one for one in daemon.http.get("/v1/processors").json()["processors"]}
    assert listed["facefusion"]["available"] is True
    assert Facefusion(FacefusionSettings()).unavailable() == "facefusion.home is not configured"
    nowhere = FacefusionSettings(home=tmp_path, python=Path(sys.executable))
    with pytest.raises(VidqueueError) as raised:
        INSTALLED.of(nowhere)
    assert raised.value.code == "processor_unavailable"
    assert "has no facefusion.py" in raised.value.message


def test_a_version_without_a_flag_that_is_needed_is_not_used(tmp_path: Path) -> None:
    shutil.copy(STAND_IN, tmp_path)
    (tmp_path / "older").touch()
    older = FacefusionSettings(home=tmp_path, python=Path(sys.executable))
    with pytest.raises(VidqueueError, match="--trim-frame-end"):
        INSTALLED.of(older)
    assert "--trim-frame-end" in Facefusion(older).unavailable()


@pytest.mark.skipif(REAL is None, reason="no FaceFusion here; VIDQUEUE_TEST_FACEFUSION names its folder")
def test_the_real_program_has_the_flags() -> None:
    assert REAL is not None
    flags = INSTALLED.of(FacefusionSettings(home=Path(REAL)))
    assert flags.missing() == []
    assert "face_swapper" in flags.choices["processors"]
    assert "face-swapper-model" in flags


def test_choices_are_read_from_the_help(home: Path) -> None:
    choices = INSTALLED.of(FacefusionSettings(home=home, python=Path(sys.executable))).choices
    assert choices["face-selector-mode"] == {"many", "one", "reference"}
    assert choices["processors"] == {"age_modifier", "face_enhancer", "face_swapper", "lip_syncer"}
    # What a size may be depends on the model beside it.
    assert choices["face-detector-size"] == frozenset()
