"""The probe on clips whose facts are known because we made them."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from tests.media.clips import Samples, decoded_times, run_ffmpeg
from vidqueue.errors import CanceledError, VidqueueError
from vidqueue.limits import Limits
from vidqueue.media.facts import MediaFacts
from vidqueue.media.probe import probe

LIMITS = Limits()
# Every container that is accepted, with codecs that live in it and an awkward thing or two.
VARIETY = {
    "bframes.avi": ("-c:v", "mpeg4", "-bf", "2", "-c:a", "mp3"),
    "stream.ts": ("-c:v", "libx264", "-bf", "3", "-c:a", "aac"),
    "programme.mpg": ("-c:v", "mpeg2video", "-bf", "2", "-c:a", "mp2"),
    "flash.flv": ("-c:v", "flv", "-c:a", "mp3", "-ar", "44100"),
    "theora.ogv": ("-c:v", "libtheora", "-c:a", "libvorbis"),
    "hidden_references.webm": ("-c:v", "libvpx", "-auto-alt-ref", "1", "-lag-in-frames", "16", "-c:a", "libvorbis"),
    "prores.mov": ("-c:v", "prores", "-c:a", "pcm_s16le"),
    "open_gop.mp4": ("-c:v", "libx265", "-x265-params", "log-level=error:open-gop=1", "-c:a", "aac"),
    "av1.mp4": ("-c:v", "libsvtav1", "-preset", "12", "-c:a", "libopus"),
    "motion.mkv": ("-c:v", "mjpeg", "-c:a", "flac"),
    "fragmented.mp4": ("-c:v", "libx264", "-movflags", "frag_keyframe+empty_moov", "-c:a", "aac"),
}


def test_a_plain_clip(samples: Samples) -> None:
    facts = probe(samples("plain.mp4"), LIMITS)
    assert facts.video is not None
    assert (facts.container, facts.video.codec, facts.video.upright, facts.video.frames) == (
        "mov",
        "h264",
        (640, 360),
        90,
    )
    assert facts.duration_s == pytest.approx(3)
    assert facts.video.fps == pytest.approx(30)
    assert (facts.video.is_vfr, facts.video.rotation, facts.is_still, facts.damage) == (False, 0, False, ())
    assert [(one.codec, one.sample_rate, one.channel_layout) for one in facts.audios] == [("aac", 48000, "mono")]


@pytest.mark.parametrize("name", VARIETY)
def test_pictures_and_duration_are_those_that_decode(name: str, tmp_path: Path, samples: Samples) -> None:
    path = tmp_path / name
    run_ffmpeg("-i", samples("plain.mkv"), "-vf", "scale=320:-2", *VARIETY[name], path)
    facts = probe(path, LIMITS)
    assert facts.video is not None
    times = decoded_times(path, facts.video.index)
    hidden = 8 if name.startswith("hidden") else 0
    assert len(times) <= facts.video.frames <= len(times) + hidden
    # AVI has no times of its own, only an order.
    assert facts.video.start_s == pytest.approx(times[0], abs=0.04 if name.endswith("avi") else 0.002)
    assert facts.duration_s == pytest.approx(2, abs=0.07)
    assert not facts.video.is_vfr or name == "flash.flv"
    assert facts.damage == ()
    assert len(facts.audios) == 1


def test_uneven_times_are_variable(samples: Samples) -> None:
    video = probe(samples("vfr.mp4"), LIMITS).video
    assert video is not None
    assert video.is_vfr
    assert video.longest_gap_s == pytest.approx(0.05, abs=0.001)


def test_rotation_swaps_the_upright_size(samples: Samples) -> None:
    video = probe(samples("rotated.mov"), LIMITS).video
    assert video is not None
    assert (video.rotation, video.width, video.height, video.upright) == (90, 640, 360, (360, 640))


def test_a_sound_file_has_no_video(samples: Samples) -> None:
    facts = probe(samples("audio.mp4"), LIMITS)
    assert facts.video is None
    assert facts.duration_s == pytest.approx(2, abs=0.03)


def test_a_cover_is_not_the_video(tmp_path: Path, samples: Samples) -> None:
    path = tmp_path / "song.mp3"
    run_ffmpeg("-i", samples("plain.mp4"), "-map", "0:a", "-map", "0:v", "-frames:v", "1", "-c:v", "png", path)
    facts = probe(path, LIMITS)
    assert facts.video is None
    assert len(facts.videos) == 1


@pytest.mark.parametrize("ending", ["png", "jpg", "gif"])
def test_a_single_picture_is_still(tmp_path: Path, samples: Samples, ending: str) -> None:
    path = tmp_path / f"picture.{ending}"
    run_ffmpeg("-i", samples("plain.mp4"), "-frames:v", "1", path)
    assert probe(path, LIMITS).is_still


def test_what_an_edit_list_cuts_off_is_not_counted(tmp_path: Path, samples: Samples) -> None:
    path = tmp_path / "cut.mp4"
    run_ffmpeg("-ss", "1.5", "-i", samples("plain.mp4"), "-c", "copy", path)
    facts = probe(path, LIMITS)
    assert facts.video is not None
    assert facts.video.frames == len(decoded_times(path, facts.video.index))
    assert facts.duration_s == pytest.approx(1.5, abs=0.05)


def test_a_truncated_file_holds_less_than_it_promises(tmp_path: Path, samples: Samples) -> None:
    path = tmp_path / "half.mp4"
    whole = samples("plain.mp4").read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert any("promises" in sentence for sentence in probe(path, LIMITS).damage)


def test_a_video_longer_than_allowed_is_refused(samples: Samples) -> None:
    with pytest.raises(VidqueueError) as caught:
        probe(samples("plain.mp4"), Limits(max_duration_s=1))
    assert caught.value.code == "media_too_long"


def test_a_picture_larger_than_allowed_is_refused(samples: Samples) -> None:
    with pytest.raises(VidqueueError) as caught:
        probe(samples("plain.mp4"), Limits(max_pixels=1000))
    assert caught.value.code == "media_too_large"


def test_a_set_event_ends_the_probe(samples: Samples) -> None:
    canceled = threading.Event()
    canceled.set()
    with pytest.raises(CanceledError):
        probe(samples("plain.mp4"), LIMITS, canceled)


def test_facts_survive_the_way_through_json(samples: Samples) -> None:
    facts = probe(samples("rotated.mov"), LIMITS)
    assert MediaFacts.model_validate(json.loads(json.dumps(facts.as_json()))) == facts


def test_a_file_that_was_probed_can_be_probed_again(samples: Samples) -> None:
    assert probe(samples("plain.mkv"), LIMITS) == probe(samples("plain.mkv"), LIMITS)


def test_a_late_clock_is_no_promise_of_more(tmp_path: Path, samples: Samples) -> None:
    """WMV declares the time of the end, which is later than its length where the clock begins late."""
    path = tmp_path / "late.wmv"
    run_ffmpeg("-i", samples("plain.mp4"), "-c:v", "wmv2", "-c:a", "wmav2", "-output_ts_offset", "30", path)
    assert probe(path, Limits(formats=("wide",))).damage == ()
