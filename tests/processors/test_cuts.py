"""Parts of broadcasts, where ffmpeg seeks to any picture: they begin with the picture that was asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.media.clips import beeps, decoded_times, run_ffmpeg
from tests.processors.test_cases import picture_subtitles
from tests.processors.test_export import export
from tests.processors.work import Work, facts_of, outputs, video_of
from vidqueue.limits import Limits

SIZE = (32, 18)
# Without the sound ffmpeg would count times from the first picture.
_ALL_STREAMS = ("-map", "0:v", "-map", "0:a?", "-c", "copy", "-t", "0", "-f", "null", "-")
MOVING = (
    "-f", "lavfi", "-i", "testsrc2=size=160x90:rate=25:duration=20",
    "-f", "lavfi", "-i", "aevalsrc='0.8*sin(2765*t)*lt(mod(t,1),0.1)':d=20",
)  # fmt: skip
FORMS = {
    "long.ts": ("-c:v", "libx264", "-preset", "veryfast", "-g", "500", "-sc_threshold", "0", "-c:a", "aac"),
    "hevc.ts": ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=none:keyint=50", "-c:a", "mp2"),
    "mpeg2.mpg": ("-c:v", "mpeg2video", "-g", "25", "-bf", "2", "-q:v", "4", "-c:a", "mp2"),
    "late.ts": ("-c:v", "libx264", "-preset", "ultrafast", "-g", "25", "-c:a", "mp2", "-output_ts_offset", "5000"),
}


@pytest.fixture(scope="module")
def forms(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same twenty seconds, in which a beep begins each second."""
    folder = tmp_path_factory.mktemp("forms")
    for name, words in FORMS.items():
        run_ffmpeg(*MOVING, *words, folder / name)
    return {name: folder / name for name in FORMS}


def pictures(path: Path, begin_s: float = 0.0, length_s: float = 100.0) -> np.ndarray:
    """What plain ffmpeg shows of a part, decoded from the beginning of the file."""
    grey = run_ffmpeg(
        "-i", path, "-map", "0:v:0", "-vf", f"scale={SIZE[0]}:{SIZE[1]}:flags=area,format=gray",
        "-fps_mode", "passthrough", "-ss", str(begin_s), "-t", str(length_s), "-f", "rawvideo", "-", *_ALL_STREAMS,
    ).stdout  # fmt: skip
    return np.frombuffer(grey, np.uint8).reshape(-1, SIZE[0] * SIZE[1]).astype(np.int16)


def assert_same_pictures(made: np.ndarray, wanted: np.ndarray) -> None:
    """Each picture is more like the wanted one than like those beside it."""
    assert abs(len(made) - len(wanted)) <= 1
    for place in range(1, min(len(made), len(wanted)) - 1):
        unlike = [np.abs(made[place] - wanted[place + step]).mean() for step in (-1, 0, 1)]
        assert unlike[1] == min(unlike), place


# Before fifteen seconds a file is read from its beginning, and behind them it is sought.
@pytest.mark.parametrize("begin_s", [3.5, 18.3])
@pytest.mark.parametrize("name", FORMS)
def test_a_part_of_a_broadcast_begins_with_the_picture_that_was_asked_for(
    name: str, begin_s: float, forms: dict[str, Path], tmp_path: Path
) -> None:
    length_s = 1.5
    for audio in ("keep", "reencode"):
        output = Work("transcode", forms[name], tmp_path / audio).run(
            start_s=begin_s, end_s=begin_s + length_s, audio=audio
        )
        assert output.facts["warnings"] == []
        assert video_of(facts_of(output)).duration_s == pytest.approx(length_s, abs=0.11)
        assert_same_pictures(pictures(output.path), pictures(forms[name], begin_s, length_s))
        second = int(begin_s) + 1 - begin_s
        assert beeps(output.path)[0] == pytest.approx(second, abs=0.06)


@pytest.mark.parametrize("begin_s", [3.5, 18.3])
def test_an_animation_and_a_poster_of_a_broadcast_show_what_was_asked_for(
    begin_s: float, forms: dict[str, Path], tmp_path: Path
) -> None:
    path = forms["long.ts"]
    output = Work("transcode", path, tmp_path / "gif").run(start_s=begin_s, end_s=begin_s + 1, container="gif", fps=25)
    assert_same_pictures(pictures(output.path), pictures(path, begin_s, 1))
    poster = outputs(
        "thumbnails", "video", path, tmp_path / "poster", poster_at_s=begin_s, image="png", preview="none"
    )["poster.png"]
    shown, around = pictures(poster.path)[0], pictures(path, begin_s - 0.5, 1)
    assert int(np.argmin(np.abs(around - shown).mean(axis=1))) == pytest.approx(12.5, abs=1)


def test_a_part_behind_the_place_where_the_clock_begins_again_is_found(forms: dict[str, Path], tmp_path: Path) -> None:
    """ffmpeg seeks by the clock of the file, which never comes to such a time."""
    path = tmp_path / "twice.ts"
    path.write_bytes(forms["long.ts"].read_bytes() * 2)
    output = Work("transcode", path, tmp_path / "work").run(start_s=25.5, end_s=27)
    assert output.facts["warnings"] == ["The clock of the file begins again or jumps; the parts were joined."]
    assert_same_pictures(pictures(output.path), pictures(path, 25.5, 1.5))
    assert beeps(output.path)[0] == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize(("name", "key_s"), [("long.ts", 0.0), ("hevc.ts", 18.0), ("late.ts", 18.0)])
