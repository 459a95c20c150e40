"""Files made to do harm: none may show another file's pixels, none may cost more than its bounds."""

from __future__ import annotations

import select
import struct
import time
import zlib
from pathlib import Path

import pytest

from tests.daemon import promised
from tests.media.clips import Samples, run_ffmpeg
from vidqueue.errors import VidqueueError
from vidqueue.limits import Limits
from vidqueue.media.probe import probe
from vidqueue.processors.base import Context
from vidqueue.processors.parts.transcode_params import TranscodeParams
from vidqueue.processors.transcode import Transcode


def refusal(path: Path) -> str:
    with pytest.raises(VidqueueError) as caught:
        probe(path, Limits())
    return caught.value.code


def transcoded(path: Path, workspace: Path, **wishes: object) -> Path:
    ctx = Context({"video": path}, workspace, "cpu", Limits(), lambda _: None, lambda _: None)
    params = TranscodeParams.model_validate({"video": str(path), "effort": "fast", **wishes})
    return Transcode().run(params, ctx)[0].path


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A film that nobody may see."""
    path = tmp_path / "secret.ts"
    run_ffmpeg("-f", "lavfi", "-i", "color=red:size=320x240:duration=1", "-c:v", "libx264", path)
    return path


def playlists(secret: Path) -> dict[str, str]:
    hls = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1.0,\n{}\n#EXT-X-ENDLIST\n"
    return {
        "absolute.m3u8": hls.format(f"file://{secret}"),
        "relative.m3u8": hls.format(secret.name),
        "disguised.mp4": hls.format(f"file://{secret}"),
        "concat.txt": f"ffconcat version 1.0\nfile '{secret.name}'\n",
        "concat_without_a_head.mp4": f"file '{secret}'\n",
        "dash.mpd": f'<?xml version="1.0"?><MPD><Period><BaseURL>file://{secret}</BaseURL></Period></MPD>',
        "picture.svg": f'<svg xmlns="http://www.w3.org/2000/svg"><image href="file://{secret}"/></svg>',
        "session.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
    }


@pytest.mark.parametrize("name", list(playlists(Path("x"))))
def test_a_file_that_names_another_file_is_refused(tmp_path: Path, secret: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text(playlists(secret)[name])
    assert refusal(path) in ("input_is_a_playlist", "unsupported_format")
    workspace = tmp_path / "work"
    workspace.mkdir()
    with pytest.raises(VidqueueError):
        transcoded(path, workspace)
    assert list(workspace.iterdir()) == []


def test_a_playlist_hidden_behind_blank_space_is_stopped_by_the_format_whitelist(tmp_path: Path, secret: Path) -> None:
    path = tmp_path / "late.m3u8"
    path.write_text("# a harmless line\n" + playlists(secret)["absolute.m3u8"])
    assert refusal(path) == "unsupported_format"


@pytest.mark.parametrize(("codec", "container"), [("magicyuv", "avi"), ("ffv1", "mkv"), ("rawvideo", "avi")])
def test_an_exotic_codec_is_refused(tmp_path: Path, codec: str, container: str) -> None:
    path = tmp_path / f"clip.{container}"
    run_ffmpeg("-f", "lavfi", "-i", "testsrc2=duration=1:size=64x64", "-c:v", codec, path)
    assert refusal(path) == "unsupported_codec"


def png(width: int, height: int, rows: bytes) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [16_384, 60_000])
def test_a_giant_picture_is_refused_quickly_and_cheaply(tmp_path: Path, side: int) -> None:
    row = b"\0" * (side // 8 + 1)
    squeeze = zlib.compressobj(9)
    rows = b"".join(squeeze.compress(row) for _ in range(side)) + squeeze.flush()
    path = tmp_path / "giant.png"
    path.write_bytes(png(side, side, rows))
    before = time.monotonic()
    assert refusal(path) == "media_too_large"
    assert time.monotonic() - before < promised(5)


@pytest.fixture
def giant(tmp_path: Path) -> Path:
    """64 megapixels in a few kilobytes."""
    path = tmp_path / "giant.mkv"
    run_ffmpeg("-f", "lavfi", "-i", "color=size=8000x8000", "-frames:v", "1", "-c:v", "png", "-pix_fmt", "gray", path)
    return path


def test_a_giant_picture_inside_a_video_is_refused(giant: Path) -> None:
    assert refusal(giant) == "media_too_large"


def test_a_giant_picture_whose_container_calls_it_small_is_refused(tmp_path: Path, giant: Path) -> None:
    told, small = struct.pack(">H", 8000), struct.pack(">H", 64)
    liar = tmp_path / "liar.mkv"
    bytes_of_it = giant.read_bytes()
    assert b"\xb0\x82" + told in bytes_of_it
    for name in (b"\xb0\x82", b"\xba\x82"):
        bytes_of_it = bytes_of_it.replace(name + told, name + small)
    liar.write_bytes(bytes_of_it)
    assert refusal(liar) == "media_too_large"


def timestamp_bomb(path: Path, samples: Samples, seconds: int) -> None:
    """Two pictures that lie this far apart."""
    run_ffmpeg(
        "-i", samples("silent.mkv"), "-frames:v", "2", "-c", "copy", "-bsf:v", f"setts=ts=N*{seconds}/TB", path
    )  # fmt: skip


def test_timestamps_that_claim_years_are_too_long(tmp_path: Path, samples: Samples) -> None:
    timestamp_bomb(tmp_path / "bomb.mkv", samples, 100_000)
    assert refusal(tmp_path / "bomb.mkv") == "media_too_long"


def test_two_pictures_hours_apart_stay_two_pictures(tmp_path: Path, samples: Samples) -> None:
    timestamp_bomb(tmp_path / "gap.mkv", samples, 7200)
    workspace = tmp_path / "work"
    workspace.mkdir()
    output = transcoded(tmp_path / "gap.mkv", workspace)
    assert output.stat().st_size < 1_000_000
    found = probe(output, Limits())
    assert found.video is not None
    assert found.video.frames == 2


def test_too_many_streams_are_refused(tmp_path: Path, samples: Samples) -> None:
    path = tmp_path / "many.mkv"
    run_ffmpeg("-i", samples("plain.mkv"), *["-map", "0:a"] * 40, "-c", "copy", "-t", "0.2", path)
    assert refusal(path) == "too_many_streams"


def test_text_named_mp4_is_not_a_video(tmp_path: Path) -> None:
    (tmp_path / "pointer.mp4").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n")
    assert refusal(tmp_path / "pointer.mp4") == "unsupported_format"


def test_a_title_that_looks_like_ffmpegs_own_words_changes_no_fact(tmp_path: Path, samples: Samples) -> None:
    path = tmp_path / "titled.mkv"
    title = (
        "x\n  Stream #0:7: Video: h264, yuv420p, 9999x9999 (default)\n      Display Matrix: rotation of 90.00 degrees"
    )
    run_ffmpeg("-i", samples("plain.mkv"), "-c", "copy", "-metadata", f"title={title}", path)
    facts, plain = probe(path, Limits()), probe(samples("plain.mkv"), Limits())
    assert facts.videos == plain.videos
    assert facts.audios == plain.audios


FORGERIES = {
    "an odd duration": "  Duration: 1:2, start: --",
    "a long duration": "  Duration: 05:00:00.00, start: 7.000000, bitrate: 1 kb/s",
    "a container": "Input #0, gif, from 'fd:':",
    "the end of the input": "Output #0, null, to 'pipe:1':",
    "a stream": "  Stream #0:7: Video: h264, yuv420p, 9999x9999 (default)",
    "a rotation": "    Side data:\n      Display Matrix: rotation of 90.00 degrees",
    "an odd rotation": "      Display Matrix: rotation of nan degrees",
    "counts": "[in#0/mov @ 0x1] [verbose]   Input stream #0:0 (video): 1 packets read (1 bytes); 1 frames decoded; ",
    "a full disk": "[error] No space left on device",
    "levels": "[info]   Duration: 1:2, start: --",
}


@pytest.mark.parametrize("forgery", FORGERIES.values(), ids=FORGERIES.keys())
@pytest.mark.parametrize("place", ["language", "title", "key"])
def test_a_tag_that_contains_lines_of_ffmpegs_changes_no_fact_and_ends_no_supervision(
    forgery: str, place: str, tmp_path: Path, samples: Samples
) -> None:
    path = tmp_path / "forged.mkv"
    tag = f"{forgery}\n=x" if place == "key" else f"{place}=a\n{forgery}\n"
    for_all = ["-metadata", tag, "-metadata:s:v:0", tag, "-metadata:s:a:0", tag]
    run_ffmpeg("-i", samples("plain.mkv"), "-c", "copy", *for_all, path)
    facts, plain = probe(path, Limits()), probe(samples("plain.mkv"), Limits())
    assert facts.model_copy(update={"size": plain.size}) == plain


def test_a_file_with_forged_tags_is_transcoded_and_counted_as_any_other(tmp_path: Path, samples: Samples) -> None:
    path = tmp_path / "forged.mkv"
    lines = "\n".join(FORGERIES.values())
    run_ffmpeg("-i", samples("plain.mkv"), "-c", "copy", "-metadata:s:v:0", f"language=x\n{lines}", path)
    workspace = tmp_path / "work"
    workspace.mkdir()
    result = probe(transcoded(path, workspace), Limits())
    assert result.video is not None
    assert (result.video.frames, result.video.rotation) == (60, 0)


@pytest.mark.parametrize("length", [4093, 4094, 4095, 8190])
def test_a_language_that_fills_the_pipes_packets_hides_no_stream(length: int, tmp_path: Path, samples: Samples) -> None:
    path = tmp_path / "long.mkv"
    run_ffmpeg("-i", samples("plain.mkv"), "-c", "copy", "-metadata:s:v:0", f"language={'x' * length}", path)
    if (length + 2) % select.PIPE_BUF:
        assert probe(path, Limits()).videos == probe(samples("plain.mkv"), Limits()).videos
    else:
        # Where its end and the next word cannot be told apart, nothing is believed.
        assert refusal(path) == "media_damaged"


@pytest.fixture(scope="session")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """More packets than a probe reads, in a few megabytes."""
    path = tmp_path_factory.mktemp("crowded") / "crowded.mkv"
    source = "color=size=16x16:rate=1000:duration=150"
    run_ffmpeg("-f", "lavfi", "-i", source, "-c:v", "mpeg4", "-g", "1000", path)
    return path


def test_a_file_with_very_many_packets_is_estimated_from_the_first(crowded: Path) -> None:
    facts = probe(crowded, Limits())
    assert facts.estimated
    assert facts.video is not None
    assert facts.duration_s == pytest.approx(150, rel=0.01)
    assert facts.video.frames == pytest.approx(150_000, rel=0.01)
    assert facts.damage == ()


def test_reading_the_whole_of_such_a_file_is_exact(crowded: Path) -> None:
    facts = probe(crowded, Limits(), whole=True)
    assert not facts.estimated
    assert facts.video is not None
    assert facts.video.frames == 150_000
