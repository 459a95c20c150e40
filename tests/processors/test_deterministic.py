"""Processors that say that they make the same bytes of the same work do so, in any container."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from tests.media.clips import Samples
from tests.processors.work import outputs
from vidqueue.processors.registry import catalogue, find, parse

SHORT = [("transcode", {"container": "mkv", "effort": "fast"}), ("extract-audio", {"format": "opus"})]
LONG: list[tuple[str, dict[str, Any]]] = [
    *(("transcode", {"container": container, "effort": "fast"}) for container in ("mp4", "mov", "webm", "gif", "webp")),
    ("transcode", {"codec": "h265", "effort": "fast"}),
    ("transcode", {"container": "webm", "codec": "av1", "effort": "fast"}),
    ("transcode", {"codec": "copy", "container": "mkv"}),
    ("transcode", {"max_size_mb": 0.05, "effort": "fast"}),
    *(("extract-audio", {"format": kind}) for kind in ("m4a", "mp3", "flac", "wav")),
    ("enhance", {"sharpen": 0.5, "container": "mkv", "effort": "fast"}),
    ("thumbnails", {}),
    ("verify", {}),
]


def made(name: str, path: Path, folder: Path, wishes: dict[str, Any]) -> dict[str, str]:
    place = next(iter(find(name).Params.model_fields))
    found = outputs(name, place, path, folder, **wishes)
    return {name: hashlib.sha256(one.path.read_bytes()).hexdigest() for name, one in found.items()}


@pytest.mark.parametrize(("name", "wishes"), [*SHORT, *(pytest.param(*one, marks=pytest.mark.long) for one in LONG)])
def test_the_same_work_makes_the_same_bytes(
    samples: Samples, tmp_path: Path, name: str, wishes: dict[str, Any]
) -> None:
    first = made(name, samples("plain.mp4"), tmp_path / "first", wishes)
    # Some muxers write the time, in seconds, and some draw ids.
    assert made(name, samples("plain.mp4"), tmp_path / "second", wishes) == first


def test_only_some_work_is_deterministic() -> None:
    assert {name for name, one in catalogue().items() if type(one).deterministic} == {
        "transcode", "enhance", "extract-audio", "thumbnails", "verify", "export",
    }  # fmt: skip
    transcode = find("transcode")
    for wishes, same in (
        ({}, True),
        ({"encoder": "nvenc"}, False),
        ({"bitrate_kbit": 500}, False),
        ({"max_size_mb": 1}, True),
    ):
        params = parse(transcode, {"video": "/a.mp4", **wishes})
        assert transcode.deterministic_for(params) is same
