"""What files say of their pictures beside size and colours: 3D in two layers, Dolby Vision, HDR10+; kept or told of."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.media.clips import run_ffmpeg
from tests.processors.comparison import unexplained
from tests.processors.test_cases import BOTH, box, clip, ffmpeg, into_sample_entry
from tests.processors.work import Work, facts_of, video_of
from vidqueue.errors import VidqueueError

PQ = "format=yuv420p10le,setparams=range=tv:colorspace=bt2020nc:color_primaries=bt2020:color_trc=smpte2084"
X265 = ("-c:v", "libx265", "-x265-params", "log-level=error:bframes=0", "-tag:v", "hvc1", "-frames:v", "5")
ONE_VIEW = "Only one of the two views of the 3D video is shown; the other one is left out."
NO_DOLBY = "The metadata of Dolby Vision is left out; the result is what other screens show of the video."
NO_DYNAMIC = "The metadata of HDR10+ is left out; the pictures stay HDR."
MARK = b"\0\0\0\1\x46\x01"  # an access unit delimiter of H.265


def pictures(folder: Path, *words: str) -> tuple[Path, list[bytes]]:
    """A clip of five pictures in H.265, as the bytes of each."""
    plain, raw = clip(folder / "plain.mp4", "-an", *X265, *words), folder / "plain.hevc"
    ffmpeg("-i", str(plain), "-c", "copy", "-bsf:v", "hevc_mp4toannexb,hevc_metadata=aud=insert", str(raw))
    return raw, raw.read_bytes().split(MARK)[1:]


def joined(path: Path, units: list[bytes], result: Path) -> Path:
    path.write_bytes(b"".join(MARK + one for one in units))
    ffmpeg(
        "-framerate", "25", "-i", str(path), "-c", "copy", "-bsf:v", "setts=ts=N/25/TB", "-tag:v", "hvc1", str(result)
    )
    return result


def spatial(folder: Path) -> Path:
    """A second layer behind each picture, as phones and headsets write it."""
    raw, units = pictures(folder, "-pix_fmt", "yuv420p")
    both = []
    for unit in units:
        slices = [one for one in unit.split(b"\0\0\1")[1:] if one[0] >> 1 & 63 < 32]
        # The layer's number is in the lowest bit of the first byte and the five above of the second.
        second = b"".join(b"\0\0\0\1" + one[:1] + bytes([one[1] | 1 << 3]) + one[2:] for one in slices)
        both.append(unit + second)
    path = joined(raw, both, folder / "spatial.mov")
    eyes = box(b"eyes", box(b"stri", bytes(4) + b"\3") + box(b"hero", bytes(4) + b"\1"))
    into_sample_entry(path, b"hvc1", box(b"vexu", eyes))
    return path


def dynamic(folder: Path) -> Path:
    """HDR10+: a message before each picture."""
    raw, units = pictures(folder, "-vf", PQ, "-pix_fmt", "yuv420p10le")
    fields = (
        (1, 8), (1, 2), (1000, 27), (0, 1), (50000, 17), (50000, 17), (50000, 17), (20000, 17), (1, 4), (99, 7),
        (50000, 17), (10, 10), (0, 3),
    )  # fmt: skip
    bits = "".join(f"{value:0{width}b}" for value, width in fields)
    bits += "0" * (-len(bits) % 8)
    told = b"\xb5\0\x3c\0\1\4" + int(bits, 2).to_bytes(len(bits) // 8)
    # No zeros but single ones, so nothing has to be escaped but those of the head.
    message = b"\0\0\0\1" + bytes([39 << 1, 1, 4, len(told)]) + told.replace(b"\0\0", b"\0\0\3") + b"\x80"
    return joined(raw, [_before_slice(unit, message) for unit in units], folder / "dynamic.mp4")


def _before_slice(unit: bytes, message: bytes) -> bytes:
    at = -1
    while unit[(at := unit.index(b"\0\0\1", at + 1)) + 3] >> 1 & 63 >= 32:
        pass
    return unit[:at] + message[1:] + unit[at:]


def dolby(folder: Path, profile: int, base: int, *coded: str, entry: bytes = b"hvc1") -> Path:
    path = clip(folder / f"dolby{profile}{base}.mp4", "-vf", PQ, "-frames:v", "5", *coded)
    bits = profile << 9 | 1 << 3 | 0b101
    into_sample_entry(path, entry, box(b"dvvC", bytes([1, 0]) + bits.to_bytes(2) + bytes([base << 4]) + bytes(19)))
    return path


def marks(path: Path) -> str:
    return run_ffmpeg("-i", path, "-vf", "showinfo", "-f", "null", "-").stderr.decode("utf-8", "replace")


def test_spatial_video_comes_out_as_one_view_that_says_so(tmp_path: Path) -> None:
    path = spatial(tmp_path)
    assert "view: packed" in marks(path)
    for processor, wishes in (("transcode", {"container": "mov"}), ("enhance", {})):
        output = Work(processor, path, tmp_path / processor).run(**wishes)
        assert (output.facts["warnings"], "Stereo 3D" in marks(output.path)) == ([ONE_VIEW], False)
        assert unexplained(path, output.path, [ONE_VIEW]) == []
    both = Work("transcode", path, tmp_path / "mov").run(codec="copy", container="mov")
    assert (both.facts["warnings"], "view: packed" in marks(both.path)) == ([], True)
    one = Work("transcode", path, tmp_path / "mkv").run(codec="copy", container="mkv")
    assert one.facts["warnings"] == [ONE_VIEW]


def test_the_metadata_of_hdr10_plus_is_told_of(tmp_path: Path) -> None:
    path = dynamic(tmp_path)
    assert "HDR10+" in marks(path)
    for processor, wishes in (("transcode", {"codec": "h265"}), ("enhance", {})):
        output = Work(processor, path, tmp_path / processor).run(**wishes)
        assert (output.facts["warnings"], "HDR10+" in marks(output.path)) == ([NO_DYNAMIC], False)
        assert unexplained(path, output.path, [NO_DYNAMIC]) == []
    kept = Work("transcode", path, tmp_path / "copy").run(codec="copy")
    assert (kept.facts["warnings"], "HDR10+" in marks(kept.path)) == ([], True)


@pytest.mark.parametrize("processor", BOTH)
def test_dolby_vision_in_av1_is_refused_where_no_other_screen_can_show_it(processor: str, tmp_path: Path) -> None:
    coded = ("-c:v", "libsvtav1", "-preset", "12", "-pix_fmt", "yuv420p10le")
    with pytest.raises(VidqueueError) as caught:
        Work(processor, dolby(tmp_path, 10, 0, *coded, entry=b"av01"), tmp_path / "refused").run()
    assert (caught.value.code, "profile 10" in caught.value.message) == ("unsupported_codec", True)
    shown = Work(processor, dolby(tmp_path, 10, 1, *coded, entry=b"av01"), tmp_path / "shown").run()
    assert NO_DOLBY in shown.facts["warnings"]


def test_a_copy_stays_dolby_vision(tmp_path: Path) -> None:
    path = dolby(tmp_path, 8, 1, *X265, "-pix_fmt", "yuv420p10le")
    for container in ("mp4", "mkv"):
        output = Work("transcode", path, tmp_path / container).run(codec="copy", container=container)
        assert (output.facts["warnings"], video_of(facts_of(output)).dolby_vision) == ([], 8)
