"""What a submit accepts and refuses, before any file is touched; and what the catalogue shows of it."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from vidqueue.errors import VidqueueError
from vidqueue.media.facts import VideoFacts
from vidqueue.processors.media import MediaField
from vidqueue.processors.parts.transcode_params import TranscodeParams, target_size
from vidqueue.processors.registry import find, parse

REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("transcode", {"container": "webm", "codec": "h264"}),
    ("transcode", {"container": "mov", "codec": "vp9"}),
    ("transcode", {"container": "webm", "encoder": "nvenc"}),
    ("transcode", {"codec": "h264", "encoder": "libx265"}),
    ("transcode", {"start_s": 5, "end_s": 5}),
    ("transcode", {"start_s": -1}),
    ("transcode", {"start_s": float("nan")}),
    ("transcode", {"resolution": "720p", "height": 480}),
    ("transcode", {"resolution": "720,movie=/etc/passwd"}),
    ("transcode", {"height": "720,movie=/etc/passwd"}),
    ("transcode", {"fps": 0}),
    ("transcode", {"fps": 1e-9}),
    ("transcode", {"max_fps": 1e-320}),
    ("transcode", {"fps": 1000}),
    ("transcode", {"width": 8}),
    ("transcode", {"quality": "best"}),
    ("transcode", {"colour": "red"}),
    ("enhance", {"sharpen": 1.5}),
    ("enhance", {"denoise": -0.1}),
    ("enhance", {"gamma": 0}),
    ("enhance", {"contrast": float("inf")}),
    ("enhance", {"brightness": float("nan")}),
    ("enhance", {"container": "webm", "codec": "h264"}),
    ("enhance", {"container": "avi"}),
]


@pytest.mark.parametrize(("name", "wishes"), REFUSED, ids=str)
def test_what_cannot_be_is_refused_at_submit(name: str, wishes: dict[str, Any]) -> None:
    with pytest.raises(VidqueueError) as caught:
        parse(find(name), {"video": "/clip.mp4", **wishes})
    assert caught.value.code == "invalid_params"
    assert caught.value.errors


@pytest.mark.parametrize("name", ["transcode", "enhance"])
def test_a_video_is_all_that_must_be_given(name: str) -> None:
    params = parse(find(name), {"video": "/clip.mp4"})
    assert list(find(name).media(params)) == [MediaField(("video",), "/clip.mp4", "video")]
    with pytest.raises(VidqueueError):
        parse(find(name), {})


@pytest.mark.parametrize("name", ["transcode", "enhance"])
def test_every_parameter_is_described(name: str) -> None:
    schema = find(name).Params.model_json_schema()
    assert [field for field, facts in schema["properties"].items() if not facts.get("description")] == []


def test_only_nvenc_asks_for_a_gpu_lane() -> None:
    transcode = find("transcode")
    assert transcode.device_for(parse(transcode, {"video": "/a", "encoder": "nvenc"})) == "gpu"
    assert transcode.device_for(parse(transcode, {"video": "/a", "encoder": "hevc_nvenc", "container": "mkv"})) == "gpu"
    assert transcode.device_for(parse(transcode, {"video": "/a"})) == "cpu"
    assert find("enhance").device_for(parse(find("enhance"), {"video": "/a"})) == "gpu"


def test_reading_the_catalogue_loads_nothing_heavy() -> None:
    script = (
        "import sys\nfrom vidqueue.processors.registry import catalogue\n"
        "for one in catalogue().values(): one.Params.model_json_schema()\n"
        "print(sorted({'torch', 'cv2', 'numpy', 'fontTools'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def source(width: int = 1920, height: int = 1080, rotation: int = 0) -> VideoFacts:
    return VideoFacts.model_validate(
        {"index": 0, "codec": "h264", "width": width, "height": height, "rotation": rotation, "frames": 10,
         "pixel_format": "yuv420p", "fps": 25, "time_base": "1/25"}
    )  # fmt: skip


@pytest.mark.parametrize(
    ("wishes", "video", "size"),
    [
        ({}, source(), (1920, 1080)),
        ({"resolution": "720p"}, source(), (1280, 720)),
        ({"resolution": "720p"}, source(rotation=90), (720, 1280)),
        ({"resolution": "2160p"}, source(), (1920, 1080)),
        ({"resolution": "2160p", "upscale": True}, source(), (3840, 2160)),
        ({"width": 640}, source(), (640, 360)),
        ({"height": 480}, source(), (854, 480)),
        ({"width": 640, "height": 640}, source(), (640, 640)),
        ({"width": 4000}, source(), (1920, 1080)),
        ({}, source(321, 181), (320, 180)),
        ({"height": 90}, source(321, 181), (160, 90)),
    ],
)
def test_the_size_that_a_wish_means(wishes: dict[str, Any], video: VideoFacts, size: tuple[int, int]) -> None:
    assert target_size(TranscodeParams.model_validate({"video": "/a", **wishes}), video.upright) == size
