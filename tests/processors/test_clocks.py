"""Files that were appended to each other, and times that a container cannot hold: all pictures, and sound in step."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from tests.media.clips import Samples, beeps, decoded_times, flashes, run_ffmpeg
from tests.processors.comparison import unexplained
from tests.processors.test_cases import BOTH, clip
from tests.processors.test_export import export
from tests.processors.work import Work, facts_of, outputs, video_of
from vidqueue.errors import VidqueueError

JOINED = ["The clock of the file begins again or jumps; the parts were joined."]
PARTS = {
    "part.mkv": ("-c", "copy"),
    "part.webm": ("-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8", "-c:a", "libopus"),
    "part.mp4": ("-c:v", "libx264", "-g", "30", "-c:a", "aac", "-movflags", "frag_keyframe+empty_moov"),
}


def appended(folder: Path, name: str, whole: Path) -> Path:
    """A recording of two seconds, and another one written behind it."""
    run_ffmpeg("-i", whole, *PARTS[name], folder / name)
    path = folder / f"twice-{name}"
    path.write_bytes((folder / name).read_bytes() * 2)
    return path


@pytest.mark.parametrize("name", PARTS)
def test_files_that_were_appended_follow_each_other_in_step(name: str, samples: Samples, tmp_path: Path) -> None:
    """ffmpeg by itself shows all pictures of the second file at one moment."""
    path = appended(tmp_path, name, samples("plain.mkv"))
    # Of MP4 it leaves out what it takes for a repetition.
    frames = len(decoded_times(path, 0))
    assert frames == 120 if name != "part.mp4" else 90 <= frames <= 120
    for processor in BOTH:
        output = Work(processor, path, tmp_path / processor).run()
        facts = facts_of(output)
        assert (video_of(facts).frames, output.facts["warnings"]) == (frames, JOINED)
        assert video_of(facts).duration_s == pytest.approx(frames / 30, abs=0.05)
        seen = flashes(output.path, video_of(facts).index)
        heard = beeps(output.path)
        # The third second of MP4 begins with what ffmpeg leaves out.
        places = [0, 1, -1] if name == "part.mp4" else range(4)
        assert [heard[place] for place in places] == pytest.approx([seen[place] for place in places], abs=0.06)
        assert seen[-1] > 2.9


def test_the_sound_of_files_that_were_appended_is_extracted_whole(samples: Samples, tmp_path: Path) -> None:
    for name in ("part.mkv", "part.webm"):
        path = appended(tmp_path, name, samples("plain.mkv"))
        output = outputs("extract-audio", "media", path, tmp_path / f"{name}.out", format="wav")["audio"]
        assert beeps(output.path) == pytest.approx([0, 1, 2, 3], abs=0.06)


@pytest.mark.parametrize("words", [(), ("-bf", "0")], ids=["B pictures", "none"])
def test_matroska_with_times_below_zero_comes_out_as_it_decodes(words: tuple[str, ...], tmp_path: Path) -> None:
    path = clip(tmp_path / "below.mkv", *words, "-output_ts_offset", "-1", "-avoid_negative_ts", "disabled", seconds=2)
    for processor in BOTH:
        output = Work(processor, path, tmp_path / processor).run()
        assert video_of(facts_of(output)).frames == 50
        assert video_of(facts_of(output)).duration_s == pytest.approx(2, abs=0.05)
        assert unexplained(path, output.path, output.facts["warnings"]) == []
    sound = outputs("extract-audio", "media", path, tmp_path / "sound", format="wav")["audio"]
    assert facts_of(sound).duration_s == pytest.approx(2, abs=0.06)
    packaged = outputs("package", "video", path, tmp_path / "package")
    assert packaged["audio-1.mp4"].facts["duration_s"] == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize("below_s", [0.5, 1])
def test_pictures_of_matroska_without_sound_and_times_last_as_long_as_they_should(
    below_s: float, tmp_path: Path
) -> None:
    """ffmpeg by itself shows those with a time from zero on, too, over the ones without."""
    words = ("-an", "-output_ts_offset", f"-{below_s}", "-avoid_negative_ts", "disabled")
    path = clip(tmp_path / "below.mkv", *words, seconds=2)
    for processor in BOTH:
        output = Work(processor, path, tmp_path / processor).run()
        facts = facts_of(output)
        assert video_of(facts).frames == 50
        # Where the known times begin, some pictures come closer.
        assert video_of(facts).duration_s == pytest.approx(2, abs=0.15)
        times = decoded_times(output.path, 0)
        assert max(later - earlier for earlier, later in itertools.pairwise(times)) < 0.15


@pytest.mark.parametrize("name", ["late.ts", "late.mpg"])
@pytest.mark.parametrize("late", ["sound", "pictures"])
def test_what_begins_late_in_a_broadcast_is_in_step_where_only_one_of_both_is_read(
    late: str, name: str, samples: Samples, tmp_path: Path
) -> None:
    """ffmpeg counts times from the first stream that it reads."""
    cut = ("-af", "atrim=start=0.7") if late == "sound" else ("-vf", "trim=start=0.7", "-fps_mode", "passthrough")
    path = tmp_path / name
    run_ffmpeg("-i", samples("plain.mp4"), *cut, "-c:v", "mpeg2video", "-q:v", "3", "-c:a", "mp2", path)
    film = export(tmp_path / "film", [{"media": path}])
    seen = flashes(film.path, 0)
    assert seen[-2:] == pytest.approx([1, 2] if late == "sound" else [0.3, 1.3], abs=0.05)
    assert beeps(film.path)[-2:] == pytest.approx(seen[-2:], abs=0.03)
    sound = outputs("extract-audio", "media", path, tmp_path / "sound", format="wav")["audio"]
    assert beeps(sound.path)[-2:] == pytest.approx([1, 2], abs=0.06)


def test_a_clip_of_a_broadcast_begins_where_it_should_however_far_its_key_picture_is(
    samples: Samples, tmp_path: Path
) -> None:
    """ffmpeg seeks to any picture there, and shows the next key picture instead of what was wanted."""
    path = tmp_path / "long.ts"
    run_ffmpeg("-i", samples("plain.mp4"), "-c:v", "libx264", "-g", "250", "-bf", "0", "-c:a", "mp2", path)
    film = export(tmp_path / "film", [{"media": path, "start_s": 1.5}])
    assert flashes(film.path, 0) == pytest.approx([0.5], abs=0.05)
    assert beeps(film.path) == pytest.approx([0.5], abs=0.05)


def test_ogg_files_in_a_row_are_refused_because_ffmpeg_does_not_know_their_times(tmp_path: Path) -> None:
    clip(tmp_path / "one.ogv", "-c:v", "libtheora", "-q:v", "8", "-c:a", "libvorbis", seconds=2)
    path = tmp_path / "twice.ogv"
    path.write_bytes((tmp_path / "one.ogv").read_bytes() * 2)
    for processor in BOTH:
        with pytest.raises(VidqueueError) as caught:
            Work(processor, path, tmp_path / processor).run()
        assert (caught.value.code, "several Ogg files" in caught.value.message) == ("unsupported_format", True)
