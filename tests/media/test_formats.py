"""The policy of formats: what `safe`, `wide` and lists accept, with real files of editing and of the past."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from tests.processors.comparison import unexplained
from tests.processors.test_cases import CLIP, TONE, ffmpeg
from tests.processors.work import Work
from vidqueue.errors import VidqueueError
from vidqueue.formats import FORMATS, VIDEO_CODECS, WIDE_FORMATS, WIDE_VIDEO_CODECS, allowed
from vidqueue.job import OutputDraft
from vidqueue.limits import Limits
from vidqueue.media.probe import probe
from vidqueue.settings.sections import MediaSettings

WIDE = Limits(formats=("wide",))
MADE = {
    "windows.wmv": ("-c:v", "wmv2", "-c:a", "wmav2", "-b:v", "4M"),
    "editing.mxf": ("-c:v", "mpeg2video", "-q:v", "2", "-c:a", "pcm_s16le", "-ar", "48000"),
    "archive.mkv": ("-c:v", "ffv1", "-c:a", "flac"),
    "huffman.avi": ("-c:v", "huffyuv", "-pix_fmt", "yuv422p", "-c:a", "pcm_s16le"),
    "animation.mov": ("-c:v", "qtrle", "-c:a", "pcm_s16le"),
    "cineform.mov": ("-c:v", "cfhd", "-pix_fmt", "yuv422p10le", "-c:a", "pcm_s16le"),
    "uncompressed.mov": ("-c:v", "rawvideo", "-pix_fmt", "uyvy422", "-c:a", "pcm_s16le"),
    "animated.png": ("-an", "-f", "apng"),
    "moving.webp": ("-an", "-c:v", "libwebp_anim", "-loop", "0"),
    "tape.dv": (
        "-c:v",
        "dvvideo",
        "-s",
        "720x576",
        "-pix_fmt",
        "yuv420p",
        "-c:a",
        "pcm_s16le",
        "-ar",
        "48000",
        "-ac",
        "2",
    ),
    "telephone.mov": ("-c:v", "libx264", "-c:a", "pcm_u8"),
    "disc.mpg": ("-c:v", "mpeg2video", "-q:v", "2", "-c:a", "mp2", "-f", "dvd"),
}
ACCEPTED_BY_SAFE = {"disc.mpg", "telephone.mov"}


def wrong(source: Path, output: OutputDraft) -> list[str]:
    """What is wrong with a result; a moving WebP says that it is RGB, so its colours get the tags of BT.709."""
    found = unexplained(source, output.path, output.facts["warnings"])
    return [said for said in found if source.suffix != ".webp" or not said.startswith("colour")]


def made(name: str, folder: Path) -> Path:
    path = folder / name
    ffmpeg(*(word.format(seconds=1) for word in (*CLIP, *TONE)), *MADE[name], str(path))
    return path


@pytest.mark.parametrize("name", MADE)
def test_wide_reads_it_right_and_safe_refuses_it(name: str, tmp_path: Path) -> None:
    path = made(name, tmp_path)
    output = Work("transcode", path, tmp_path / "work", limits=WIDE).run(quality="high")
    assert wrong(path, output) == []
    # enhance reads with the same decoders; one format by each way to open a file is enough.
    if name in ("windows.wmv", "moving.webp", "tape.dv"):
        output = Work("enhance", path, tmp_path / "enhanced", limits=WIDE).run(quality="high")
        assert wrong(path, output) == []
    if name in ACCEPTED_BY_SAFE:
        assert probe(path, Limits()).video is not None
        return
    with pytest.raises(VidqueueError) as caught:
        Work("transcode", path, tmp_path / "refused").run()
    assert caught.value.code in ("unsupported_format", "unsupported_codec")


@pytest.mark.long
@pytest.mark.parametrize("name", MADE)
def test_enhance_reads_it_right_too(name: str, tmp_path: Path) -> None:
    path = made(name, tmp_path)
    assert wrong(path, Work("enhance", path, tmp_path / "work", limits=WIDE).run(quality="high")) == []


def test_a_list_is_exactly_what_is_in_it(tmp_path: Path) -> None:
    path = made("archive.mkv", tmp_path)
    assert probe(path, Limits(formats=("safe", "ffv1"))).video is not None
    # The result is read back although mp4 is not in the list.
    output = Work("transcode", path, tmp_path / "work", limits=Limits(formats=("matroska", "ffv1", "flac")))
    assert output.run().path.exists()
    with pytest.raises(VidqueueError) as caught:
        probe(path, Limits(formats=("mov", "h264")))
    assert caught.value.code == "unsupported_format"
    narrow = allowed(("mov", "h264", "aac"))
    # Raw streams are called after their codec.
    assert (sorted(narrow.formats), *narrow.video, *narrow.audio) == (["aac", "h264", "mov"], "h264", "aac")


def test_wide_adds_and_names_that_nobody_knows_are_refused() -> None:
    assert (frozenset(), frozenset()) == (WIDE_FORMATS & FORMATS, WIDE_VIDEO_CODECS & VIDEO_CODECS)
    assert not {"hls", "dash", "concat", "image2", "lavfi", "tty", "sdp", "rtsp"} & allowed(("wide",)).formats
    assert MediaSettings(formats=["safe", "mxf"]).policy == ("safe", "mxf")
    with pytest.raises(ValidationError, match="hls"):
        MediaSettings(formats=["safe", "hls"])
