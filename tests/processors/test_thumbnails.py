"""Thumbnails of clips that we made: not black, upright, in the right shape, and at the times that WebVTT says."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import numpy as np
import pytest

from tests.media.clips import Samples, picture, run_ffmpeg
from tests.processors.work import outputs
from vidqueue.errors import CanceledError, VidqueueError
from vidqueue.limits import Limits
from vidqueue.processors.base import Context
from vidqueue.processors.registry import find, parse


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds each of black, a test picture, red with a grey half, and blue with a white half; wide pixels."""
    path = tmp_path_factory.mktemp("scenes") / "scenes.ts"
    halves = [f"color={left},drawbox=w=80:color={right}:t=fill" for left, right in (("red", "gray"), ("blue", "white"))]
    sources = ("color=black", "testsrc2", *halves)
    inputs = [word for one in sources for word in ("-f", "lavfi", "-i", _sized(one))]
    joined = "".join(f"[{n}]" for n in range(4)) + "concat=n=4,setsar=2/1"
    run_ffmpeg(*inputs, "-filter_complex", joined, "-c:v", "libx264", "-preset", "ultrafast",
               "-output_ts_offset", "7200", path)  # fmt: skip
    return path


def _sized(source: str) -> str:
    name, _, rest = source.partition(",")
    size = f"{name}{':' if '=' in name else '='}size=160x180:rate=10:duration=2"
    return ",".join(filter(None, [size, rest]))


def test_all_pictures_of_a_film_that_begins_black(scenes: Path, tmp_path: Path) -> None:
    made = outputs("thumbnails", "video", scenes, tmp_path / "work", interval_s=1, columns=2, rows=2, image="png")
    assert list(made) == ["poster.png", "sheet.png", "sprite.png", "sprite.vtt", "preview.webp"]
    poster = picture(made["poster.png"].path)
    assert poster.shape == (180, 320, 3), "square pixels"
    assert poster.std() > 40
    assert 2 <= made["poster.png"].facts["time_s"] < 4
    sheet = picture(made["sheet.png"].path)
    assert sheet.shape == (360, 640, 3)
    assert sheet[270, 300].argmax() == 0, "red at the lower left"
    assert sheet[270, 620].argmax() == 2, "blue at the lower right"


def test_webvtt_names_the_place_of_each_time(scenes: Path, tmp_path: Path) -> None:
    made = outputs("thumbnails", "video", scenes, tmp_path / "work", interval_s=1, poster=False, sheet=False,
                   preview="none", image="png")  # fmt: skip
    text = made["sprite.vtt"].path.read_text()
    cues = re.findall(r"^(\S+) --> (\S+)\n(\S+)#xywh=(\d+),(\d+),(\d+),(\d+)$", text, re.M)
    assert text.startswith("WEBVTT\n\n")
    assert len(cues) == 8
    assert (cues[0][0], cues[-1][1], cues[0][2]) == ("00:00:00.000", "00:00:08.000", "sprite.png")
    sprite = picture(made["sprite.png"].path)

    def middle(number: int) -> np.ndarray:
        left, top, width, height = map(int, cues[number][3:])
        return np.asarray(sprite[top + height // 2, left + width * 9 // 10])

    assert middle(1).max() < 20, "black"
    assert middle(5).argmax() == 0, "red"
    assert middle(7).argmax() == 2, "blue"


def test_a_turned_clip_is_upright_everywhere(samples: Samples, tmp_path: Path) -> None:
    made = outputs("thumbnails", "video", samples("rotated.mov"), tmp_path / "work", preview="gif", poster_at_s=1.5)
    poster = picture(made["poster.jpg"].path)
    assert poster.shape == (640, 360, 3)
    source = picture(samples("rotated.mov"), at_frame=45)
    assert np.abs(poster.astype(int) - source.astype(int)).mean() < 8
    facts = made["preview.gif"].facts
    assert facts["width"] < facts["height"]
    frames = run_ffmpeg("-i", made["preview.gif"].path, "-f", "framecrc", "-").stdout.decode().splitlines()
    assert sum(not line.startswith("#") for line in frames) == facts["pictures"] > 10


def test_a_clip_of_one_picture_and_uneven_times(samples: Samples, tmp_path: Path) -> None:
    single = tmp_path / "single.mp4"
    # It is shown for less than half of the time that a picture of the preview is.
    run_ffmpeg("-f", "lavfi", "-i", "testsrc2=size=64x48:rate=30", "-frames:v", "1", single)
    made = outputs("thumbnails", "video", single, tmp_path / "one")
    assert made["sprite.jpg"].facts["count"] == 1
    assert made["preview.webp"].facts["pictures"] == 1
    assert picture(made["poster.jpg"].path).shape == (48, 64, 3)
    assert outputs("thumbnails", "video", samples("vfr.mp4"), tmp_path / "vfr")["sheet.jpg"].facts["width"] == 1280


def test_hdr_is_brought_to_sdr(tmp_path: Path) -> None:
    """A white of 203 nits is 58 % of PQ, which would be 148 if it were taken as it is."""
    hdr = tmp_path / "hdr.mkv"
    run_ffmpeg(
        "-f", "lavfi", "-i", "color=0x949494:size=64x64:rate=5:duration=1,format=yuv420p10le", "-c:v", "libx265",
        "-x265-params", "colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc:log-level=error", hdr,
    )  # fmt: skip
    made = outputs("thumbnails", "video", hdr, tmp_path / "work", sheet=False, sprite=False, preview="none")
    assert picture(made["poster.jpg"].path).mean() > 152


@pytest.mark.parametrize(("clip", "code"), [("audio.mp4", "no_video_stream")])
def test_what_has_no_pictures_is_refused(samples: Samples, tmp_path: Path, clip: str, code: str) -> None:
    with pytest.raises(VidqueueError) as caught:
        outputs("thumbnails", "video", samples(clip), tmp_path / "work")
    assert caught.value.code == code


def test_a_cancel_ends_it(samples: Samples, tmp_path: Path) -> None:
    one, canceled = find("thumbnails"), threading.Event()
    ctx = Context(
        {"video": samples("medium.mp4")}, tmp_path, "cpu", Limits(), lambda _: canceled.set(), lambda _: None,
        canceled=canceled,
    )  # fmt: skip
    with pytest.raises(CanceledError):
        one.run(parse(one, {"video": "/a"}), ctx)
