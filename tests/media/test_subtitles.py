"""Subtitles: what is read of SRT and WebVTT, whatever else stands there, and what the drawing filter is given."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.media.made_font import write_font
from vidqueue.errors import VidqueueError
from vidqueue.media.film.fonts import read_font
from vidqueue.media.film.subtitles import Cue, TextStyle, as_ass, as_srt, one_at_a_time, read_subtitles, within

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
    [SRT.encode(), VTT.encode(), SRT.encode("utf-8-sig"), SRT.encode("utf-16"), SRT.encode("cp1252"),
     SRT.encode("utf-16-le"), SRT.encode("utf-16-be"), SRT.replace(":01,500", ":01.5").encode()],
    ids=["srt", "vtt", "bom", "utf-16", "cp1252", "utf-16-le", "utf-16-be", "point"],
)  # fmt: skip
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


def test_text_is_never_a_command(tmp_path: Path) -> None:
    font = read_font(write_font(tmp_path / "font.ttf", "Some Font", {"A": "A"}))
    script = as_ass([Cue(0.666666, 1, "{\\p1}m 0 0\\N\nnext\x00")], (640, 360), TextStyle(20), [font])
    (event,) = [line for line in script.splitlines() if line.startswith("Dialogue")]
    assert event == "Dialogue: 0,0:00:00.66,0:00:01.00,Default,,0,0,0,,\\{\\\u200bp1\\}m 0 0\\\u200bN\\Nnext"
    written = script[script.index("fontname:") :].partition("\n\n")[0].splitlines()[1:]
    assert max(map(len, written)) == 80
    bits = "".join(f"{ord(character) - 33:06b}" for character in "".join(written))
    data = (tmp_path / "font.ttf").read_bytes()
    assert int(bits[: 8 * len(data)], 2).to_bytes(len(data), "big") == data


def test_texts_that_overlap_become_texts_one_after_the_other_and_many_cost_little() -> None:
    cues = [Cue(0, 3, "a"), Cue(1, 2, "b"), Cue(4, 5, "c")]
    assert one_at_a_time(cues) == [Cue(0, 1, "a"), Cue(1, 2, "a\nb"), Cue(2, 3, "a"), Cue(4, 5, "c")]
    assert max(len(cue.text) for cue in one_at_a_time([Cue(at, 1e6, "x") for at in range(20_000)])) < 100
