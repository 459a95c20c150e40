"""Subtitles: what is read of SRT and WebVTT, whatever else stands there, and what the drawing filter is given."""

from __future__ import annotations

import pytest

from vidqueue.errors import VidqueueError
from vidqueue.media.film.subtitles import Cue, TextStyle, as_ass, as_srt, read_subtitles, within

SRT = """1
00:00:01,500 --> 00:00:02,000
Grüße <i>und</i> {\\an8}mehr

2
00:01:00,000 --> 00:01:01,250
Zwei
Zeilen
""".replace("\n", "\r\n")
VTT = """WEBVTT

NOTE no cue

a name
00:01.500 --> 00:02.000 line:0
Grüße und mehr

01:00.000 --> 01:01.25
<v Ann>Zwei
Zeilen"""
CUES = [Cue(1.5, 2.0, "Grüße und mehr"), Cue(60.0, 61.25, "Zwei\nZeilen")]


@pytest.mark.parametrize(
    "data",
    [SRT.encode(), VTT.encode(), SRT.encode("utf-8-sig"), SRT.encode("utf-16"), SRT.encode("cp1252")],
    ids=["srt", "vtt", "bom", "utf-16", "cp1252"],
)
def test_cues_are_read_in_any_usual_form(data: bytes) -> None:
    assert read_subtitles(data) == CUES


def test_what_is_written_is_read_back() -> None:
    assert read_subtitles(as_srt(CUES).encode()) == CUES


@pytest.mark.parametrize("data", [b"", b"\x00" * 1000, b"some text", b"00:00:02,000 --> 00:00:01,000\nbackwards\n"])
def test_a_file_without_a_cue_is_refused(data: bytes) -> None:
    with pytest.raises(VidqueueError) as caught:
        read_subtitles(data)
    assert caught.value.code == "unsupported_format"


def test_a_part_of_the_film_has_its_cues_with_times_of_its_own() -> None:
    cues = [Cue(0, 1, "a"), Cue(1, 3, "b"), Cue(2.5, 4, "c"), Cue(4, 5, "d")]
    assert within(cues, 2, 4) == [Cue(0, 1, "b"), Cue(0.5, 2, "c")]


def test_text_is_never_a_command() -> None:
    script = as_ass([Cue(0.666666, 1, "{\\p1}m 0 0\\N\nnext\x00")], (640, 360), TextStyle(20), b"font!!!")
    (event,) = [line for line in script.splitlines() if line.startswith("Dialogue")]
    assert event == "Dialogue: 0,0:00:00.66,0:00:01.00,Default,,0,0,0,,\\{\\\u200bp1\\}m 0 0\\\u200bN\\Nnext"
    fonts = script[script.index("fontname:") :].splitlines()[1]
    values = [ord(character) - 33 for character in fonts]
    bits = "".join(f"{value:06b}" for value in values)
    assert int(bits[:56], 2).to_bytes(7, "big") == b"font!!!"
