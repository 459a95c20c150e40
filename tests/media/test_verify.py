"""The judgement: what counts as whole, as damaged, as lost."""

from __future__ import annotations

import os
import signal
import threading
from fractions import Fraction
from pathlib import Path

import pytest

from tests.media.clips import Samples
from vidqueue.errors import VidqueueError, is_retryable
from vidqueue.limits import Limits
from vidqueue.media.facts import MediaFacts, VideoFacts
from vidqueue.media.ffmpeg import Tally
from vidqueue.media.verify import Expected, check_decoding, check_output, playable_video


def video(codec: str = "h264", frames: int = 100) -> VideoFacts:
    return VideoFacts(
        index=0, codec=codec, width=64, height=48, pixel_format="yuv420p", fps=25, frames=frames,
        time_base=Fraction(1, 25), last_duration=1, duration_s=frames / 25,
    )  # fmt: skip


def code(facts: MediaFacts) -> str:
    with pytest.raises(VidqueueError) as caught:
        playable_video(facts)
    return caught.value.code


def test_sound_alone_is_no_video() -> None:
    assert code(MediaFacts(container="mp3", size=1)) == "no_video_stream"


def test_a_picture_is_no_video() -> None:
    assert code(MediaFacts(container="png_pipe", size=1, video=video(frames=1), is_still=True)) == "still_image"


def test_a_file_that_holds_half_of_what_it_promises_is_damaged() -> None:
    facts = MediaFacts(
        container="mov", size=1, video=video(), duration_s=4, declared_duration_s=8, damage=("It is half a file.",)
    )
    assert code(facts) == "media_damaged"


def test_a_sound_that_is_longer_than_the_pictures_is_no_damage() -> None:
    facts = MediaFacts(container="mov", size=1, video=video(), duration_s=4, declared_duration_s=8)
    assert playable_video(facts) == video()


def test_a_whole_decoding_has_nothing_to_say() -> None:
    assert check_decoding(video(), Tally(packets=100, decoded=100)) == []


def test_two_lost_pictures_of_a_hundred_are_a_warning() -> None:
    assert check_decoding(video(), Tally(packets=100, decoded=98, errors=2)) == [
        "2 of 100 pictures could not be decoded and are missing."
    ]


def test_three_lost_pictures_of_a_hundred_are_too_many() -> None:
    with pytest.raises(VidqueueError, match="3 of 100") as caught:
        check_decoding(video(), Tally(packets=100, decoded=97, errors=3))
    assert caught.value.code == "media_damaged"


def test_pictures_that_vanish_without_an_error_are_lost_as_well() -> None:
    with pytest.raises(VidqueueError, match="50 of 100"):
        check_decoding(video(), Tally(packets=100, decoded=50))


def test_packets_that_show_nothing_are_no_loss_where_the_codec_has_them() -> None:
    assert check_decoding(video("vp8"), Tally(packets=100, decoded=94)) == []


def test_visible_damage_in_a_fifth_is_a_warning_and_in_more_too_much() -> None:
    assert len(check_decoding(video(), Tally(packets=100, decoded=100, corrupt=20))) == 1
    with pytest.raises(VidqueueError, match="visibly damaged"):
        check_decoding(video(), Tally(packets=100, decoded=100, corrupt=21))


def test_a_trim_is_judged_by_what_it_read() -> None:
    assert check_decoding(video(), Tally(packets=10, decoded=10), complete=False) == []


def test_nothing_decoded_is_damage_whatever_was_read() -> None:
    with pytest.raises(VidqueueError):
        check_decoding(video("vp8"), Tally(packets=100, decoded=0), complete=False)


def fault(path: Path, expected: Expected) -> str:
    with pytest.raises(VidqueueError) as caught:
        check_output(path, expected, Limits(), threading.Event())
    assert caught.value.code == "output_incomplete"
    return caught.value.message


def test_a_result_as_expected_passes(samples: Samples) -> None:
    facts = check_output(samples("plain.mp4"), Expected(90, 3.0, 0.033, 1), Limits(), threading.Event())
    assert facts.video is not None


@pytest.mark.parametrize(
    ("expected", "words"),
    [
        (Expected(91, 3.0, 0.033, 1), "90 pictures instead of 91"),
        (Expected(90, 3.1, 0.033, 1), "instead of 3.100 s"),
        (Expected(90, 3.0, 0.033, 0), "1 audio streams instead of 0"),
    ],
)
def test_a_result_that_differs_is_incomplete(samples: Samples, expected: Expected, words: str) -> None:
    assert words in fault(samples("plain.mp4"), expected)


def test_a_result_without_pictures_is_incomplete(samples: Samples) -> None:
    assert "no pictures" in fault(samples("audio.mp4"), Expected(90, 3.0, 0.033, 1))


def test_a_result_that_cannot_be_read_is_incomplete(tmp_path: Path) -> None:
    (tmp_path / "output.mp4").write_bytes(b"not a film at all")
    assert "cannot be read back" in fault(tmp_path / "output.mp4", Expected(1, 1.0, 0.1, 0))


def test_a_result_that_is_not_whole_is_not_tried_again() -> None:
    assert not is_retryable("output_incomplete")


def test_a_check_that_was_killed_says_nothing_about_the_result(samples: Samples) -> None:
    path = samples("plain.mp4")

    def kill_the_first_ffmpeg() -> None:
        while not (jails := [thread.name for thread in threading.enumerate() if thread.name.startswith("jail-")]):
            pass
        os.kill(int(jails[0].removeprefix("jail-")), signal.SIGKILL)

    killer = threading.Thread(target=kill_the_first_ffmpeg)
    killer.start()
    with pytest.raises(VidqueueError) as caught:
        check_output(path, Expected(90, 3.0, 0.033, 1), Limits(), threading.Event())
    killer.join()
    assert caught.value.code == "out_of_memory"
