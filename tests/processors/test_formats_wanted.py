"""Formats that people need back: animated pictures, copies without encoding, a size in MB, and HandBrake's presets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.media.clips import Samples, decoded_times, picture, run_ffmpeg
from tests.processors.comparison import unexplained
from tests.processors.test_cases import CASES, CLIP, CODED, TONE, clip, edited, ffmpeg, open_gop
from tests.processors.work import Work, facts_of, video_of
from vidqueue.errors import VidqueueError
from vidqueue.job import OutputDraft
from vidqueue.media.containers import CONTAINERS, ContainerName
from vidqueue.processors.parts import handbrake
from vidqueue.processors.parts.transcode_params import TranscodeParams


def made(source: Path, folder: Path, **wishes: Any) -> OutputDraft:
    return Work("transcode", source, folder / f"work{len(list(folder.iterdir()))}").run(**wishes)


@pytest.mark.parametrize("wishes", [{"container": "webp"}, {"container": "gif"}, {"fps": 0.4}], ids=str)
def test_what_is_shorter_than_a_picture_of_the_result_gives_one(wishes: dict[str, Any], tmp_path: Path) -> None:
    path = clip(tmp_path / "short.mp4", "-an", "-frames:v", "1")
    assert video_of(facts_of(made(path, tmp_path, **wishes))).frames == 1


@pytest.fixture(scope="module")
def late(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second of pictures that begins 0.6 s behind the sound."""
    path = tmp_path_factory.mktemp("late") / "late.mkv"
    pictures = ("-itsoffset", "0.6", "-f", "lavfi", "-i", "testsrc=size=160x90:rate=25:duration=1")
    ffmpeg(*pictures, "-f", "lavfi", "-i", "sine=duration=2", "-c:v", "libx264", "-pix_fmt", "yuv420p", str(path))
    return path


@pytest.mark.parametrize(
    ("wishes", "frames"),
    [({"start_s": 0.2}, 25), ({"start_s": 0.2, "end_s": 1.1}, 13), ({"start_s": 1.0}, 15), ({"container": "gif"}, 25),
     ({"start_s": 1.0, "end_s": 1.4, "container": "gif"}, 10)],
    ids=str,
)  # fmt: skip
def test_a_part_is_counted_from_the_beginning_of_the_file(
    wishes: dict[str, Any], frames: int, late: Path, tmp_path: Path
) -> None:
    assert video_of(facts_of(made(late, tmp_path, **wishes))).frames == frames


def test_a_part_before_the_first_picture_is_refused(late: Path, tmp_path: Path) -> None:
    with pytest.raises(VidqueueError) as caught:
        made(late, tmp_path, end_s=0.5)
    assert (caught.value.code, "from 0.600 to 1.600 s" in caught.value.message) == ("trim_out_of_range", True)


def test_an_animated_picture_begins_with_the_first_picture_that_can_be_decoded(tmp_path: Path) -> None:
    output = made(open_gop("cut.ts")(tmp_path), tmp_path, container="gif")
    assert (video_of(facts_of(output)).frames, len(output.facts["warnings"])) == (25, 1)


@pytest.mark.parametrize("kind", ["gif", "webp"])
def test_animated_pictures_have_the_times_and_looks_of_the_video(samples: Samples, kind: str, tmp_path: Path) -> None:
    source = samples("plain.mkv")
    output = made(source, tmp_path, container=kind, fps=10, max_width=160, start_s=0.5)
    video = video_of(facts_of(output))
    assert (output.media_type, output.path.name) == (f"image/{kind}", f"output.{kind}")
    assert (video.frames, video.width) == (15, 160)
    assert video.duration_s == pytest.approx(1.5, abs=0.02)
    assert output.facts["warnings"] == [f"1 sound track is left out: {kind} cannot hold it."]
    for number in (0, 10):
        before = picture(source, at_frame=15 + 3 * number, size=(32, 18)).astype(int)
        assert np.abs(before - picture(output.path, at_frame=number, size=(32, 18))).mean() < 16