def test_a_copied_part_of_a_broadcast_begins_with_the_key_picture_before(
    name: str, key_s: float, forms: dict[str, Path], tmp_path: Path
) -> None:
    """ffmpeg seeks to any picture there, and a copy would begin with the key picture behind it."""
    output = Work("transcode", forms[name], tmp_path / "mkv").run(
        start_s=18.3, end_s=19.5, codec="copy", container="mkv"
    )
    (said,) = output.facts["warnings"]
    assert "longer: a copy begins with the key picture before" in said
    made, wanted = pictures(output.path), pictures(forms[name], key_s)
    assert 1.2 < len(made) / 25 - (18.3 - key_s) < 1.6
    assert_same_pictures(made, wanted[: len(made)])
    assert decoded_times(output.path, 0)[0] + 19 - key_s == pytest.approx(beeps(output.path)[-1], abs=0.06)
    # MP4 hides what is before.
    output = Work("transcode", forms[name], tmp_path / "mp4").run(start_s=18.3, end_s=19.5, codec="copy")
    assert output.facts["warnings"] == []
    assert beeps(output.path) == pytest.approx([0.7], abs=0.06)


@pytest.mark.parametrize("begin_s", [0.03, 1.5])
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("near.flv", ("-c:v", "libx264", "-preset", "veryfast", "-g", "50", "-c:a", "aac")),
        ("near.avi", ("-c:v", "libx264", "-preset", "veryfast", "-g", "50", "-c:a", "ac3")),
        ("near.mp4", ("-c:v", "libx264", "-preset", "veryfast", "-g", "50", "-c:a", "aac")),
        ("near.webp", ("-an", "-c:v", "libwebp_anim")),
    ],
    ids=["FLV", "AVI", "MP4", "WebP"],
)
def test_a_part_right_behind_the_beginning_is_what_was_asked_for(
    name: str, words: tuple[str, ...], begin_s: float, tmp_path: Path
) -> None:
    """ffmpeg does not find such times in some containers, and Matroska has no edit list for sound that comes before."""
    path = tmp_path / name
    run_ffmpeg(*(MOVING[:4] if "-an" in words else MOVING), *words, "-t", "4", path)
    wide = Limits(formats=("safe", "wide"))
    output = Work("transcode", path, tmp_path / "work", limits=wide).run(
        start_s=begin_s, end_s=begin_s + 1.2, container="mkv"
    )
    assert_same_pictures(pictures(output.path), pictures(path, begin_s, 1.2))
    if "-an" in words:
        return
    assert decoded_times(output.path, 0)[0] < 0.06
    assert beeps(output.path)[-1] == pytest.approx(int(begin_s) + 1 - begin_s, abs=0.06)
    film = export(tmp_path / "film", [{"media": path, "start_s": begin_s, "end_s": begin_s + 1.2}])
    assert beeps(film.path)[-1] == pytest.approx(int(begin_s) + 1 - begin_s, abs=0.06)


def test_a_subtitle_that_is_a_picture_is_shown_from_the_beginning_of_a_part_until_it_goes(tmp_path: Path) -> None:
    """Without an edit list, packets from before the part would delay everything else."""
    picture_subtitles(tmp_path / "text.sup")  # half a second
    path = tmp_path / "disc.mkv"
    run_ffmpeg(*MOVING[:4], "-i", tmp_path / "text.sup", "-map", "0", "-map", "1", "-t", "2", "-c:v", "libx264",
               "-g", "50", "-c:s", "copy", path)  # fmt: skip
    for begin_s, times in ((0.4, [0, 0.1]), (0.9, [0, 0])):
        output = Work("transcode", path, tmp_path / str(begin_s)).run(container="mkv", start_s=begin_s)
        listing = run_ffmpeg("-i", output.path, "-map", "0:s", "-c", "copy", "-copyts", "-f", "framecrc", "-").stdout
        packets = [line.split(",") for line in listing.decode().splitlines() if line.startswith("0,")]
        assert [int(packet[2]) / 1000 for packet in packets] == pytest.approx(times, abs=0.002)
        # The longer one shows the picture, the shorter one takes it away.
        assert int(packets[0][4]) > int(packets[1][4])
        assert decoded_times(output.path, 0)[0] < 0.03


@pytest.mark.parametrize("name", ["bare.m2v", "bare.h264"])
def test_a_part_of_a_stream_without_a_container_is_what_was_asked_for(name: str, tmp_path: Path) -> None:
    """ffmpeg cannot seek there, and goes on from the beginning or not at all."""
    path = tmp_path / name
    run_ffmpeg(
        *MOVING[:4], "-t", "5", "-an", "-c:v", "mpeg2video" if name.endswith("m2v") else "libx264", "-g", "25", path
    )
    wide = Limits(formats=("safe", "wide"))
    for codec in ("h264", "copy"):
        output = Work("transcode", path, tmp_path / codec, limits=wide).run(start_s=3, end_s=4, codec=codec)
        assert_same_pictures(pictures(output.path), pictures(path, 3, 1))
        assert len(output.facts["warnings"]) == (codec == "copy")
