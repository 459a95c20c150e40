"""Package: every rendition has the pictures, times and sound of the source, and a player finds its way through them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.media.clips import Samples, beeps, decoded_times, flashes, picture, run_ffmpeg
from tests.processors.test_cases import CASES, clip, turned, two_sizes
from tests.processors.work import facts_of, outputs, video_of
from vidqueue.errors import VidqueueError
from vidqueue.job import OutputDraft


def packaged(path: Path, workspace: Path, **wishes: Any) -> dict[str, OutputDraft]:
    return outputs("package", "video", path, workspace, effort="fast", **wishes)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, OutputDraft]]:
    folder = tmp_path_factory.mktemp("film")
    path = clip(folder / "film.mkv", "-s", "640x360", "-bf", "2", seconds=3)
    return path, packaged(path, folder / "work", segment_s=1.2, rungs=["1080p", "360p", "240p"])


def test_segments_are_ranges_that_begin_at_the_same_times_in_all_renditions(
    film: tuple[Path, dict[str, OutputDraft]],
) -> None:
    _, made = film
    master = made["master.m3u8"]
    assert master.media_type == "application/vnd.apple.mpegurl"
    assert (master.facts["rungs"], master.facts["warnings"]) == (["360p", "240p"], [])
    text = master.path.read_text()
    assert re.findall(r"RESOLUTION=(\S+?),.*\n(\S+)", text) == [
        ("640x360", "video-360p.m3u8"), ("426x240", "video-240p.m3u8")
    ]  # fmt: skip
    assert ('CODECS="avc1.64' in text, ',mp4a.40.2",AUDIO="sound"' in text) == (True, True)
    lengths = []
    for name in ("video-360p", "video-240p", "audio-1"):
        playlist = made[f"{name}.m3u8"].path.read_text()
        head = int(re.search(r'BYTERANGE="(\d+)@0"', playlist)[1])  # type: ignore[index]
        ranges = [(int(size), int(start)) for size, start in re.findall(r"BYTERANGE:(\d+)@(\d+)", playlist)]
        # The ranges are the whole file, one behind the other.
        ends = [start + size for size, start in ranges]
        assert [start for _, start in ranges] == [head, *ends[:-1]]
        assert ends[-1] == made[f"{name}.mp4"].path.stat().st_size
        lengths.append([float(one) for one in re.findall(r"EXTINF:([\d.]+)", playlist)])
        assert "#EXT-X-TARGETDURATION:1\n" in playlist
    assert lengths[0] == lengths[1] == [1.2, 1.2, 0.6]
    assert sum(lengths[2]) == pytest.approx(3, abs=0.1)


def test_every_rendition_shows_the_pictures_of_the_source(film: tuple[Path, dict[str, OutputDraft]]) -> None:
    source, made = film
    for name, size in {"video-360p.mp4": (640, 360), "video-240p.mp4": (426, 240)}.items():
        video = video_of(facts_of(made[name]))
        assert (video.upright, video.frames, video.duration_s) == (size, 75, 3.0)
        for number in (0, 40, 74):
            one, other = (picture(path, at_frame=number, size=(64, 36)) for path in (source, made[name].path))
            assert np.abs(one.astype(int) - other).mean() < 4


def test_a_player_plays_the_master_in_step(samples: Samples, tmp_path: Path) -> None:
    made = packaged(samples("plain.mp4"), tmp_path / "work", segment_s=1, rungs=["240p"])
    master = made["master.m3u8"].path
    whole = tmp_path / "played.mkv"
    run_ffmpeg("-i", master, "-map", "0:v", "-map", "0:a", "-c", "copy", whole)
    assert len(decoded_times(whole, 0)) == 90
    for seen, heard in zip(flashes(whole, 0), beeps(whole), strict=True):
        assert heard == pytest.approx(seen, abs=0.04)


def test_tracks_and_text_have_their_languages_and_names(tmp_path: Path) -> None:
    made = packaged(CASES / "langs.mkv", tmp_path / "work")
    assert made["master.m3u8"].facts["warnings"] == ["2 chapters are left out."]
    tracks = re.findall(
        r'TYPE=(\w+),.*NAME="(.+?)",LANGUAGE="(\w+)",DEFAULT=(\w+)', made["master.m3u8"].path.read_text()
    )
    assert tracks == [
        ("AUDIO", "1 Deutsch", "ger", "NO"), ("AUDIO", "2 Commentary", "eng", "YES"),
        ("SUBTITLES", "1 eng", "eng", "NO"),
    ]  # fmt: skip
    assert "Hello" in made["subtitles-1.vtt"].path.read_text()
    assert "subtitles-1.vtt" in made["subtitles-1.m3u8"].path.read_text()
    without = packaged(CASES / "langs.mkv", tmp_path / "bare", audio="drop", subtitles="drop")
    assert sorted(without) == ["master.m3u8", "video-90p.m3u8", "video-90p.mp4"]


def test_turned_uneven_and_late_pictures_come_out_upright_and_in_time(tmp_path: Path) -> None:
    source = turned(tmp_path)
    made = packaged(source, tmp_path / "work")["video-90p.mp4"]
    before, after = decoded_times(source, 0), decoded_times(made.path, 0)
    # The first picture is shown from the beginning on, where the sound is; all others stay at their times.
    assert (after[0], len(after)) == (0, len(before))
    assert after[1:] == pytest.approx(before[1:], abs=0.001)
    # Pixels of 4:3 lie down in the upright picture; the result has square ones.
    assert video_of(facts_of(made)).upright == (90, 212)


def test_transparent_parts_are_black_and_hdr_is_converted(tmp_path: Path) -> None:
    made = packaged(CASES / "prores4444.mov", tmp_path / "alpha")
    assert made["master.m3u8"].facts["warnings"] == ["Transparent parts were blended with black."]
    shown = picture(made["video-90p.mp4"].path)
    assert (shown[:, :70].max() < 25, shown[:, 90:, 0].mean() > 200) == (True, True)
    made = packaged(CASES / "hdr10.mp4", tmp_path / "hdr")
    assert ["HDR was converted" in said for said in made["master.m3u8"].facts["warnings"]] == [True]
    (video,) = [facts_of(one) for name, one in made.items() if name.startswith("video") and name.endswith("mp4")]
    assert video_of(video).colour.transfer == "bt709"


def test_sound_that_nobody_can_decode_is_refused(tmp_path: Path) -> None:
    only = tmp_path / "only.mov"
    run_ffmpeg("-i", CASES / "apac.mov", "-map", "0:0", "-map", "0:2", "-c", "copy", only)
    with pytest.raises(VidqueueError) as caught:
        packaged(only, tmp_path / "work")
    assert caught.value.code == "unsupported_codec"


def test_pictures_that_change_their_size_midway_keep_their_times(tmp_path: Path) -> None:
    path = two_sizes(tmp_path)
    made = packaged(path, tmp_path / "work")
    before, after = decoded_times(path, 0), decoded_times(made["video-90p.mp4"].path, 0)
    assert [time - after[0] for time in after] == pytest.approx([time - before[0] for time in before], abs=0.001)
    assert any("changes midway to 320x180" in said for said in made["master.m3u8"].facts["warnings"])