def test_animated_pictures_are_upright_square_and_fit(tmp_path: Path) -> None:
    source = clip(tmp_path / "wide.mkv", "-vf", "setsar=2,noise=alls=30")
    output = made(source, tmp_path, container="gif", audio="drop")
    assert (video_of(facts_of(output)).upright, output.facts["warnings"]) == ((320, 90), [])
    small = made(source, tmp_path, container="gif", audio="drop", max_size_mb=0.06)
    assert output.path.stat().st_size > 60_000 >= small.path.stat().st_size
    assert ["to fit into 0.06 MB" in said for said in small.facts["warnings"]] == [True]


def test_transparency_is_kept_in_webp_and_blended_in_gif(tmp_path: Path) -> None:
    source = CASES / "prores4444.mov"
    kept = made(source, tmp_path, container="webp", quality="high")
    assert kept.facts["warnings"] == []
    alpha = run_ffmpeg("-i", kept.path, "-vf", "alphaextract,format=gray", "-frames:v", "1", "-f", "rawvideo", "-")
    plane = np.frombuffer(alpha.stdout, np.uint8).reshape(90, 160)
    assert (plane[:, :70].max() < 5, plane[:, 90:].min() > 250) == (True, True)
    blended = made(source, tmp_path, container="gif", background="#00ff00")
    assert blended.facts["warnings"] == ["Transparent parts were blended with #00ff00."]
    left = picture(blended.path)[:, :70].mean(axis=(0, 1))
    assert (left[1] > 240, left[0] < 15) == (True, True)


@pytest.mark.parametrize("container", ["mp4", "mov", "mkv"])
def test_a_copy_has_the_very_packets_of_its_source(container: str, tmp_path: Path) -> None:
    source = CASES / "langs.mkv"
    output = made(source, tmp_path, container=container, codec="copy")
    assert (output.facts["warnings"], unexplained(source, output.path, [])) == ([], [])
    sums = [
        run_ffmpeg("-i", path, "-map", "0:v", "-f", "md5", "-").stdout for path in (source, output.path)
    ]  # fmt: skip
    assert sums[0] == sums[1]
    assert facts_of(output).chapters == 2


def test_what_cannot_be_copied_is_encoded_and_said(samples: Samples, tmp_path: Path) -> None:
    output = made(samples("plain.mp4"), tmp_path, container="webm", codec="copy")
    assert video_of(facts_of(output)).codec == "vp9"
    assert output.facts["warnings"] == [
        "The pictures could not be copied and were re-encoded: webm does not hold h264."
    ]
    hidden = edited(tmp_path)
    for container, copied in {"mp4": True, "mkv": False}.items():
        output = made(hidden, tmp_path, container=container, codec="copy")
        assert ["an edit list hides" in said for said in output.facts["warnings"]] == [True] * (not copied)
        assert len(decoded_times(output.path, 0)) == 37


