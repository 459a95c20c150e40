"""Files of kinds that people met with other tools: the right picture, size, length and sound, or a sentence why not.

The files under `tests/media/cases` are made with ffmpeg; the others are made here.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from tests.media.clips import picture, run_ffmpeg
from tests.processors.comparison import unexplained
from tests.processors.work import Work, facts_of, video_of
from vidqueue.errors import VidqueueError, is_retryable
from vidqueue.media.jail.sandbox import ffmpeg_path
from vidqueue.progress import Progress

CASES = Path(__file__).parents[1] / "media" / "cases"
BOTH = ("transcode", "enhance")
CLIP = ("-f", "lavfi", "-i", "testsrc=size=160x90:rate=25:duration={seconds}")
# A tone that rises: unlike a constant one, it is like itself at one place only.
TONE = ("-f", "lavfi", "-i", "aevalsrc='0.4*sin(2*PI*(300+200*t)*t)':sample_rate=44100:duration={seconds}")
CODED = ("-c:v", "libx264", "-g", "25", "-pix_fmt", "yuv420p", "-c:a", "aac")


def ffmpeg(*words: str) -> None:
    subprocess.run([ffmpeg_path(), "-v", "error", "-y", *words], check=True)


def clip(path: Path, *words: str, seconds: int = 1) -> Path:
    """A clip with a tone; `words` come before its name."""
    ffmpeg(*(word.format(seconds=seconds) for word in (*CLIP, *TONE)), *CODED, *words, str(path))
    return path


@dataclass(frozen=True)
class Right:
    """What the result of a file must be: size, pictures, seconds, sound tracks and their seconds, words of warnings."""

    size: tuple[int, int] = (160, 90)
    sar: Fraction = Fraction(1)
    frames: int = 25
    seconds: float = 1.0
    audios: int = 1
    sound_s: float | None = None
    warned: tuple[str, ...] = ()


def _box(name: bytes, content: bytes) -> bytes:
    return (len(content) + 8).to_bytes(4) + name + content


def _into_sample_entry(path: Path, entry: bytes, box: bytes) -> None:
    """Put a box into the sample entry of an MP4 file, and make every box around it longer."""
    content = bytearray(path.read_bytes())
    at, end = 0, len(content)
    for name in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", entry):
        while bytes(content[at + 4 : at + 8]) != name:
            at += int.from_bytes(content[at : at + 4])
        size = int.from_bytes(content[at : at + 4])
        end = at + size
        content[at : at + 4] = (size + len(box)).to_bytes(4)
        at += 16 if name == b"stsd" else 8
    # The index stands behind the pictures, so their places stay as they are.
    content[end:end] = box
    path.write_bytes(content)


def _as_dolby_vision(path: Path, profile: int) -> None:
    bits = profile << 9 | 1 << 3 | 0b101  # level 1, metadata and base layer present
    _into_sample_entry(path, b"hvc1", _box(b"dvcC", bytes([1, 0]) + bits.to_bytes(2, "big") + bytes(20)))


def _joined(folder: Path) -> Path:
    """A recorder that was restarted: the clock begins again."""
    parts = clip(folder / "one.ts", seconds=2), clip(folder / "two.ts")
    path = folder / "joined.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def _jumping(folder: Path) -> Path:
    parts = clip(folder / "one.ts", seconds=2), clip(folder / "two.ts", "-output_ts_offset", "600")
    path = folder / "jumping.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def _begun_in_the_middle(folder: Path) -> Path:
    """A broadcast that was switched on between two key pictures, the second of which comes after two seconds."""
    whole = clip(folder / "whole.ts", "-g", "50", "-keyint_min", "50", "-sc_threshold", "0", "-bf", "0", seconds=4)
    content = whole.read_bytes()
    path = folder / "middle.ts"
    # Tables first, as broadcasts repeat them, then everything from the middle of the first group on.
    path.write_bytes(content[: 188 * 3] + content[len(content) // 4 // 188 * 188 :])
    return path


def _two_programs(folder: Path) -> Path:
    path = folder / "programs.ts"
    big = ("-f", "lavfi", "-i", "testsrc2=size=240x136:rate=25:duration=1")
    sources = [word.format(seconds=1) for word in (*CLIP, *TONE, *big, *TONE)]
    maps = ("-map", "0", "-map", "1", "-map", "2", "-map", "3")
    programs = ("-program", "title=One:st=0:st=1", "-program", "title=Two:st=2:st=3")
    ffmpeg(*sources, *maps, *CODED, "-c:a", "mp2", *programs, str(path))
    return path


def _with_fonts(folder: Path) -> Path:
    font = folder / "font.ttf"
    font.write_bytes(b"\0\1\0\0" + bytes(64))
    attached = [
        word for number in range(40) for word in ("-attach", str(font), f"-metadata:s:t:{number}", "mimetype=font/ttf")
    ]
    return clip(folder / "fonts.mkv", *attached)


def _untimed(folder: Path) -> Path:
    return clip(folder / "untimed.avi", "-c:a", "pcm_s16le", "-bf", "0")


def _late(folder: Path) -> Path:
    return clip(folder / "late.mkv", "-output_ts_offset", "7200")


def _interlaced(folder: Path) -> Path:
    return clip(
        folder / "interlaced.mp4", "-vf", "pad=160:96,setfield=tff", "-flags", "+ilme+ildct", "-x264-params", "tff=1"
    )


def _empty_track(folder: Path) -> Path:
    """A second sound track in which nothing ever comes."""
    path = folder / "empty.mkv"
    sources = [word.format(seconds=1) for word in (*CLIP, *TONE, *TONE)]
    ffmpeg(*sources, "-map", "0", "-map", "1", "-map", "2", "-filter:a:1", "atrim=end=0", *CODED, str(path))
    return path


def _turned(folder: Path) -> Path:
    """Uneven times, wide pixels, a quarter turn, and sound that begins before the picture."""
    upright = folder / "upright.mov"
    sources = [word.format(seconds=1) for word in ("-itsoffset", "0.2", *CLIP, *TONE)]
    uneven = "setsar=4/3,settb=1/90000,setpts=PTS+eq(mod(N\\,3)\\,1)*1800"
    times = ("-fps_mode", "passthrough", "-enc_time_base", "1/90000")
    ffmpeg(*sources, "-vf", uneven, *CODED, *times, str(upright))
    path = folder / "turned.mov"
    ffmpeg("-display_rotation", "90", "-i", str(upright), "-c", "copy", str(path))
    return path


def _deep(folder: Path) -> Path:
    tags = "setparams=range=tv:colorspace=bt2020nc:color_primaries=bt2020:color_trc=bt2020-10"
    deep = ("-c:v", "libx265", "-x265-params", "log-level=error", "-pix_fmt", "yuv420p10le")
    return clip(folder / "deep.mp4", "-vf", f"scale=out_color_matrix=bt2020,{tags}", *deep)


def _full_range(folder: Path) -> Path:
    tags = "setparams=range=pc:colorspace=smpte170m:color_primaries=smpte170m:color_trc=smpte170m"
    return clip(folder / "full.mkv", "-vf", f"scale=out_range=pc,format=yuv420p,{tags}")


def _vp8(folder: Path) -> Path:
    """A codec that knows one matrix only, in a size for which players assume another."""
    big = ("-f", "lavfi", "-i", "testsrc=size=1280x720:rate=25:duration=0.2")
    path = folder / "big.webm"
    ffmpeg(*big, "-c:v", "libvpx", "-b:v", "4M", "-deadline", "realtime", "-cpu-used", "8", str(path))
    return path


def _hdr10(folder: Path) -> Path:
    """PQ with the display on which it was made, and its brightest pixel; both stand in the pictures only."""
    display = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"
    coded = ("-c:v", "libx265", "-x265-params", f"log-level=error:master-display={display}:max-cll=1000,400")
    tags = "setparams=range=tv:colorspace=bt2020nc:color_primaries=bt2020:color_trc=smpte2084"
    return clip(folder / "hdr10.mp4", "-vf", f"format=yuv420p10le,{tags}", "-pix_fmt", "yuv420p10le", *coded)


def _spherical(folder: Path) -> Path:
    """A 360 degree video, as cameras write them."""
    path = clip(folder / "sphere.mp4", "-an")
    shape = _box(b"prhd", bytes(16)) + _box(b"equi", bytes(20))
    _into_sample_entry(path, b"avc1", _box(b"sv3d", _box(b"svhd", bytes(4) + b"x\0") + _box(b"proj", shape)))
    return path


def _open_gop(name: str) -> Callable[[Path], Path]:
    """H.265 cut at a key picture that pictures of the group before it follow (RASL): nobody can decode those."""

    def made(folder: Path) -> Path:
        whole = clip(
            folder / "whole.ts", "-an", "-c:v", "libx265", "-x265-params",
            "log-level=error:open-gop=1:keyint=25:min-keyint=25:bframes=4:scenecut=0", seconds=3,
        )  # fmt: skip
        path = folder / name
        ffmpeg("-ss", "1.5", "-i", str(whole), "-c", "copy", str(path))
        return path

    return made


def _edited(folder: Path) -> Path:
    """Half a second that an edit list hides."""
    whole = clip(folder / "whole.mp4", "-g", "100", seconds=2)
    path = folder / "edited.mp4"
    ffmpeg("-ss", "0.5", "-i", str(whole), "-c", "copy", str(path))
    return path


def _one_pixel(folder: Path) -> Path:
    path = folder / "one.mov"
    source = ("-f", "lavfi", "-i", "color=red:size=16x16:rate=25:duration=0.4")
    ffmpeg(*source, "-vf", "format=rgb24,crop=1:1:0:0:exact=1", "-c:v", "png", str(path))
    return path


def _clean_aperture(folder: Path) -> Path:
    path = clip(folder / "clap.mp4", "-an")
    middle = (120, 1, 60, 1, 0, 1, 0, 1)
    _into_sample_entry(path, b"avc1", _box(b"clap", b"".join(value.to_bytes(4) for value in middle)))
    return path


def _two_sizes(folder: Path) -> Path:
    parts = (
        clip(folder / "one.ts", "-an", "-bf", "0"),
        clip(folder / "two.ts", "-an", "-bf", "0", "-s", "320x180", "-output_ts_offset", "1"),
    )
    path = folder / "sizes.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


FILES: dict[str, tuple[str | Callable[[Path], Path], Right | dict[str, Right]]] = {
    "timecode track": ("tmcd.mov", Right()),
    "second sound track that nobody can decode": ("apac.mov", Right(warned=("Sound track 2 has the codec",))),
    "cropping in the container": ("pixelcrop.mkv", Right(size=(320, 180), frames=50, seconds=2, audios=0)),
    "DVB sound": ("latm.ts", Right()),
    "transparency": ("prores4444.mov", Right(audios=0, warned=("blended with black",))),
    "clock that begins again": (_joined, Right(frames=75, seconds=3, warned=("begins again",))),
    "clock that jumps": (_jumping, Right(frames=75, seconds=3, warned=("begins again or jumps",))),
    "begins in the middle of a group of pictures": (
        _begun_in_the_middle,
        Right(frames=50, seconds=2, sound_s=3, warned=("are left out",)),
    ),
    "two programs": (_two_programs, Right(size=(240, 136), warned=("another program",))),
    "forty fonts": (_with_fonts, Right(warned=("40 attached files are left out",))),
    "turned, uneven, wide pixels": (_turned, Right(size=(90, 160), sar=Fraction(3, 4), sound_s=1)),
    "ten bits of BT.2020": (_deep, Right()),
    "HDR10": (_hdr10, {"enhance": Right(), "transcode": Right(warned=("HDR was converted",))}),
    "360 degrees": (_spherical, Right(audios=0)),
    "open group of pictures in MPEG-TS": (
        _open_gop("cut.ts"),
        Right(frames=25, seconds=1, audios=0, warned=("The first 3 pictures are left out",)),
    ),
    "open group of pictures in Matroska": (
        _open_gop("cut.mkv"),
        Right(frames=25, seconds=1, audios=0, warned=("The first 3 pictures are left out",)),
    ),
    "open group of pictures in MP4": (_open_gop("cut.mp4"), Right(audios=0)),
    "edit list": (_edited, Right(frames=37, seconds=1.48)),
    "one pixel": (_one_pixel, Right(size=(2, 2), frames=10, seconds=0.4, audios=0)),
    "clean aperture": (_clean_aperture, Right(size=(120, 60), audios=0)),
    "another size midway": (_two_sizes, Right(frames=50, seconds=2, audios=0)),
    "full range": (_full_range, Right()),
    "VP8 in high definition": (_vp8, Right(size=(1280, 720), frames=5, seconds=0.2, audios=0)),
    "no times of presentation": (_untimed, Right()),
    "clock that starts after two hours": (_late, Right()),
    "interlaced": (_interlaced, Right(size=(160, 96), warned=("interlaced",))),
    "empty sound track": (_empty_track, Right(warned=("Sound track 2 is empty",))),
}


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("processor", BOTH)
def test_a_file_of_this_kind_comes_out_right(processor: str, kind: str, tmp_path: Path) -> None:
    made, known = FILES[kind]
    right = known if isinstance(known, Right) else known[processor]
    path = CASES / made if isinstance(made, str) else made(tmp_path)
    output = Work(processor, path, tmp_path / "work").run(quality="high")
    facts = facts_of(output)
    video = video_of(facts)
    assert (video.upright, video.sar, video.frames) == (right.size, right.sar, right.frames)
    assert video.duration_s == pytest.approx(right.seconds, abs=0.05)
    assert len(facts.audios) == right.audios
    for audio in facts.audios:
        assert audio.duration_s == pytest.approx(right.sound_s or right.seconds, abs=0.2)
    warnings = output.facts["warnings"]
    assert len(warnings) == len(right.warned), warnings
    assert all(words in said for words, said in zip(right.warned, warnings, strict=True)), warnings
    assert unexplained(path, output.path, warnings) == []


@pytest.mark.parametrize("processor", BOTH)
@pytest.mark.parametrize("container", ["mp4", "mkv"])
def test_tracks_chapters_and_titles_are_kept(processor: str, container: str, tmp_path: Path) -> None:
    source = CASES / "langs.mkv"
    output = Work(processor, source, tmp_path / "work").run(container=container, quality="high")
    facts = facts_of(output)
    assert [(audio.language, audio.default) for audio in facts.audios] == [("ger", False), ("eng", True)]
    assert [(one.language, one.default, one.forced) for one in facts.subtitle_tracks] == [("eng", True, True)]
    assert (output.facts["warnings"], facts.chapters) == ([], 2)
    assert unexplained(source, output.path, []) == []
    tags = run_ffmpeg("-i", output.path, "-map", "0:a", "-c", "copy", "-f", "ffmetadata", "-").stdout.decode()
    assert ("Commentary" in tags, "Deutsch" in tags, "Two" in tags) == (True, True, True)
    assert "Hello" in run_ffmpeg("-i", output.path, "-map", "0:s:0", "-f", "srt", "-").stdout.decode()


@pytest.mark.parametrize("processor", BOTH)
def test_dolby_vision_without_a_base_layer_is_refused_and_never_green(processor: str, tmp_path: Path) -> None:
    for profile in (5, 8):
        path = clip(
            tmp_path / f"profile{profile}.mp4",
            "-an",
            "-c:v",
            "libx265",
            "-x265-params",
            "log-level=error",
            "-tag:v",
            "hvc1",
        )
        _as_dolby_vision(path, profile)
        if profile == 8:
            output = Work(processor, path, tmp_path / "work").run()
            assert video_of(facts_of(output)).frames == 25
            assert ["Dolby Vision is left out" in said for said in output.facts["warnings"]] == [True]
            continue
        with pytest.raises(VidqueueError) as caught:
            Work(processor, path, tmp_path / "refused").run()
        assert (caught.value.code, "Dolby Vision profile 5" in caught.value.message) == ("unsupported_codec", True)


def test_what_is_hidden_behind_transparency_does_not_appear(tmp_path: Path) -> None:
    output = Work("transcode", CASES / "prores4444.mov", tmp_path / "work").run(quality="high")
    shown = picture(output.path)
    left, right = shown[:, :70].mean(axis=(0, 1)), shown[:, 90:].mean(axis=(0, 1))
    assert left.max() < 10, "the transparent half is black"
    assert right[0] > 200, "the opaque half is red"


def test_hdr_becomes_bt709_in_eight_bits_and_stays_in_ten(tmp_path: Path) -> None:
    eight = Work("transcode", CASES / "hdr10.mp4", tmp_path / "eight").run()
    assert video_of(facts_of(eight)).colour.transfer == "bt709"
    assert eight.facts["warnings"] == [
        "HDR was converted to SDR (BT.709), because the result has 8 bits; codec h265 keeps it."
    ]
    # Bars of full colour stay so; tagged as PQ in eight bits they would be grey and dark.
    bars = picture(eight.path)
    assert np.ptp(bars, axis=2).max() > 200
    ten = Work("transcode", CASES / "hdr10.mp4", tmp_path / "ten").run(codec="h265")
    assert video_of(facts_of(ten)).colour.transfer == "smpte2084"
    assert ten.facts["warnings"] == []


def test_surround_sound_with_channels_at_the_side_goes_into_webm(tmp_path: Path) -> None:
    source = clip(tmp_path / "side.mkv", "-c:a", "ac3", "-af", "pan=5.1(side)|c0=c0|c1=c0|c2=c0|c3=c0|c4=c0|c5=c0")
    facts = facts_of(Work("transcode", source, tmp_path / "work").run(container="webm"))
    assert [(audio.codec, audio.channel_layout) for audio in facts.audios] == [("opus", "5.1")]


def test_sound_that_nobody_can_decode_is_refused_unless_it_is_dropped(tmp_path: Path) -> None:
    only = tmp_path / "only.mov"
    ffmpeg("-i", str(CASES / "apac.mov"), "-map", "0:0", "-map", "0:2", "-c", "copy", str(only))
    with pytest.raises(VidqueueError) as caught:
        Work("transcode", only, tmp_path / "kept").run()
    assert (caught.value.code, "apac" in caught.value.message) == ("unsupported_codec", True)
    facts = facts_of(Work("transcode", only, tmp_path / "dropped").run(audio="drop"))
    assert (video_of(facts).frames, facts.audios) == (25, ())


def test_an_encrypted_file_says_so(tmp_path: Path) -> None:
    key = ("-encryption_scheme", "cenc-aes-ctr", "-encryption_key", "7" * 32, "-encryption_kid", "a" * 32)
    path = clip(tmp_path / "locked.mp4", *key)
    for processor in BOTH:
        with pytest.raises(VidqueueError) as caught:
            Work(processor, path, tmp_path / processor).run()
        assert caught.value.code == "encrypted"


@pytest.mark.parametrize("processor", BOTH)
def test_a_file_that_grows_while_it_is_read_is_no_success(processor: str, tmp_path: Path) -> None:
    path = clip(tmp_path / "growing.ts", seconds=2)
    rest = clip(tmp_path / "rest.ts", "-output_ts_offset", "2").read_bytes()

    def grow(progress: Progress) -> None:
        if progress.stage != "probe" and path.stat().st_size < 2 * len(rest):
            path.write_bytes(path.read_bytes() + rest)

    work = Work(processor, path, tmp_path / "work", on_progress=grow)
    with pytest.raises(VidqueueError) as caught:
        work.run()
    assert (caught.value.code, is_retryable(caught.value.code)) == ("input_changed", True)
