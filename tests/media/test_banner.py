"""Reading ffmpeg's banner, on lines that it really printed, in the parts in which it wrote them."""

from __future__ import annotations

import pytest

from vidqueue.media.banner import Banner
from vidqueue.media.facts import Colour
from vidqueue.media.jail.lines import Line
from vidqueue.media.tracks import bit_depth

INFO = "[info] "
INPUT = (INFO, "Input #0, mov,mp4,m4a,3gp,3g2,mj2, from 'fd:':\n")
SELFIE: tuple[tuple[str, ...], ...] = (
    INPUT,
    (INFO, "  Metadata:\n"),
    (INFO, "    title           : ", "a film", "\n              : ", "  Stream #0:9: Video: h264, yuv420p", "\n"),
    (INFO, "  Duration: ", "00:01:01.77", ", start: ", "-0.023220", ", bitrate: ", "13818 kb/s", "\n"),
    (
        INFO, "  Stream #0", ":0", "[0x1]", "(eng)",
        ": Video: hevc (Main 10) (hvc1 / 0x31637668), yuv420p10le(tv, bt2020nc/bt2020/smpte2084), 1440x1080, 126 kb/s",
        ", SAR 1:1 DAR 4:3", ", ", "29.88 fps, ", "120 tbr, ", "90k tbn", " (default)", "\n",
    ),
    (INFO, "    Side data:\n"),
    (INFO, "      ", "Display Matrix: ", "rotation of -90.00 degrees", "\n"),
    (INFO, "  Stream #0", ":1", ": Audio: aac (LC) (mp4a / 0x6134706D), 44100 Hz, stereo, fltp", " (default)", "\n"),
    (
        INFO, "  Stream #0", ":2", ": Video: mjpeg (Baseline), yuvj444p(pc, bt470bg/unknown/unknown), 600x600", ", ",
        "90k tbr, ", "90k tbn", " (attached pic)", "\n",
    ),
    (INFO, "  Stream #0", ":3", "[0x3]", "(eng)", ": Data: none (mett / 0x7474656D), 252 kb/s", "\n"),
    (INFO, "Stream mapping:\n"),
    (INFO, "  Stream #0:0 -> #0:0", " (copy)", "\n"),
    (INFO, "Output #0, framecrc, to 'pipe:':\n"),
    (INFO, "  Stream #0", ":0", "(eng)", ": Video: hevc, yuv420p, 1x1", "\n"),
)  # fmt: skip


def read(*lines: tuple[str, ...]) -> Banner:
    found = Banner()
    for parts in lines:
        found.read(Line.of(*parts))
    return found


@pytest.fixture
def banner() -> Banner:
    return read(*SELFIE)


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
    stream = (INFO, "  Stream #0", ":0", f": Video: h264 (High), yuv420p({words}), 1920x1080", ", ", "25 fps, ", "\n")
    assert read(INPUT, stream).streams[0].interlaced is interlaced


LIES = (
    "Input #0, gif, from 'fd:':",
    "  Duration: 1:2, start: --",
    "  Duration: 99:00:00.00, start: 5.000000",
    "  Stream #0:7: Video: h264, yuv420p, 9999x9999 (default)",
    "      Display Matrix: rotation of 180.00 degrees",
    "): Audio: aac, 48000 Hz",
    "[info]   Duration: 99:00:00.00, start: 5.000000",
    "Stream mapping:",
    "Output #0, null, to 'pipe:':",
)


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("newline", ["\n", "\r", ""])
def test_words_of_the_file_are_never_taken_for_ffmpegs(lie: str, newline: str, banner: Banner) -> None:
    text = newline + lie + newline
    forged = [list(parts) for parts in SELFIE]
    forged[2] = [INFO, f"    {text}k : ", text, "\n"]
    for number in (4, 9):
        forged[number][4] = f"({text})"
    forged.insert(5, [INFO, f"      {text}handler : ", text, "\n"])
    forged.insert(6, [INFO, f"      {lie.strip()}: ", text, "\n"])
    for stream in banner.streams:
        # The forged words stand where the language stood, and are none.
        stream.language = None
    assert read(*map(tuple, forged)) == banner


@pytest.mark.parametrize(
    "strange",
    [
        ("  Duration: ", "1:2", ", start: ", "--"),
        ("  Duration: ", "99999999999999999999:00:00.0", ", start: ", "1e400"),
        ("  Duration: ", "00:00:01.00", ", start: "),
        ("  Duration: ",),
        ("  Stream #0",),
        ("  Stream #0", ":x", ": Video: h264"),
        ("  Stream #0", ":1"),
        ("  Stream #0", ":0", ": Video: ", "\n", "      ", "Display Matrix: ", "rotation of nan degrees"),
    ],
)
def test_what_cannot_be_parsed_is_remembered_and_raises_nothing(strange: tuple[str, ...]) -> None:
    found = read(INPUT, (INFO, "  Stream #0", ":0", ": Video: h264, yuv420p, 64x64", "\n"), (INFO, *strange, "\n"))
    found.read(Line.of(INFO, "      ", "Display Matrix: ", "rotation of nan degrees", "\n"))
    assert found.faults
    assert found.duration_s in (None, 1.0)


def test_faults_are_bounded() -> None:
    assert len(read(INPUT, *[(INFO, "  Stream #0", "\n")] * 1000).faults) == 10


def test_an_exceeded_bound_is_noticed_behind_any_number_of_other_complaints() -> None:
    flood = [("[mov @ 0x5] ", "[warning] ", "nothing much\n")] * 1000
    complaint = ("[png @ 0x5] ", "[error] ", "Picture size 60000x60000 exceeds specified max pixel count 1\n")
    refusal = read(*flood, complaint).refusal
    assert refusal is not None
    assert refusal.code == "media_too_large"
