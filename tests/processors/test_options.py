"""What people may wish of subtitles, sound, transparency and fields, and what the result then is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.media.clips import picture, run_ffmpeg
from tests.processors.test_cases import CASES, clip, ffmpeg
from tests.processors.work import Work, facts_of
from vidqueue.errors import VidqueueError
from vidqueue.job import OutputDraft
from vidqueue.media.facts import AudioFacts
from vidqueue.media.loudness import Loudness

SRT = "1\n00:00:00,200 --> 00:00:00,800\nGr\u00fc\u00df Gott\n"


def made(source: Path, folder: Path, processor: str = "transcode", **wishes: Any) -> OutputDraft:
    return Work(processor, source, folder / f"work{len(list(folder.iterdir()))}").run(**wishes)


def sounds(output: OutputDraft) -> list[AudioFacts]:
    return list(facts_of(output).audios)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sound tracks, German in 5.1 and English in stereo, and text of two kinds."""
    folder = tmp_path_factory.mktemp("film")
    text = folder / "text.srt"
    text.write_text(SRT)
    path = folder / "film.mkv"
    ffmpeg(
        "-f", "lavfi", "-i", "testsrc=size=160x90:rate=25:duration=1", "-f", "lavfi", "-i", "sine=duration=1",
        "-i", str(text), "-map", "0", "-map", "1", "-map", "1", "-map", "2", "-map", "2", "-c:v", "libx264",
        "-c:a:0", "ac3", "-filter:a:0", "pan=5.1|c0=c0|c1=c0", "-c:a:1", "libopus", "-ac:a:1", "2",
        "-metadata:s:a:0", "language=ger", "-metadata:s:a:1", "language=eng", "-disposition:a:1", "default+comment",
        "-c:s:0", "ass", "-c:s:1", "webvtt", "-metadata:s:s:0", "language=ger", str(path),
    )  # fmt: skip
    return path


def test_text_is_converted_to_what_each_container_takes(film: Path, tmp_path: Path) -> None:
    codecs = {}
    for container in ("mp4", "mov", "mkv", "webm"):
        output = made(film, tmp_path, container=container)
        codecs[container] = [one.codec for one in facts_of(output).subtitle_tracks]
        # The mark of a commentary is one that MP4 and MKV know.
        told = [] if container in ("mp4", "mkv") else ["Sound track 2 is not marked any more (comment)"]
        assert [said.split(":")[0] for said in output.facts["warnings"]] == told
        assert facts_of(output).subtitle_tracks[0].language == "ger"
        text = run_ffmpeg("-i", output.path, "-map", "0:s:1", "-f", "srt", "-").stdout.decode()
        assert ("Gr\u00fc\u00df Gott" in text, "00:00:00,200" in text) == (True, True), container
    assert codecs == {
        "mp4": ["mov_text"] * 2, "mov": ["mov_text"] * 2, "mkv": ["ass", "webvtt"], "webm": ["webvtt"] * 2
    }  # fmt: skip
    assert facts_of(made(film, tmp_path, subtitles="drop")).subtitles == 0
    assert facts_of(made(film, tmp_path, "enhance", subtitles="drop")).subtitles == 0


def test_text_follows_a_trim(film: Path, tmp_path: Path) -> None:
    output = made(film, tmp_path, container="mkv", start_s=0.12, audio="drop")
    text = run_ffmpeg("-i", output.path, "-map", "0:s:1", "-f", "srt", "-").stdout.decode()
    assert "00:00:00,080 --> 00:00:00,680" in text


def test_sound_tracks_are_chosen_by_language(film: Path, tmp_path: Path) -> None:
    for wish, languages in {"all": ["ger", "eng"], "first": ["eng"], "ger": ["ger"], "eng,ger": ["ger", "eng"]}.items():
        for processor in ("transcode", "enhance"):
            output = made(film, tmp_path, processor, audio_tracks=wish)
            assert [one.language for one in sounds(output)] == languages
    with pytest.raises(VidqueueError) as caught:
        made(film, tmp_path, audio_tracks="fre")
    assert (caught.value.code, "ger, eng" in caught.value.message) == ("no_audio_stream", True)


def test_a_commentary_stays_marked_as_one(film: Path, tmp_path: Path) -> None:
    output = made(film, tmp_path, container="mkv")
    banner = run_ffmpeg("-i", output.path, "-map", "0:a", "-f", "null", "-").stderr.decode()
    assert "(default) (comment)" in banner


def test_sound_for_browsers_with_fewer_channels_and_as_loud_as_asked(film: Path, tmp_path: Path) -> None:
    web = made(film, tmp_path, audio="web")
    assert [(one.codec, one.channel_layout) for one in sounds(web)] == [("aac", "5.1"), ("aac", "stereo")]
    mono = made(film, tmp_path, container="webm", channels="mono")
    assert [(one.codec, one.channel_layout) for one in sounds(mono)] == [("opus", "mono")] * 2
    loud = made(film, tmp_path, audio_tracks="eng", loudness=-30)
    measured = Loudness(-30)
    told = run_ffmpeg("-i", loud.path, "-af", measured.measuring, "-f", "null", "-").stderr.decode()
    measured.text = told[told.index("{") : told.rindex("}") + 1]
    assert measured.integrated == pytest.approx(-30, abs=1)


