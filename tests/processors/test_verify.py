"""Verify: a whole file is said to be whole, and damage is found at the time at which it was done."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from tests.media.clips import Samples, run_ffmpeg
from tests.processors.test_cases import CASES, clip, two_recordings
from tests.processors.work import outputs
from vidqueue.errors import VidqueueError


def verified(path: Path, workspace: Path, **wishes: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The facts of the output, and the report."""
    report = outputs("verify", "media", path, workspace, **wishes)["report"]
    return report.facts, json.loads(report.path.read_text())


def overwritten(path: Path, place: float, length: int, byte: int = 0xFF) -> Path:
    """The file with some bytes overwritten from this share of its length on."""
    content = bytearray(path.read_bytes())
    start = int(len(content) * place)
    content[start : start + length] = bytes([byte]) * length
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("name", ["plain.mp4", "vfr.mp4", "audio.mp4"])
def test_a_whole_file_is_whole(samples: Samples, name: str, tmp_path: Path) -> None:
    facts, report = verified(samples(name), tmp_path / "work")
    assert (facts["ok"], facts["ranges"], facts["warnings"], report["not_checked"]) == (True, [], [], [])
    # Encoders of sound add a packet before its beginning, which gives nothing.
    assert all(0 <= one["expected"] - one["decoded"] <= 1 for one in report["streams"])


@pytest.mark.parametrize("name", ["langs.mkv", "apac.mov", "tmcd.mov", "prores4444.mov"])
def test_odd_is_not_damaged(name: str, tmp_path: Path) -> None:
    facts, report = verified(CASES / name, tmp_path / "work")
    assert (facts["ok"], facts["ranges"]) == (True, [])
    told = {"langs.mkv": ["1 subtitle tracks"], "apac.mov": ["Sound track 2 has the codec"]}.get(name, [])
    assert [any(words in said for said in report["not_checked"]) for words in told] == [True] * len(told)


@pytest.mark.parametrize("codec", ["libx264", "mpeg2video"])
def test_recordings_that_are_joined_bit_by_bit_are_whole(codec: str, tmp_path: Path) -> None:
    """The first packet behind the joint is marked as cut short, because the counters begin again."""
    path = two_recordings(tmp_path, ("-c:v", codec, "-an", "-bf", "0"), ("-c:v", codec, "-an", "-bf", "0"))
    facts, report = verified(path, tmp_path / "work")
    assert (facts["ok"], facts["ranges"], report["streams"][0]["decoded"]) == (True, [], 50)


def test_a_broadcast_that_lacks_packets_is_damaged(tmp_path: Path) -> None:
    whole = clip(tmp_path / "whole.ts", "-an", "-g", "1", "-vf", "noise=alls=20", seconds=2).read_bytes()
    path = tmp_path / "gap.ts"
    path.write_bytes(whole[: len(whole) // 2 // 188 * 188] + whole[(len(whole) // 2 // 188 + 5) * 188 :])
    assert verified(path, tmp_path / "work")[0]["ok"] is False


def test_damaged_pictures_are_found_at_their_time(tmp_path: Path) -> None:
    # Each picture stands by itself and is about as large as the others.
    path = clip(tmp_path / "keys.mp4", "-an", "-g", "1", "-vf", "noise=alls=20", seconds=2)
    facts, report = verified(overwritten(path, 0.5, 2500), tmp_path / "work")
    assert facts["ok"] is False
    assert facts["ranges"] == [{"stream": 0, **part} for part in report["streams"][0]["ranges"]]
    assert 0.8 < facts["ranges"][0]["start_s"] < facts["ranges"][-1]["end_s"] < 1.2
    (video,) = report["streams"]
    assert sum(one["count"] for one in video["ranges"]) == video["missing"] + video["damaged"] > 0
    assert any("pictures" in said for said in facts["warnings"])


def test_sound_that_cannot_be_decoded_is_found_at_its_time(samples: Samples, tmp_path: Path) -> None:
    path = tmp_path / "sound.mp4"
    path.write_bytes(samples("audio.mp4").read_bytes())
    facts, _ = verified(overwritten(path, 0.6, 600), tmp_path / "work")
    assert facts["ok"] is False
    assert {(one["stream"], one["what"]) for one in facts["ranges"]} == {(0, "missing")}
    assert 0.8 < facts["ranges"][0]["start_s"] < facts["ranges"][-1]["end_s"] < 1.6


def test_a_file_that_ends_too_early_lacks_its_end_and_may_fail_the_job(samples: Samples, tmp_path: Path) -> None:
    whole = samples("plain.mkv").read_bytes()
    path = tmp_path / "half.mkv"
    path.write_bytes(whole[: len(whole) // 2])
    facts, report = verified(path, tmp_path / "work")
    (lost,) = report["lost"]
    assert (facts["ok"], lost["what"], lost["end_s"]) == (False, "missing", pytest.approx(2, abs=0.05))
    assert 0.5 < lost["start_s"] < 1.5
    with pytest.raises(VidqueueError) as caught:
        verified(path, tmp_path / "gate", fail_if_damaged=True)
    assert (caught.value.code, "The header promises 2.0" in caught.value.message) == ("media_damaged", True)


def test_what_has_nothing_to_decode_is_refused(tmp_path: Path) -> None:
    text = tmp_path / "words.mp4"
    text.write_text("no media")
    with pytest.raises(VidqueueError) as caught:
        verified(text, tmp_path / "work")
    assert caught.value.code == "unsupported_format"


def test_damaged_pictures_are_counted_alike_each_time(tmp_path: Path) -> None:
    path = tmp_path / "flipped.ts"
    source = "testsrc2=size=640x360:rate=25:duration=4"
    run_ffmpeg("-f", "lavfi", "-i", source, "-c:v", "libx264", "-g", "50", "-pix_fmt", "yuv420p", path)
    content, dice = bytearray(path.read_bytes()), random.Random(3)
    for _ in range(40):
        place = dice.randrange(40_000, len(content))
        # The head of each packet of 188 bytes stays, and with it everything but the pictures.
        content[place] ^= (1 << dice.randrange(8)) if place % 188 > 20 else 0
    path.write_bytes(content)
    alone = run_ffmpeg("-loglevel", "repeat+warning", "-threads", "1", "-i", path, "-f", "null", "-").stderr
    _, report = verified(path, tmp_path / "work")
    # Threads that decode at once would find other pictures damaged from run to run.
    assert report["streams"][0]["damaged"] == alone.count(b"corrupt decoded frame") > 5
