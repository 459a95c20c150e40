"""Which container carries what, which encoder makes what, which filters are built: pure decisions."""

from __future__ import annotations

import os
import signal
from fractions import Fraction
from typing import Any

import pytest

from vidqueue.errors import VidqueueError, is_retryable
from vidqueue.media.containers import CONTAINERS, ContainerName, carrying_untouched
from vidqueue.media.encoders import ENCODERS, encoder_named, fault_of, working_encoders, works
from vidqueue.media.facts import AudioFacts, Colour, MediaFacts, VideoFacts, choose_video
from vidqueue.media.filters import even, output_colour, output_time_base, tagged, upright_yuv
from vidqueue.media.jail import sandbox
from vidqueue.media.soundtracks import SoundWishes, plan_audio


def video(**facts: object) -> VideoFacts:
    plain = {
        "index": 0,
        "codec": "h264",
        "width": 640,
        "height": 480,
        "pixel_format": "yuv420p",
        "fps": 25,
        "frames": 50,
    }
    return VideoFacts.model_validate(plain | {"time_base": Fraction(1, 25)} | facts)


def heard(*codecs: str) -> MediaFacts:
    audios = tuple(AudioFacts(index=n, codec=codec, sample_rate=48000) for n, codec in enumerate(codecs, start=1))
    return MediaFacts(container="mov", size=1, audios=audios)


def test_the_most_pictures_beat_the_largest_picture() -> None:
    preview = video(index=1, width=2048, height=1536, frames=2)
    assert choose_video((preview, video(frames=53))) == video(frames=53)


def test_a_marked_default_beats_more_pictures() -> None:
    marked = video(index=1, default=True)
    assert choose_video((video(frames=500), marked)) == marked


def test_moving_pictures_beat_a_still_that_is_marked_default() -> None:
    still = video(index=1, frames=1, default=True)
    assert choose_video((still, video())) == video()


def test_a_cover_is_never_chosen() -> None:
    assert choose_video((video(attached_picture=True),)) is None


@pytest.mark.parametrize(
    ("container", "codec", "copied"),
    [("mp4", "aac", True), ("mp4", "vorbis", False), ("mp4", "pcm_s16le", False), ("mov", "pcm_s16le", True),
     ("mkv", "vorbis", True), ("webm", "aac", False), ("webm", "opus", True)],
)  # fmt: skip
def test_sound_is_copied_where_the_container_carries_it(container: ContainerName, codec: str, copied: bool) -> None:
    plan = plan_audio(heard(codec), CONTAINERS[container])
    assert ("copy" in plan.arguments) == copied
    assert len(plan.notes) == (0 if copied else 1)


def test_each_sound_track_is_decided_alone() -> None:
    plan = plan_audio(heard("aac", "vorbis"), CONTAINERS["mp4"], input_number=1)
    assert plan.streams == 2
    assert plan.arguments[:4] == ("-map", "1:1", "-c:a:0", "copy")
    assert plan.arguments[4:8] == ("-map", "1:2", "-c:a:1", "aac")


def test_dropped_sound_is_no_stream() -> None:
    assert plan_audio(heard("aac"), CONTAINERS["mp4"], SoundWishes("drop")).streams == 0


@pytest.mark.parametrize(("codec", "name"), [("aac", "mp4"), ("pcm_s24le", "mov"), ("vorbis", "mkv"), ("opus", "mp4")])
def test_untouched_sound_chooses_the_container(codec: str, name: str) -> None:
    assert carrying_untouched(heard(codec)).name == name


def test_every_software_encoder_works_in_the_jail() -> None:
    assert set(working_encoders()) >= {"libx264", "libx265", "libsvtav1", "libvpx-vp9"}


def test_an_encoder_is_tried_once_per_process() -> None:
    assert works("libx264")
    tried = fault_of.cache_info().misses
    assert works("libx264")
    assert fault_of.cache_info().misses == tried


def test_a_trial_that_was_killed_says_nothing_about_the_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    start = sandbox.start

    def start_and_kill(*arguments: Any, **options: Any) -> sandbox.Sandboxed:
        running = start(*arguments, **options)
        os.kill(running.pid, signal.SIGKILL)
        return running

    fault_of.cache_clear()
    monkeypatch.setattr(sandbox, "start", start_and_kill)
    with pytest.raises(VidqueueError) as refused:
        works("libx264")
    assert is_retryable(refused.value.code)
    monkeypatch.undo()
    assert works("libx264")


def test_nvenc_makes_no_vp9() -> None:
    assert encoder_named("nvenc", "vp9") is None
    assert encoder_named("nvenc", "h265") is ENCODERS["hevc_nvenc"]


def test_a_named_encoder_of_another_codec_is_none() -> None:
    assert encoder_named("libx265", "h264") is None


def test_higher_quality_is_a_lower_crf_with_every_encoder() -> None:
    for encoder in ENCODERS.values():
        assert encoder.crf["low"] > encoder.crf["medium"] > encoder.crf["high"]


def test_x264_is_28_23_18() -> None:
    assert tuple(ENCODERS["libx264"].crf.values()) == (28, 23, 18)


@pytest.mark.parametrize(("size", "held"), [((321, 181), (320, 180)), ((642, 642), (642, 642)), ((1, 1), (2, 2))])
def test_odd_sizes_lose_one_line(size: tuple[int, int], held: tuple[int, int]) -> None:
    assert even(size) == held


def test_an_odd_picture_is_cropped_and_not_scaled() -> None:
    assert "crop=320:180:0:0" in upright_yuv(video(width=321, height=181), (320, 180), 8)


def test_rotation_turns_size_and_pixel_shape() -> None:
    turned = video(rotation=90, sar=Fraction(4, 3))
    assert (turned.upright, turned.upright_sar) == ((480, 640), Fraction(3, 4))
    assert "setsar=3/4" in upright_yuv(turned, turned.upright, 8)


def test_full_range_stays_full() -> None:
    assert "in_range=pc:out_range=pc" in upright_yuv(video(colour=Colour(range="pc")), (640, 480), 8)


def test_red_green_blue_becomes_limited_range_bt709() -> None:
    picture = video(pixel_format="bgra", colour=Colour(range="pc", space="gbr"))
    assert "out_color_matrix=bt709:out_range=tv" in upright_yuv(picture, (640, 480), 8)
    assert output_colour(picture, 8).space == "bt709"


def test_only_known_words_become_tags() -> None:
    hostile = Colour(range="tv,movie=/etc/passwd", space="bt2020nc", primaries="x:y", transfer="smpte2084")
    assert tagged(hostile) == "setparams=colorspace=bt2020nc:color_trc=smpte2084"


def test_nothing_known_is_no_filter() -> None:
    assert tagged(Colour()) == ""


def test_absurdly_fine_clocks_become_ninety_kilohertz() -> None:
    assert output_time_base(video(time_base=Fraction(1, 1_000_000_000))) == Fraction(1, 90_000)
    assert output_time_base(video(time_base=Fraction(1, 30_000))) == Fraction(1, 30_000)