def test_transparency_is_kept_in_vp9_and_else_blended_on_a_colour(tmp_path: Path) -> None:
    source = CASES / "prores4444.mov"
    kept = made(source, tmp_path, container="webm", quality="high")
    assert kept.facts["warnings"] == []
    alpha = run_ffmpeg(
        "-c:v", "libvpx-vp9", "-i", kept.path, "-vf", "alphaextract,format=gray", "-frames:v", "1",
        "-f", "rawvideo", "-",
    ).stdout  # fmt: skip
    plane = np.frombuffer(alpha, np.uint8).reshape(90, 160)
    assert (plane[:, :70].max() < 5, plane[:, 90:].min() > 250) == (True, True)
    for processor in ("transcode", "enhance"):
        blended = made(source, tmp_path, processor, background="#00ff00", quality="high")
        assert blended.facts["warnings"] == ["Transparent parts were blended with #00ff00."]
        shown = picture(blended.path)
        left, right = (part.mean(axis=(0, 1)) for part in (shown[:, :70], shown[:, 90:]))
        assert (left[1] > 240, left[0] < 15, left[2] < 15, right[0] > 200, right[1] < 60) == (True,) * 5


def test_fields_are_joined_by_wish(tmp_path: Path) -> None:
    """Lines that alternate between black and white are combs to a deinterlacer."""
    combed = clip(tmp_path / "combed.mkv", "-vf", "geq=lum='255*mod(Y,2)':cb=128:cr=128", "-qp", "0")
    for processor in ("transcode", "enhance"):
        as_it_is = made(combed, tmp_path, processor)
        joined = made(combed, tmp_path, processor, deinterlace="on")
        assert (as_it_is.facts["warnings"], joined.facts["warnings"]) == ([], [])
        contrast = [
            np.abs(np.diff(picture(one.path)[20:70, :, 0].astype(int), axis=0)).mean() for one in (as_it_is, joined)
        ]
        assert contrast[0] > 200, contrast
        assert contrast[1] < 100, contrast


def test_tone_mapping_can_be_left_out(tmp_path: Path) -> None:
    output = made(CASES / "hdr10.mp4", tmp_path, tone_map="off")
    video = facts_of(output).video
    assert video is not None
    assert (video.colour.transfer, output.facts["warnings"]) == ("smpte2084", [])


def test_text_at_the_edges_of_a_part_is_cut_there(tmp_path: Path) -> None:
    """A text that begins before the part, one that goes on after it, and one that is not in it."""
    text = tmp_path / "text.srt"
    text.write_text(
        "1\n00:00:00,200 --> 00:00:01,800\n<i>One</i>\n\n2\n00:00:01,900 --> 00:00:02,900\nTwo\n\n"
        "3\n00:00:02,700 --> 00:00:02,800\nThree\n"
    )
    source = tmp_path / "film.mkv"
    ffmpeg(
        "-f", "lavfi", "-i", "testsrc=size=160x90:rate=25:duration=3", "-i", str(text), "-map", "0", "-map", "1",
        "-c:v", "libx264", "-g", "25", "-c:s", "subrip", "-metadata:s:s:0", "language=ger",
        "-metadata:s:s:0", "title=Words", "-disposition:s:0", "default+forced", str(source),
    )  # fmt: skip
    for container in ("mkv", "mp4", "webm"):
        output = made(source, tmp_path, start_s=1, end_s=2.5, container=container)
        assert output.facts["warnings"] == []
        said = run_ffmpeg("-i", output.path, "-map", "0:s:0", "-f", "srt", "-").stdout.decode()
        assert re.findall(r"(\S+) --> (\S+)\n(.*)", said) == [
            ("00:00:00,000", "00:00:00,800", "<i>One</i>"), ("00:00:00,900", "00:00:01,500", "Two")
        ], container  # fmt: skip
        (track,) = facts_of(output).subtitle_tracks
        assert (track.language, track.default) == ("ger", True)


@pytest.mark.parametrize("processor", ["transcode", "enhance"])
def test_subtitles_are_drawn_at_their_times_and_the_others_are_kept(film: Path, processor: str, tmp_path: Path) -> None:
    """The first of two tracks, which is the default one, from 0.2 to 0.8 s, with an outline in the lower part."""
    plain = made(film, tmp_path, processor, subtitles="drop", quality="high")
    output = made(film, tmp_path, processor, subtitles="burn", quality="high")
    assert output.facts["warnings"] == []
    assert len(facts_of(output).subtitle_tracks) == 1
    changed = []
    for number in (2, 6, 18, 22):
        one, other = (picture(path, at_frame=number).astype(int) for path in (plain.path, output.path))
        different = np.abs(one - other).max(axis=2) > 60
        assert not different[:45].any()
        changed.append(int(different[45:].sum()))
    assert (changed[0], changed[3]) == (0, 0)
    assert min(changed[1:3]) > 50, changed


