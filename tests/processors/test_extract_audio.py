"""Extract-audio on clips that we made: the track that was asked for, as long as it was, and in step."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.media.clips import Samples, beeps, run_ffmpeg
from tests.processors.test_cases import clip, two_sounds
from tests.processors.work import facts_of, outputs
from vidqueue.errors import CanceledError, VidqueueError
from vidqueue.job import OutputDraft
from vidqueue.limits import Limits
from vidqueue.media.film.sound_reader import Listener, Track
from vidqueue.media.film.timeline import SAMPLE_RATE
from vidqueue.media.jail.sandbox import SandboxLimits
from vidqueue.media.loudness import Loudness
from vidqueue.media.probe import probe
from vidqueue.media.source import check_source
from vidqueue.media.tags import parse_tags
from vidqueue.processors.base import Context
from vidqueue.processors.registry import find, parse


@pytest.fixture(scope="module")
def two_tracks(samples: Samples, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """German stereo, then English 5.1(side); with a place, as a phone writes it, and a title with line ends."""
    path = tmp_path_factory.mktemp("tracks") / "two.mkv"
    run_ffmpeg(
        "-i", samples("plain.mp4"), "-f", "lavfi", "-i", "sine=440:duration=3,aformat=channel_layouts=5.1(side)",
        "-map", "0:v", "-map", "0:a", "-map", "1:a", "-c:v", "copy", "-c:a:0", "aac", "-c:a:1", "ac3", "-t", "3",
        "-metadata", "title=A\n[STREAM]\nlanguage=xxx", "-metadata", "location=+48.1+011.5/",
        "-metadata:s:a:0", "language=ger", "-metadata:s:a:1", "language=eng", path,
    )  # fmt: skip
    return path


def extracted(path: Path, workspace: Path, **wishes: Any) -> OutputDraft:
    (output,) = outputs("extract-audio", "media", path, workspace, **wishes).values()
    return output


@pytest.mark.parametrize(
    ("wishes", "codec", "copied"),
    [
        ({}, "aac", True),
        ({"copy_sound": False}, "aac", False),
        ({"format": "mp3", "channels": "mono"}, "mp3", False),
        ({"format": "wav"}, "pcm_s16le", False),
        ({"format": "opus"}, "opus", False),
        ({"format": "flac", "sample_rate": 22050}, "flac", False),
    ],
    ids=str,
)
def test_each_format_holds_the_whole_sound(
    samples: Samples, tmp_path: Path, wishes: dict[str, Any], codec: str, copied: bool
) -> None:
    output = extracted(samples("plain.mp4"), tmp_path / "work", **wishes)
    facts = facts_of(output)
    assert [one.codec for one in facts.audios] == [codec]
    assert facts.videos == ()
    assert output.facts["copied"] is copied
    assert facts.duration_s == pytest.approx(3, abs=0.15)
    assert beeps(output.path) == pytest.approx([0, 1, 2], abs=0.06)


@pytest.mark.parametrize("codec", ["libvorbis", "libopus"])
def test_several_ogg_files_in_a_row_sound_one_after_the_other(codec: str, tmp_path: Path) -> None:
    """ffmpeg misjudges the times of the later ones where there are pictures beside the sound."""
    path = clip(tmp_path / "one.ogv", "-c:v", "libtheora", "-c:a", codec)
    path.write_bytes(path.read_bytes() * 2)
    output = extracted(path, tmp_path / "work", format="wav")
    assert facts_of(output).duration_s == pytest.approx(2, abs=0.05)
    assert output.facts["warnings"] == []


def test_a_rate_that_changes_between_ogg_files_is_told(tmp_path: Path) -> None:
    """ffmpeg ends there: what comes behind is lost."""
    files = [tmp_path / name for name in ("one.ogg", "two.ogg")]
    for path, rate in zip(files, (44100, 32000), strict=True):
        run_ffmpeg("-f", "lavfi", "-i", "sine=440:duration=1", "-c:a", "libvorbis", "-ar", str(rate), path)
    path = tmp_path / "both.ogg"
    path.write_bytes(b"".join(one.read_bytes() for one in files))
    output = extracted(path, tmp_path / "work", format="wav")
    assert output.facts["warnings"] == ["ffmpeg cannot read the file to its end."]


def test_a_track_is_found_by_language_and_by_number(two_tracks: Path, tmp_path: Path) -> None:
    for wishes in ({"language": "eng"}, {"track": 2}):
        output = extracted(two_tracks, tmp_path / str(wishes), format="opus", **wishes)
        assert [one.channel_layout for one in facts_of(output).audios] == ["5.1"]
    for wishes in ({"language": "fra"}, {"track": 3}):
        with pytest.raises(VidqueueError) as caught:
            extracted(two_tracks, tmp_path / str(wishes), **wishes)
        assert caught.value.code == "no_audio_stream"


def test_tags_that_are_safe_are_kept_and_a_place_is_not(two_tracks: Path, tmp_path: Path) -> None:
    output = extracted(two_tracks, tmp_path / "work", format="flac", language="ger")
    told = run_ffmpeg("-i", output.path, "-f", "ffmetadata", "-").stdout.decode()
    tags = parse_tags(told, [0])
    assert tags.file["title"] == "A\n[STREAM]\nlanguage=xxx"
    assert tags.file["language"] == "ger"
    assert "+48.1" not in told
    none = extracted(two_tracks, tmp_path / "none", format="flac", metadata="none")
    assert "title" not in run_ffmpeg("-i", none.path, "-f", "ffmetadata", "-").stdout.decode()


def test_the_loudness_comes_out_as_asked(samples: Samples, tmp_path: Path) -> None:
    output = extracted(samples("plain.mp4"), tmp_path / "work", format="wav", loudness=-30)
    measured = Loudness(-30)
    told = run_ffmpeg("-i", output.path, "-af", measured.measuring, "-f", "null", "-").stderr.decode()
    measured.text = told[told.index("{") : told.rindex("}") + 1]
    assert measured.integrated == pytest.approx(-30, abs=1)


def test_silence_has_no_loudness_to_change(tmp_path: Path) -> None:
    silent = tmp_path / "silent.wav"
    run_ffmpeg("-f", "lavfi", "-i", "anullsrc=r=44100", "-t", "2", silent)
    output = extracted(silent, tmp_path / "work", format="mp3", loudness=-16)
    assert "silent" in output.facts["warnings"][0]
    assert facts_of(output).duration_s == pytest.approx(2, abs=0.15)


def test_sound_that_begins_late_on_a_clock_of_hours_stays_in_step(samples: Samples, tmp_path: Path) -> None:
    late = tmp_path / "late.mkv"
    run_ffmpeg(
        "-i", samples("plain.mp4"), "-itsoffset", "0.7", "-i", samples("plain.mp4"), "-map", "0:v", "-map", "1:a",
        "-c", "copy", "-output_ts_offset", "7200", late,
    )  # fmt: skip
    assert beeps(extracted(late, tmp_path / "wav", format="wav").path) == pytest.approx([0.7, 1.7, 2.7], abs=0.06)
    copied = extracted(late, tmp_path / "m4a")
    assert copied.facts["copied"]
    assert copied.facts["begins_at_s"] == pytest.approx(0.7, abs=0.06)


def test_sound_whose_channels_change_midway_keeps_its_length(tmp_path: Path) -> None:
    path = two_sounds(tmp_path)
    told = "The channels of sound track 1 change midway to stereo; all of it has those of its beginning (mono)."
    for format_ in ("m4a", "wav"):
        (output,) = outputs("extract-audio", "media", path, tmp_path / format_, format=format_).values()
        assert facts_of(output).audios[0].heard_s == pytest.approx(2, abs=0.1)
        assert output.facts["warnings"] == [told]
    packaged = outputs("package", "video", path, tmp_path / "package", rungs=["240p"])
    sound = probe(packaged["audio-1.mp4"].path, Limits(), whole=True).audios[0]
    assert sound.heard_s == pytest.approx(2, abs=0.2)
    assert told in packaged["master.m3u8"].facts["warnings"]
    facts = probe(path, Limits(), whole=True)
    track = Track(check_source(path), facts.audios[0])
    with Listener(track, SandboxLimits(Limits(), 30.0)) as listener:
        heard = np.abs(listener.read(4 * SAMPLE_RATE)).max(axis=1).reshape(-1, SAMPLE_RATE // 10).max(axis=1)
    tenths = np.flatnonzero(heard > 0.1)
    assert tenths[0] == 0
    assert [len(tenths), int(tenths[-1])] == pytest.approx([20, 20], abs=1)


def test_a_file_without_sound_is_refused(samples: Samples, tmp_path: Path) -> None:
    with pytest.raises(VidqueueError) as caught:
        extracted(samples("silent.mkv"), tmp_path / "work")
    assert caught.value.code == "no_audio_stream"


@pytest.mark.parametrize(
    "wishes",
    [
        {"track": 1, "language": "eng"},
        {"format": "wav", "bitrate_kbit": 128},
        {"format": "mp3", "bitrate_kbit": 640},
        {"language": "eng;rm"},
        {"loudness": 3},
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_at_submit(wishes: dict[str, Any]) -> None:
    with pytest.raises(VidqueueError) as caught:
        parse(find("extract-audio"), {"media": "/a", **wishes})
    assert caught.value.code == "invalid_params"


def test_a_cancel_ends_it(samples: Samples, tmp_path: Path) -> None:
    one, canceled = find("extract-audio"), threading.Event()
    ctx = Context(
        {"media": samples("plain.mp4")}, tmp_path, "cpu", Limits(), lambda _: canceled.set(), lambda _: None,
        canceled=canceled,
    )  # fmt: skip
    with pytest.raises(CanceledError):
        one.run(parse(one, {"media": "/a", "format": "flac"}), ctx)


@pytest.mark.parametrize("tags", [(), ("-id3v2_version", "3", "-metadata", "title=Click")], ids=["bare", "tagged"])
@pytest.mark.parametrize(("rate", "seconds"), [(8000, 0.06), (16000, 0.02), (48000, 0.005)])
def test_an_mp3_file_of_few_frames_is_read(rate: int, seconds: float, tags: tuple[str, ...], tmp_path: Path) -> None:
    """ffmpeg by itself takes it for a broadcast."""
    path = tmp_path / "click.mp3"
    run_ffmpeg(
        "-f", "lavfi", "-i", f"sine=duration={seconds}:sample_rate={rate}", "-c:a", "libmp3lame", "-write_xing", "0",
        *tags, path,
    )  # fmt: skip
    facts = facts_of(extracted(path, tmp_path / "out", format="wav"))
    samples = len(run_ffmpeg("-f", "mp3", "-i", path, "-f", "s16le", "-").stdout) // 2
    assert facts.duration_s == pytest.approx(samples / rate, abs=0.001)


@pytest.mark.parametrize("kind", ["flac", "m4a", "opus", "mp3"])
def test_channels_that_a_format_does_not_hold_are_mixed_and_told(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "high.wav"
    names = ("FL", "FR", "FC", "LFE", "BL", "BR", "SL", "SR", "TFL", "TFR", "TBL", "TBR")
    mixed = "pan=7.1.4|" + "|".join(f"{name}=c0" for name in names)
    run_ffmpeg("-f", "lavfi", "-i", f"sine=duration=0.5,{mixed}", path)
    became = "stereo" if kind == "mp3" else "7.1"
    output = extracted(path, tmp_path / kind, format=kind)
    assert facts_of(output).audios[0].channel_layout == became
    assert output.facts["warnings"] == [f"The sound has the channels 7.1.4, which became {became} in {kind}."]
