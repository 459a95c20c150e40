"""`encoder: auto` on a lane with a GPU. Real encoders of ffmpeg stand in the place of those that few machines have."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.media.clips import Samples, run_ffmpeg
from tests.processors.test_cases import captioned
from tests.processors.work import Work, facts_of
from vidqueue.doctor.checks import check_encoders
from vidqueue.errors import VidqueueError
from vidqueue.media import encoder_proof, encoders
from vidqueue.media.encoders import ENCODERS, Encoder
from vidqueue.processors.registry import find, parse

_EFFORT = dict.fromkeys(("fast", "medium", "slow"), ())
_LEVELS = {"low": 30, "medium": 24, "high": 19}


def _constant(_: float) -> tuple[str, ...]:
    # About what x264 takes for the clip of the trial at medium quality; this encoder knows no constant quality.
    return ("-rc_mode", "bitrate", "-b:v", "600k")


GOOD = Encoder("libopenh264", "h264", _LEVELS, _EFFORT, _constant, ten_bit=None, gpu=True, sides=(160, 4096))  # type: ignore[arg-type]
# The best that this codec can do is worse than x264, or far larger.
COARSE = replace(GOOD, name="mpeg4", constant_quality=lambda _: ("-q:v", "31"))
LARGE = replace(GOOD, name="mpeg4", constant_quality=lambda _: ("-q:v", "2"))
# What no ffmpeg can start, and what fails at any other rate than that of the trial.
MISSING = replace(GOOD, name="h264_absent")
BREAKS = replace(GOOD, rate=lambda fps: () if fps == 25 else ("-profile:v", "nonsense"))


@pytest.fixture
def on_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Encoder], None]]:
    """Put an encoder into the place of the GPU's for H.264."""

    def register(encoder: Encoder) -> None:
        monkeypatch.setitem(ENCODERS, encoder.name, encoder)
        monkeypatch.setitem(encoders.ON_GPU, "h264", encoder.name)

    encoder_proof.forget()
    yield register
    encoder_proof.forget()


def transcode(samples: Samples, folder: Path, **more: Any) -> Work:
    return Work("transcode", samples("plain.mp4"), folder, device="cuda:0", **more)


def told(work: Work) -> str:
    (line,) = [line.text for line in work.log if line.text.startswith("encoder: ")]
    return line


def test_a_good_one_is_proven_once_taken_and_told(
    on_gpu: Callable[[Encoder], None], samples: Samples, tmp_path: Path
) -> None:
    on_gpu(GOOD)
    work = transcode(samples, tmp_path / "first")
    output = work.run(effort="medium")
    assert told(work).startswith("encoder: libopenh264 (proven: ")
    assert " dB against " in told(work)
    assert " dB of libx264, size " in told(work)
    assert output.facts["encoder"] == "libopenh264"
    assert facts_of(output).video is not None
    # The proof is of one quality and effort.
    (proven,) = encoder_proof._proofs.values()
    assert encoder_proof.proof(GOOD, ENCODERS["libx264"], "medium", "medium") is proven


@pytest.mark.parametrize(
    ("encoder", "why"),
    [
        (COARSE, r"mpeg4 is not used: \d\d\.\d dB against \d\d\.\d dB of libx264, size 0\.\dx"),
        (LARGE, r"mpeg4 is not used: \d\d\.\d dB against \d\d\.\d dB of libx264, size \d+\.\dx"),
        (MISSING, r"h264_absent is not used: it does not work: This ffmpeg has no encoder h264_absent"),
    ],
    ids=["coarse", "large", "missing"],
)
def test_one_that_is_worse_larger_or_missing_is_not_taken_and_the_log_says_why(
    on_gpu: Callable[[Encoder], None], samples: Samples, tmp_path: Path, encoder: Encoder, why: str
) -> None:
    on_gpu(encoder)
    work = transcode(samples, tmp_path / "work")
    output = work.run()
    assert output.facts["encoder"] == "libx264"
    assert output.facts["warnings"] == []
    assert re.search(why, told(work)), told(work)
    assert told(work).startswith("encoder: libx264 (on the CPU; ")


@pytest.mark.parametrize(
    ("wishes", "why"),
    [
        ({"crf": 30}, "the quality is a number in the scale of libx264"),
        ({"bitrate_kbit": 300}, "the size of the result is bounded"),
        ({"max_size_mb": 5}, "the size of the result is bounded"),
        ({"width": 64, "height": 36}, "it takes sides of 160 to 4096 pixels, and the result has 64x36"),
    ],
    ids=str,
)
def test_what_it_cannot_keep_stays_with_the_software(
    on_gpu: Callable[[Encoder], None], samples: Samples, tmp_path: Path, wishes: dict[str, Any], why: str
) -> None:
    on_gpu(MISSING)
    work = transcode(samples, tmp_path / "work")
    assert work.run(**wishes).facts["encoder"] == "libx264"
    assert told(work) == f"encoder: libx264 (on the CPU; h264_absent is not used: {why})"
    assert encoder_proof._proofs == {}


