"""Transcode on clips that we made: what comes out is what was asked for."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.daemon import promised
from tests.media.clips import Samples, beeps, decoded_times, flashes, picture, run_ffmpeg
from tests.processors.work import Work, facts_of, video_of
from vidqueue.errors import CanceledError, VidqueueError
from vidqueue.limits import Limits


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    return tmp_path / "work"


@pytest.mark.parametrize(
    ("wishes", "codec", "filename", "media_type"),
    [
        ({}, "h264", "output.mp4", "video/mp4"),
        ({"codec": "h265"}, "hevc", "output.mp4", "video/mp4"),
        ({"codec": "av1"}, "av1", "output.mp4", "video/mp4"),
        ({"container": "mov"}, "h264", "output.mov", "video/quicktime"),
        ({"container": "mkv", "codec": "vp9"}, "vp9", "output.mkv", "video/x-matroska"),
        ({"container": "webm"}, "vp9", "output.webm", "video/webm"),
        ({"encoder": "libx265"}, "hevc", "output.mp4", "video/mp4"),
    ],
)
def test_container_and_codec_are_those_asked_for(
    samples: Samples, workspace: Path, wishes: dict[str, Any], codec: str, filename: str, media_type: str
) -> None:
    output = Work("transcode", samples("plain.mkv"), workspace).run(**wishes)
    facts = facts_of(output)
    assert (output.path.name, output.media_type, video_of(facts).codec) == (filename, media_type, codec)
    assert video_of(facts).frames == 60
    assert len(facts.audios) == 1


def test_uneven_times_are_kept_exactly(samples: Samples, workspace: Path) -> None:
    output = Work("transcode", samples("vfr.mp4"), workspace).run()
    assert decoded_times(output.path, 0) == pytest.approx(decoded_times(samples("vfr.mp4"), 0), abs=1e-6)


def test_a_rate_makes_times_even(samples: Samples, workspace: Path) -> None:
    video = video_of(facts_of(Work("transcode", samples("vfr.mp4"), workspace).run(fps=10)))
    assert (video.is_vfr, video.frames) == (False, 30)


def test_a_rotated_clip_shows_the_same_picture_unrotated(samples: Samples, workspace: Path) -> None:
    output = Work("transcode", samples("rotated.mov"), workspace).run(quality="high")
    before, after = picture(samples("rotated.mov"), at_frame=20), picture(output.path, at_frame=20)
    assert video_of(facts_of(output)).rotation == 0
    assert before.shape == after.shape == (640, 360, 3)
    assert np.abs(before.astype(int) - after.astype(int)).mean() < 4


def test_a_smaller_size_shows_the_same_picture(samples: Samples, workspace: Path) -> None:
    output = Work("transcode", samples("plain.mp4"), workspace).run(resolution="240p", quality="high")
    before, after = picture(samples("plain.mp4"), at_frame=40, size=(426, 240)), picture(output.path, at_frame=40)
    assert after.shape == (240, 426, 3)
    assert np.abs(before.astype(int) - after.astype(int)).mean() < 8


def test_a_size_above_the_source_says_why_nothing_happened_and_the_log_names_the_encoder(
    samples: Samples, workspace: Path
) -> None:
    work = Work("transcode", samples("plain.mp4"), workspace)
    output = work.run(width=3840, quality="low", effort="fast")
    video = video_of(facts_of(output))
    (warning,) = output.facts["warnings"]
    assert warning.startswith(f"The source is {video.width}x{video.height} and is not enlarged to 3840x?")
    assert "encoder: libx264 (on the CPU)" in [line.text for line in work.log]
    assert output.facts["encoder"] == "libx264"


def test_a_resolution_is_a_limit_and_a_smaller_source_is_no_reason_to_warn(samples: Samples, workspace: Path) -> None:
    work = Work("transcode", samples("plain.mp4"), workspace)
    output = work.run(resolution="2160p", quality="low", effort="fast")
    assert output.facts["warnings"] == []
    (said,) = [line for line in work.log if "is not enlarged to 2160p" in line.text]
    assert said.level == "info"


def test_a_trim_starts_and_ends_on_the_picture(samples: Samples, workspace: Path) -> None:
    output = Work("transcode", samples("plain.mp4"), workspace).run(start_s=0.5, end_s=2.5)
    video = video_of(facts_of(output))
    assert video.frames == 60
    assert video.duration_s == pytest.approx(2, abs=0.001)
    assert flashes(output.path, 0) == pytest.approx([0.5, 1.5], abs=0.001)


@pytest.mark.parametrize("audio", ["keep", "reencode"])
def test_sound_stays_with_the_picture_through_a_trim(samples: Samples, workspace: Path, audio: str) -> None:
    output = Work("transcode", samples("plain.mp4"), workspace).run(start_s=0.5, audio=audio)
    assert beeps(output.path) == pytest.approx(flashes(output.path, 0), abs=0.03)


@pytest.mark.parametrize("wishes", [{}, {"audio": "reencode"}, {"container": "webm"}, {"container": "mkv"}], ids=str)
def test_sound_stays_with_the_picture(samples: Samples, workspace: Path, wishes: dict[str, Any]) -> None:
    output = Work("transcode", samples("plain.mp4"), workspace).run(**wishes)
    seen = flashes(output.path, 0)
    assert len(seen) == 3
    assert beeps(output.path) == pytest.approx(seen, abs=0.025)


def test_sound_that_starts_late_still_starts_late(samples: Samples, workspace: Path, tmp_path: Path) -> None:
    late = tmp_path / "late.mp4"
    plain = samples("plain.mp4")
    run_ffmpeg("-i", plain, "-itsoffset", "0.7", "-i", plain, "-map", "0:v", "-map", "1:a", "-c", "copy", late)
    before = facts_of(Work("transcode", late, workspace).run())
    assert before.audio is not None
    assert before.audio.start_s - video_of(before).start_s == pytest.approx(0.7, abs=0.03)


def test_dropped_sound_is_gone(samples: Samples, workspace: Path) -> None:
    assert facts_of(Work("transcode", samples("plain.mp4"), workspace).run(audio="drop")).audios == ()


def test_sound_that_the_container_cannot_carry_is_encoded_anew_and_said(samples: Samples, workspace: Path) -> None:
    work = Work("transcode", samples("plain.mp4"), workspace)
    facts = facts_of(work.run(container="webm"))
    assert [one.codec for one in facts.audios] == ["opus"]
    assert any("does not carry aac" in line.text for line in work.log)


@pytest.mark.parametrize("wishes", [{"start_s": 3.0}, {"start_s": 100.0}, {"end_s": 9.0}], ids=str)
def test_a_trim_outside_the_video_is_refused(samples: Samples, workspace: Path, wishes: dict[str, float]) -> None:
    with pytest.raises(VidqueueError) as caught:
        Work("transcode", samples("plain.mp4"), workspace).run(**wishes)
    assert caught.value.code == "trim_out_of_range"


def test_a_sound_file_needs_a_video(samples: Samples, workspace: Path) -> None:
    with pytest.raises(VidqueueError) as caught:
        Work("transcode", samples("audio.mp4"), workspace).run()
    assert caught.value.code == "no_video_stream"


def test_an_encoder_that_does_not_work_here_is_said_before_the_work(samples: Samples, workspace: Path) -> None:
    work = Work("transcode", samples("plain.mp4"), workspace)
    from vidqueue.media.encoders import fault_of

    if not (reason := fault_of("h264_nvenc")):
        pytest.skip("this machine has NVENC")
    with pytest.raises(VidqueueError) as caught:
        work.run(encoder="nvenc")
    assert caught.value.code == "encoder_unavailable"
    assert caught.value.message == f"The encoder h264_nvenc does not work on this machine. {reason}"
    assert list(workspace.iterdir()) == []


def test_progress_grows_and_tells_speed(samples: Samples, workspace: Path) -> None:
    # ffmpeg reports twice a second: the work must take several reports on a fast machine as well.
    work = Work("transcode", samples("long.mp4"), workspace)
    work.run(codec="h265")
    fractions = [one.fraction for one in work.progress]
    assert fractions == sorted(fractions)
    assert {"probe", "encode", "check"} <= {one.stage for one in work.progress}
    assert any(one.fps and one.speed and one.eta_s for one in work.progress)


def test_a_cancel_in_mid_run_returns_within_a_second_and_leaves_no_ffmpeg(samples: Samples, workspace: Path) -> None:
    canceled, when = threading.Event(), []

    def cancel(progress: Any) -> None:
        if progress.stage == "encode":
            canceled.set()
            when.append(time.monotonic())

    work = Work("transcode", samples("long.mp4"), workspace, canceled=canceled, on_progress=cancel)
    with pytest.raises(CanceledError):
        work.run(effort="slow", codec="h265")
    assert time.monotonic() - when[0] < promised(1)
    assert not [one for one in threading.enumerate() if one.name.startswith("jail")]


def test_a_result_beyond_the_limit_is_refused(samples: Samples, workspace: Path) -> None:
    work = Work("transcode", samples("long.mp4"), workspace, limits=Limits(max_output_mib=1))
    with pytest.raises(VidqueueError) as caught:
        work.run(quality="high", effort="fast")
    assert caught.value.code == "output_too_large"


def test_a_run_beyond_its_time_is_ended(samples: Samples, workspace: Path) -> None:
    work = Work("transcode", samples("long.mp4"), workspace, limits=Limits(ffmpeg_timeout_s=0.5))
    with pytest.raises(VidqueueError) as caught:
        work.run(effort="slow", codec="h265")
    assert caught.value.code == "timed_out"


def test_the_output_is_private_and_tells_no_place_or_device(samples: Samples, tmp_path: Path) -> None:
    tagged = tmp_path / "tagged.mp4"
    tags = {
        "title": "A walk",
        "creation_time": "2024-05-06T07:08:09Z",
        "location": "+48.1371+011.5754/",
        "make": "Acme",
    }
    words = [word for key, value in tags.items() for word in ("-metadata", f"{key}={value}")]
    run_ffmpeg("-i", samples("plain.mp4"), "-t", "0.4", "-c", "copy", "-movflags", "use_metadata_tags", *words, tagged)
    told = {}
    for wish in ("safe", "none", "all"):
        output = Work("transcode", tagged, tmp_path / wish).run(metadata=wish)
        assert output.path.stat().st_mode & 0o777 == 0o600
        text = run_ffmpeg("-i", output.path, "-map_metadata:g", "0:g", "-f", "ffmetadata", "-").stdout.decode()
        told[wish] = [word for word in ("A walk", "2024-05-06", "48.1371", "Acme") if word in text]
        lost = ["Metadata is left out: location, make; `metadata: all` keeps it."]
        assert output.facts["warnings"] == (lost if wish == "safe" else [])
    assert told == {"safe": ["A walk", "2024-05-06"], "none": [], "all": ["A walk", "2024-05-06", "48.1371", "Acme"]}
