"""Reading ffmpeg's banner, on lines that it really printed."""

from __future__ import annotations

import pytest

from vidqueue.media.banner import Banner, bit_depth
from vidqueue.media.facts import Colour

SELFIE = """Input #0, mov,mp4,m4a,3gp,3g2,mj2, from 'fd:':
  Metadata:
    title           : a film
                    :   Stream #0:9: Video: h264, yuv420p, 1x1
  Duration: 00:01:01.77, start: -0.023220, bitrate: 13818 kb/s
  Stream #0:0[0x1](eng): Video: hevc (Main 10) (hvc1 / 0x31637668), yuv420p10le(tv, bt2020nc/bt2020/smpte2084), \
1440x1080, 12669 kb/s, SAR 1:1 DAR 4:3, 29.88 fps, 120 tbr, 90k tbn (default)
    Side data:
      Display Matrix: rotation of -90.00 degrees
  Stream #0:1: Audio: aac (LC) (mp4a / 0x6134706D), 44100 Hz, stereo, fltp, 129 kb/s (default)
  Stream #0:2: Video: mjpeg (Baseline), yuvj444p(pc, bt470bg/unknown/unknown), 600x600, 90k tbr, 90k tbn (attached pic)
  Stream #0:3[0x3](eng): Data: none (mett / 0x7474656D), 252 kb/s
Stream mapping:
  Stream #0:0 -> #0:0 (copy)
Output #0, framecrc, to 'pipe:':
  Stream #0:0(eng): Video: hevc, yuv420p, 1x1
"""


@pytest.fixture
def banner() -> Banner:
    found = Banner()
    for line in SELFIE.splitlines():
        found.read(line)
    return found


def test_container_start_and_duration(banner: Banner) -> None:
    assert (banner.container, banner.start_s, banner.duration_s) == ("mov", -0.02322, 61.77)


def test_only_the_inputs_own_streams_count(banner: Banner) -> None:
    assert [(one.index, one.kind) for one in banner.streams] == [(0, "Video"), (1, "Audio"), (2, "Video"), (3, "Data")]


def test_a_matrix_that_turns_anticlockwise_by_minus_ninety_is_ninety_clockwise(banner: Banner) -> None:
    assert banner.streams[0].rotation == 90


def test_three_colour_words_are_matrix_primaries_and_transfer(banner: Banner) -> None:
    expected = Colour(range="tv", space="bt2020nc", primaries="bt2020", transfer="smpte2084")
    assert banner.streams[0].colour == expected
    assert expected.is_hdr


def test_unknown_colour_words_stay_unknown(banner: Banner) -> None:
    assert banner.streams[2].colour == Colour(range="pc", space="bt470bg")


def test_a_cover_is_no_video(banner: Banner) -> None:
    assert [one.attached_picture for one in banner.streams] == [False, False, True, False]


def test_profile_and_pixel_format(banner: Banner) -> None:
    assert (banner.streams[0].profile, banner.streams[0].pixel_format) == ("Main 10", "yuv420p10le")


@pytest.mark.parametrize(
    ("pixel_format", "bits"),
    [("yuv420p", 8), ("yuv420p10le", 10), ("yuv422p12le", 12), ("p010le", 10), ("gbrp10le", 10), ("rgb24", 8),
     ("rgb48be", 16), ("gray16le", 16), ("gray", 8), ("bgra", 8), ("nv12", 8), ("yuv444p16le", 16)],
)  # fmt: skip
def test_bits_of_a_pixel_format(pixel_format: str, bits: int) -> None:
    assert bit_depth(pixel_format) == bits


@pytest.mark.parametrize(
    ("words", "interlaced"), [("tv, bt709, top first", True), ("tv, bt709, progressive", False), ("bottom first", True)]
)
def test_fields_are_noticed(words: str, interlaced: bool) -> None:
    found = Banner()
    found.read("Input #0, mpegts, from 'fd:':")
    found.read(f"  Stream #0:0: Video: h264 (High), yuv420p({words}), 1920x1080, 25 fps")
    assert found.streams[0].interlaced is interlaced