def test_subtitles_are_drawn_into_a_part_and_into_a_gif(film: Path, tmp_path: Path) -> None:
    for container in ("gif", "mp4"):
        pair = [
            made(film, tmp_path, subtitles=wish, start_s=0.4, quality="high", container=container).path
            for wish in ("drop", "burn")
        ]
        shown = [[picture(path, at_frame=number)[45:].astype(int) for path in pair] for number in (2, 13)]
        assert [int((np.abs(a - b).max(axis=2) > 100).sum()) > 20 for a, b in shown] == [True, False]


@pytest.mark.parametrize("processor", ["transcode", "enhance"])
def test_characters_that_the_font_lacks_are_told(tmp_path: Path, processor: str) -> None:
    (tmp_path / "said.srt").write_text("1\n00:00:00,000 --> 00:00:00,400\nHi 海\n", encoding="utf-8")
    spoken = tmp_path / "spoken.mkv"
    run_ffmpeg("-i", clip(tmp_path / "plain.mp4"), "-i", tmp_path / "said.srt", "-c:v", "copy", "-c:s", "srt", spoken)
    for wish, told in (("burn", ["The font lacks characters, which are drawn as boxes: 海."]), ("keep", [])):
        assert made(spoken, tmp_path, processor, subtitles=wish).facts["warnings"] == told


def test_what_cannot_be_drawn_is_said(film: Path, tmp_path: Path) -> None:
    bare = clip(tmp_path / "bare.mp4")
    output = made(bare, tmp_path, subtitles="burn")
    assert output.facts["warnings"] == ["No subtitles were drawn: the file has none."]
    with pytest.raises(VidqueueError) as caught:
        made(film, tmp_path, subtitles="burn", codec="copy")
    assert caught.value.code == "invalid_params"


PLACED = ("3.1", "quad", "7.1.4")


@pytest.fixture(scope="module")
def placed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Uncompressed sound in layouts that few formats know, a second video track, and a timecode."""
    path = tmp_path_factory.mktemp("placed") / "placed.mov"
    words = ["-f", "lavfi", "-i", "testsrc=size=160x90:rate=25:duration=0.4"]
    words += ["-f", "lavfi", "-i", "testsrc2=size=80x60:rate=25:duration=0.4"]
    for layout in PLACED:
        words += ["-f", "lavfi", "-i", f"anoisesrc=d=0.4:a=0.3:r=48000,aformat=channel_layouts={layout}"]
    maps = [word for number in range(len(PLACED) + 2) for word in ("-map", str(number))]
    coded = ("-c:v", "libx264", "-pix_fmt", "yuv420p", "-c:a", "pcm_s16le")
    run_ffmpeg(*words, *maps, *coded, "-timecode", "10:00:00:00", path)
    return path


@pytest.mark.parametrize(
    ("container", "layouts"),
    [("mov", PLACED), ("mkv", PLACED), ("mp4", ("3.1", "quad", "7.1")), ("webm", ("5.1", "quad", "7.1"))],
)
def test_channels_keep_their_places_or_it_is_told(
    container: str, layouts: tuple[str, ...], placed: Path, tmp_path: Path
) -> None:
    output = Work("transcode", placed, tmp_path / "work").run(container=container)
    assert tuple(one.channel_layout for one in facts_of(output).audios) == layouts
    warnings = output.facts["warnings"]
    changed = [f"Sound track {n} " for n, pair in enumerate(zip(PLACED, layouts, strict=True), 1) if len(set(pair)) > 1]
    assert [said[:14] for said in warnings] == [*changed, "1 other video "]


def test_a_timecode_of_the_file_is_kept_and_is_missed_in_a_part(placed: Path, tmp_path: Path) -> None:
    file = tmp_path / "file.mkv"
    run_ffmpeg("-i", placed, "-map", "0:v:0", "-c", "copy", "-metadata", "timecode=10:00:00:00", file)
    whole = Work("transcode", file, tmp_path / "whole").run(container="mov")
    assert b"tmcd" in whole.path.read_bytes()
    part = Work("transcode", file, tmp_path / "part").run(container="mov", start_s=0.2)
    assert part.facts["warnings"] == ["The timecode is left out, because the result begins elsewhere."]


def test_sound_at_a_rate_that_a_container_refuses_is_encoded_anew(tmp_path: Path) -> None:
    """MP3 at 11,025 Hz is in no standard of MP4."""
    source = clip(tmp_path / "slow.mkv", "-c:a", "libmp3lame", "-ar", "11025")
    for processor in ("transcode", "enhance"):
        output = made(source, tmp_path, processor, container="mp4")
        assert ([one.codec for one in sounds(output)], output.facts["warnings"]) == (["aac"], [])