def test_a_part_is_copied_from_the_key_picture_before(samples: Samples, tmp_path: Path) -> None:
    source = clip(tmp_path / "keys.mp4", "-g", "25", seconds=3)
    exact = made(source, tmp_path, container="mkv", codec="copy", start_s=1, end_s=2)
    assert exact.facts["warnings"] == []
    assert video_of(facts_of(exact)).frames == pytest.approx(25, abs=3)
    early = made(source, tmp_path, container="mkv", codec="copy", start_s=1.6)
    assert ["begins with the key picture before" in said for said in early.facts["warnings"]] == [True]


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds that are hard to make small, with two sound tracks, one of which has no place in MP4."""
    path = tmp_path_factory.mktemp("noisy") / "noisy.mkv"
    sources = [word.format(seconds=2) for word in (*CLIP, *TONE, *TONE)]
    maps = ("-map", "0", "-map", "1", "-map", "2", "-c:a:1", "pcm_u8")
    ffmpeg(*sources, "-vf", "noise=alls=40:allf=t", *CODED, *maps, "-qp", "10", str(path))
    return path


@pytest.mark.parametrize(
    "wishes",
    [
        {},
        *(
            pytest.param(wishes, marks=pytest.mark.long)
            for wishes in (
                {"codec": "h265"}, {"container": "webm"}, {"codec": "av1"}, {"bitrate_kbit": 2000},
                {"audio_tracks": "first"},
            )
        ),
    ],
    ids=str,
)  # fmt: skip
def test_a_result_fits_into_a_size_and_uses_it(wishes: dict[str, Any], noisy: Path, tmp_path: Path) -> None:
    work = Work("transcode", noisy, tmp_path / "work")
    output = work.run(max_size_mb=0.15, **wishes)
    assert 0.85 * 150_000 < output.path.stat().st_size <= 150_000
    assert (video_of(facts_of(output)).frames, output.facts["warnings"]) == (50, [])
    assert [path.name for path in work.workspace.iterdir()] == [output.path.name]
    done = [progress.fraction for progress in work.progress]
    assert done == sorted(done)


def test_a_size_that_is_kept_already_costs_one_pass_and_one_that_cannot_be_kept_is_refused(tmp_path: Path) -> None:
    source = clip(tmp_path / "small.mkv")
    work = Work("transcode", source, tmp_path / "large")
    work.run(max_size_mb=10)
    assert not any("encoded again" in line.text for line in work.log)
    with pytest.raises(VidqueueError) as caught:
        made(source, tmp_path, max_size_mb=0.01)
    assert caught.value.code == "output_too_large"


FAST_1080P30 = {
    "PresetList": [{
        "AudioList": [{"AudioBitrate": 160, "AudioEncoder": "av_aac", "AudioMixdown": "stereo"}],
        "AudioTrackSelectionBehavior": "first", "ChapterMarkers": True, "FileFormat": "av_mp4", "Optimize": False,
        "PictureCropMode": 0, "PictureDeinterlaceFilter": "decomb", "PictureHeight": 1080, "PictureWidth": 1920,
        "PictureDenoiseFilter": "off", "PresetName": "Fast 1080p30", "SubtitleTrackSelectionBehavior": "none",
        "VideoEncoder": "x264", "VideoFramerate": "30", "VideoFramerateMode": "pfr", "VideoPreset": "fast",
        "VideoProfile": "main", "VideoQualitySlider": 22.0, "VideoQualityType": 2, "VideoTune": "",
    }],
    "VersionMajor": 47,
}  # fmt: skip


def test_a_preset_of_handbrake_becomes_parameters(tmp_path: Path) -> None:
    params = TranscodeParams.model_validate({"video": "/a", "handbrake": FAST_1080P30, "container": "mkv"})
    told = params.model_dump(exclude_defaults=True, exclude={"video", "handbrake"})
    assert told == {
        "container": "mkv", "codec": "h264", "crf": 22, "max_width": 1920, "max_height": 1080, "max_fps": 30.0,
        "faststart": False, "audio": "web", "audio_tracks": "first", "channels": "stereo", "subtitles": "drop",
    }  # fmt: skip
    output = made(CASES / "langs.mkv", tmp_path, handbrake=FAST_1080P30)
    facts = facts_of(output)
    assert (facts.container, facts.subtitles, len(facts.audios)) == ("mov", 0, 1)
    assert output.facts["warnings"] == [
        "Settings of the HandBrake preset that are not applied: VideoProfile, PictureCropMode."
    ]


@pytest.mark.parametrize(
    ("changes", "becomes"),
    [
        ({"VideoQualityType": 1, "VideoAvgBitrate": 800}, {"bitrate_kbit": 800}),
        ({"VideoEncoder": "nvenc_h265", "VideoPreset": "slow"}, {"codec": "h265", "encoder": "nvenc"}),
        ({"VideoFramerate": "25", "VideoFramerateMode": "cfr"}, {"fps": 25.0}),
        ({"PictureWidth": 0, "PictureHeight": 0, "PictureDeinterlaceFilter": "off"}, {"deinterlace": "off"}),
        ({"AudioList": []}, {"audio": "drop"}),
        ({"AudioList": [{"AudioEncoder": "copy:ac3"}], "AudioTrackSelectionBehavior": "all"}, {"audio": "keep"}),
        ({"MetadataPassthrough": False, "SubtitleTrackSelectionBehavior": "all"}, {"metadata": "none"}),
    ],
    ids=str,
)  # fmt: skip
def test_each_kind_of_setting_is_translated(changes: dict[str, Any], becomes: dict[str, Any]) -> None:
    preset = {**FAST_1080P30["PresetList"][0], **changes}  # type: ignore[index]
    # Presets stand in folders too, and files may have several; the default one is meant.
    folders = {"PresetList": [{"Folder": True, "ChildrenArray": [FAST_1080P30["PresetList"][0],  # type: ignore[index]
                                                                 {**preset, "Default": True}]}]}  # fmt: skip
    given = handbrake.parameters(folders)
    assert {name: given.get(name) for name in becomes} == becomes
    TranscodeParams.model_validate({"video": "/a", "handbrake": preset})


@pytest.mark.parametrize(
    "wishes",
    [
        {"handbrake": {"PresetList": []}}, {"handbrake": {"VideoEncoder": "mpeg2"}}, {"codec": "copy", "fps": 25},
        {"codec": "copy", "resolution": "720p"}, {"container": "gif", "codec": "h264"}, {"crf": 20, "bitrate_kbit": 99},
        {"codec": "copy", "max_size_mb": 1}, {"max_size_mb": 0},
        {"handbrake": {"VideoEncoder": "x264", "AudioList": 5}},
        {"handbrake": {"VideoEncoder": "x264", "AudioList": "a"}},
        {"handbrake": {"VideoEncoder": "x264", "VideoQualitySlider": "22"}},
    ],
    ids=str,
)  # fmt: skip
def test_what_does_not_go_together_is_refused(wishes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        TranscodeParams.model_validate({"video": "/a", **wishes})


def _table() -> dict[str, list[str]]:
    """What docs/media.md says each container holds: the cells of its row."""
    text = (Path(__file__).parents[2] / "docs" / "media.md").read_text().split("## What containers hold")[1]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:2] == "| "]
    return {name: cells for name, *cells in rows if name in CONTAINERS}


SOUND_CODECS = ("aac", "mp3", "ac3", "eac3", "alac", "opus", "flac", "vorbis", "mp2", "dts", "pcm_s16le")
SOUND_ENCODERS = {"mp3": "libmp3lame", "opus": "libopus", "vorbis": "libvorbis", "dts": "dca"}


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sound of all kinds, text of three, and an attached file."""
    folder = tmp_path_factory.mktemp("everything")
    text, font = folder / "text.srt", folder / "font.ttf"
    text.write_text("1\n00:00:00,100 --> 00:00:00,300\nText\n")
    font.write_bytes(b"\0\1\0\0" + bytes(64))
    words = [
        "-f",
        "lavfi",
        "-i",
        "testsrc=size=160x90:rate=25:duration=0.4",
        "-f",
        "lavfi",
        "-i",
        "sine=duration=0.4:r=48000",
    ]
    words += ["-i", str(text), "-map", "0", *["-map", "1"] * len(SOUND_CODECS), *["-map", "2"] * 3, "-c:v", "libx264"]
    for place, codec in enumerate(SOUND_CODECS):
        words += [f"-c:a:{place}", SOUND_ENCODERS.get(codec, codec), f"-ac:a:{place}", "2"]
    words += ["-c:s:0", "subrip", "-c:s:1", "ass", "-c:s:2", "webvtt", "-strict", "-2"]
    path = folder / "everything.mkv"
    run_ffmpeg(*words, "-attach", font, "-metadata:s:t:0", "mimetype=font/ttf", path)
    return path


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_container_holds_what_the_documents_say(name: ContainerName, everything: Path, tmp_path: Path) -> None:
    pictures, copied, otherwise, subtitles, attached = _table()[name]
    assert {one.lower() for one in pictures.split(", ")} == CONTAINERS[name].copies
    output = made(everything, tmp_path, container=name, codec="copy")
    facts = facts_of(output)
    kept = [codec.split("_")[0] in copied.lower().split(", ") for codec in SOUND_CODECS]
    assert [one.codec for one in facts.audios] == [
        codec if keeps else otherwise.lower() for codec, keeps in zip(SOUND_CODECS, kept, strict=True)
    ]
    texts = {"mkv": ["subrip", "ass", "webvtt"]}.get(name, [subtitles.strip("`").lower()] * 3)
    assert [one.codec for one in facts.subtitle_tracks] == texts
    assert (facts.attachments, "attached file is left out" in str(output.facts["warnings"])) == (
        (1, False) if attached == "yes" else (0, True)
    )
