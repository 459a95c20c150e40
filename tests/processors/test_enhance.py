"""Enhance on clips that we made: the picture changes as asked, and nothing else does."""

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
from vidqueue.media.probe import probe


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    return tmp_path / "work"


def test_brightness_reaches_the_output(samples: Samples, workspace: Path) -> None:
    output = Work("enhance", samples("plain.mp4"), workspace).run(brightness=0.1)
    before, after = picture(samples("plain.mp4"), at_frame=40), picture(output.path, at_frame=40)
    assert after.mean() - before.mean() > 12


def test_no_saturation_makes_it_black_and_white(samples: Samples, workspace: Path) -> None:
    output = Work("enhance", samples("plain.mp4"), workspace).run(saturation=0.0)
    red, _, blue = np.moveaxis(picture(output.path, at_frame=40).astype(int), 2, 0)
    assert np.abs(red - blue).max() < 12


def test_all_operations_together_keep_every_picture_and_its_time(samples: Samples, workspace: Path) -> None:
    everything = {"denoise": 0.5, "sharpen": 0.5, "brightness": 0.02, "contrast": 1.1, "saturation": 1.2, "gamma": 1.1}
    output = Work("enhance", samples("vfr.mp4"), workspace).run(**everything)
    assert decoded_times(output.path, 0) == pytest.approx(decoded_times(samples("vfr.mp4"), 0), abs=1e-6)
    assert video_of(facts_of(output)).is_vfr


@pytest.mark.parametrize("container", ["mp4", "mov", "mkv", "webm"])
def test_sound_stays_with_the_picture(samples: Samples, workspace: Path, container: str) -> None:
    output = Work("enhance", samples("plain.mp4"), workspace).run(container=container, gamma=1.1)
    seen = flashes(output.path, 0)
    assert len(seen) == 3
    assert beeps(output.path) == pytest.approx(seen, abs=0.025)


def test_sound_is_untouched(samples: Samples, workspace: Path) -> None:
    output = Work("enhance", samples("plain.mp4"), workspace).run(sharpen=0.5)
    sound = ["-map", "0:a", "-c", "copy", "-f", "adts", "-"]
    assert run_ffmpeg("-i", output.path, *sound).stdout == run_ffmpeg("-i", samples("plain.mp4"), *sound).stdout


@pytest.mark.parametrize(("audio", "name"), [("pcm_s16le", "output.mov"), ("libvorbis", "output.mkv")])
def test_the_container_follows_the_sound_when_it_is_left_open(
    samples: Samples, workspace: Path, tmp_path: Path, audio: str, name: str
) -> None:
    source = tmp_path / "source.mkv"
    run_ffmpeg("-i", samples("plain.mkv"), "-c:v", "copy", "-c:a", audio, source)
    output = Work("enhance", source, workspace).run(gamma=1.1)
    assert output.path.name == name
    assert facts_of(output).audio is not None
    assert [one.codec for one in facts_of(output).audios] == [one.codec for one in probe(source, Limits()).audios]


def test_several_sound_tracks_are_all_carried_over(samples: Samples, workspace: Path, tmp_path: Path) -> None:
    source = tmp_path / "two.mkv"
    run_ffmpeg("-i", samples("plain.mkv"), "-map", "0:v", "-map", "0:a", "-map", "0:a", "-c", "copy", source)
    assert len(facts_of(Work("enhance", source, workspace).run(gamma=1.1)).audios) == 2


def test_ten_bit_hdr_stays_ten_bit_hdr(samples: Samples, workspace: Path, tmp_path: Path) -> None:
    source = tmp_path / "hdr.mp4"
    tags = "setparams=range=tv:colorspace=bt2020nc:color_primaries=bt2020:color_trc=smpte2084"
    run_ffmpeg(
        "-i", samples("plain.mp4"), "-t", "0.5", "-vf", f"format=yuv420p10le,{tags}", "-c:v", "libx265",
        "-x265-params", "log-level=error", source,
    )  # fmt: skip
    video = video_of(facts_of(Work("enhance", source, workspace).run(brightness=0.01)))
    assert (video.codec, video.pixel_format) == ("hevc", "yuv420p10le")
    assert list(video.colour.model_dump().values()) == ["tv", "bt2020nc", "bt2020", "smpte2084"]
    before = video_of(probe(source, Limits()))
    assert video.colour == before.colour


def test_full_range_stays_full_range(samples: Samples, workspace: Path, tmp_path: Path) -> None:
    source = tmp_path / "full.mp4"
    run_ffmpeg("-i", samples("plain.mp4"), "-t", "0.5", "-vf", "scale=out_range=pc,format=yuvj420p", source)
    output = Work("enhance", source, workspace).run(saturation=1.01)
    assert video_of(facts_of(output)).colour.range == "pc"
    before, after = picture(source, at_frame=5), picture(output.path, at_frame=5)
    assert np.abs(before.astype(int) - after.astype(int)).mean() < 4


def test_pixels_that_are_not_square_stay_so(samples: Samples, workspace: Path, tmp_path: Path) -> None:
    source = tmp_path / "wide.mp4"
    run_ffmpeg("-i", samples("plain.mp4"), "-t", "0.5", "-vf", "setsar=4/3", source)
    output = Work("enhance", source, workspace).run(gamma=1.1)
    assert str(video_of(facts_of(output)).sar) == "4/3"


def test_progress_grows_and_tells_speed(samples: Samples, workspace: Path) -> None:
    work = Work("enhance", samples("medium.mp4"), workspace)
    # A time is only estimated after half a second of work.
    work.run(brightness=0.1, effort="slow")
    fractions = [one.fraction for one in work.progress]
    assert fractions == sorted(fractions)
    assert any(one.fps and one.speed and one.eta_s for one in work.progress if one.stage == "enhance")


def test_a_cancel_in_mid_run_returns_within_a_second(samples: Samples, workspace: Path) -> None:
    canceled = threading.Event()
    when: list[float] = []

    def cancel(progress: Any) -> None:
        if progress.stage == "enhance" and progress.fraction > 0.01 and not when:
            canceled.set()
            when.append(time.monotonic())

    work = Work("enhance", samples("long.mp4"), workspace, canceled=canceled, on_progress=cancel)
    with pytest.raises(CanceledError):
        work.run(denoise=1.0)
    assert time.monotonic() - when[0] < promised(1)
    assert not [one for one in threading.enumerate() if one.name.startswith(("jail", "decoder", "encoder"))]


def test_a_sound_file_needs_a_video(samples: Samples, workspace: Path) -> None:
    with pytest.raises(VidqueueError) as caught:
        Work("enhance", samples("audio.mp4"), workspace).run()
    assert caught.value.code == "no_video_stream"