def test_codecs_and_lanes_without_an_encoder_of_a_gpu_stay_with_the_software(
    on_gpu: Callable[[Encoder], None], samples: Samples, tmp_path: Path
) -> None:
    on_gpu(GOOD)
    webm = transcode(samples, tmp_path / "webm")
    webm.run(container="webm", start_s=0, end_s=0.2)
    assert told(webm) == "encoder: libvpx-vp9 (on the CPU)"
    cpu = Work("transcode", samples("plain.mp4"), tmp_path / "cpu")
    cpu.run(start_s=0, end_s=0.2)
    assert told(cpu) == "encoder: libx264 (on the CPU)"
    software = transcode(samples, tmp_path / "software")
    software.run(encoder="software", start_s=0, end_s=0.2)
    assert told(software) == "encoder: libx264 (on the CPU)"


def test_pictures_of_ten_bits_and_closed_captions_stay_with_the_software(
    on_gpu: Callable[[Encoder], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    small = replace(MISSING, sides=(2, 4096))
    on_gpu(small)
    work = Work("transcode", captioned(tmp_path), tmp_path / "captions", device="cuda:0")
    assert work.run().facts["encoder"] == "libx264"
    assert "h264_absent is not used: the closed captions would be lost" in told(work)
    monkeypatch.setitem(encoders.ON_GPU, "h265", small.name)
    deep = tmp_path / "deep.mkv"
    source = "testsrc2=size=192x108:rate=25:duration=0.2"
    run_ffmpeg("-f", "lavfi", "-i", source, "-c:v", "libx265", "-pix_fmt", "yuv420p10le", deep)
    work = Work("transcode", deep, tmp_path / "deep", device="cuda:0")
    assert work.run(codec="h265").facts["encoder"] == "libx265"
    assert "h264_absent is not used: the result has 10 bits" in told(work)


def test_one_that_fails_in_mid_job_is_replaced_once_with_a_warning_and_doubted(
    on_gpu: Callable[[Encoder], None], samples: Samples, tmp_path: Path
) -> None:
    on_gpu(BREAKS)
    work = transcode(samples, tmp_path / "first")
    output = work.run(fps=30)
    assert output.facts["encoder"] == "libx264"
    (warning,) = output.facts["warnings"]
    assert warning.startswith("libopenh264 failed (")
    assert warning.endswith("); libx264 encoded the pictures on the CPU.")
    again = transcode(samples, tmp_path / "again")
    assert again.run(fps=30).facts["warnings"] == []
    assert "it failed a moment ago" in told(again)
    asked = transcode(samples, tmp_path / "asked")
    with pytest.raises(VidqueueError, match="nonsense"):
        asked.run(encoder="nvenc", fps=30)


def test_enhance_takes_it_and_falls_back_too(
    on_gpu: Callable[[Encoder], None], samples: Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vidqueue.processors.parts import adjust

    original = adjust.Adjustment
    # Only the lane says that it has a GPU; the arithmetic has to do without.
    monkeypatch.setattr(adjust, "Adjustment", lambda *given, device, **more: original(*given, device="cpu", **more))
    on_gpu(GOOD)
    work = Work("enhance", samples("plain.mp4"), tmp_path / "good", device="cuda:0")
    assert work.run(saturation=0.5).facts["encoder"] == "libopenh264"
    assert "(proven: " in told(work)
    encoder_proof.forget()
    on_gpu(replace(BREAKS, rate=_only_first()))
    work = Work("enhance", samples("plain.mp4"), tmp_path / "breaks", device="cuda:0")
    output = work.run(saturation=0.5)
    assert output.facts["encoder"] == "libx264"
    assert sum("libopenh264 failed" in warning for warning in output.facts["warnings"]) == 1


def _only_first() -> Callable[[Any], tuple[str, ...]]:
    """Works in the trial, and never again: the samples have the rate of the trial."""
    calls: list[Any] = []

    def rate(fps: Any) -> tuple[str, ...]:
        calls.append(fps)
        return () if len(calls) == 1 else ("-profile:v", "nonsense")

    return rate


def test_auto_asks_for_no_lane_with_a_gpu_and_its_results_are_looked_up() -> None:
    processor = find("transcode")
    params = parse(processor, {"video": "/a.mp4", "encoder": "auto"})
    assert processor.device_for(params) == "cpu"
    assert processor.deterministic_for(params)


def test_doctor_tells_what_auto_takes(on_gpu: Callable[[Encoder], None]) -> None:
    on_gpu(GOOD)
    assert "; auto takes libopenh264 (" in check_encoders(gpu=True).found
    assert "auto" not in check_encoders(gpu=False).found
