"""Files of kinds that people met with other tools: the right picture, size, length and sound, or a sentence why not.

The files under `tests/media/cases` are made with ffmpeg; the others are made here.
"""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from tests.media.clips import decoded_times, picture, run_ffmpeg
from tests.processors.comparison import unexplained, worst_psnr
from tests.processors.work import Work, facts_of, outputs, video_of
from vidqueue.errors import VidqueueError, is_retryable
from vidqueue.limits import Limits
from vidqueue.media.closed_captions import lost_captions
from vidqueue.media.jail.sandbox import SandboxLimits, ffmpeg_path
from vidqueue.media.probe import probe
from vidqueue.media.source import check_source
from vidqueue.media.verify import playable_video
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


def box(name: bytes, content: bytes) -> bytes:
    return (len(content) + 8).to_bytes(4) + name + content


def into_sample_entry(path: Path, entry: bytes, box: bytes) -> None:
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
    into_sample_entry(path, b"hvc1", box(b"dvcC", bytes([1, 0]) + bits.to_bytes(2, "big") + bytes(20)))


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


def _jumping_elsewhere(folder: Path) -> Path:
    """The same in a container whose clock never begins again: it is told, and nothing is left out."""
    path = folder / "jumping.mkv"
    ffmpeg("-copyts", "-i", str(_jumping(folder)), "-c", "copy", "-copyts", str(path))
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


def _packed(folder: Path) -> Path:
    """MPEG-4 in AVI as DivX wrote it: a B picture lies in the packet before its own, which is empty."""
    path = clip(folder / "loose.avi", "-an", "-c:v", "mpeg4", "-bf", "1", "-q:v", "2", "-sc_threshold", "1000000000")
    content = path.read_bytes()
    begin = content.index(b"movi") + 4
    packets, at = [], begin
    while content[at : at + 4] == b"00dc":
        size = int.from_bytes(content[at + 4 : at + 8], "little")
        packets.append(content[at + 8 : at + 8 + size])
        at += 8 + size + size % 2
    first = packets[0].index(b"\0\0\1\xb6")
    packets[0] = packets[0][:first] + b"\0\0\1\xb2DivX503b1393p" + packets[0][first:]
    empty = bytes.fromhex("000001b6504f")
    for number, packet in enumerate(packets):
        if packet[packet.index(b"\0\0\1\xb6") + 4] >> 6 == 2:  # the kind of a picture: I, P or B
            packets[number - 1], packets[number] = packets[number - 1] + packet, empty
    chunks, index, place = b"", b"", 4
    for packet in packets:
        length = len(packet).to_bytes(4, "little")
        index += b"00dc" + (16 if not chunks else 0).to_bytes(4, "little") + place.to_bytes(4, "little") + length
        chunks += b"00dc" + length + packet + bytes(len(packet) % 2)
        place = 4 + len(chunks)
    body = content[8 : begin - 8] + (len(chunks) + 4).to_bytes(4, "little") + b"movi" + chunks
    body += b"idx1" + len(index).to_bytes(4, "little") + index
    packed = folder / "packed.avi"
    packed.write_bytes(b"RIFF" + len(body).to_bytes(4, "little") + body)
    return packed


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


def turned(folder: Path) -> Path:
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


def spherical(folder: Path) -> Path:
    """A 360 degree video, as cameras write them."""
    path = clip(folder / "sphere.mp4", "-an")
    shape = box(b"prhd", bytes(16)) + box(b"equi", bytes(20))
    into_sample_entry(path, b"avc1", box(b"sv3d", box(b"svhd", bytes(4) + b"x\0") + box(b"proj", shape)))
    return path


def open_gop(name: str) -> Callable[[Path], Path]:
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


def edited(folder: Path) -> Path:
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
    into_sample_entry(path, b"avc1", box(b"clap", b"".join(value.to_bytes(4) for value in middle)))
    return path


def _uneven_cropping(folder: Path) -> Path:
    """Cropping to an odd number of pixels, wide pixels, and a quarter turn."""
    upright = clip(folder / "upright.mp4", "-an", "-vf", "setsar=4/3")
    path = folder / "cropped.mp4"
    ffmpeg("-display_rotation", "90", "-i", str(upright), "-c", "copy", str(path))
    uneven = (121, 1, 61, 1, 0, 1, 0, 1)
    into_sample_entry(path, b"avc1", box(b"clap", b"".join(value.to_bytes(4) for value in uneven)))
    return path


def _odd_sides(folder: Path) -> Path:
    """Odd sides with a sample of colour for each pixel, and a shape of pixels that takes three digits to tell."""
    return clip(folder / "odd.mp4", "-an", "-vf", "scale=161:91,setsar=208/207:max=1000", "-pix_fmt", "yuv444p")


def transparent_webm(folder: Path) -> Path:
    """A half that shows nothing; WebM stores transparency beside the pictures, where ffmpeg's own decoder sees none."""
    half = "format=rgba,geq=r='r(X,Y)':g='g(X,Y)':b='b(X,Y)':a='255*lt(X,80)',format=yuva420p"
    vp9 = (
        "-c:v",
        "libvpx-vp9",
        "-cpu-used",
        "8",
        "-crf",
        "15",
        "-b:v",
        "0",
        "-auto-alt-ref",
        "0",
        "-pix_fmt",
        "yuva420p",
    )
    return clip(folder / "transparent.webm", "-vf", half, *vp9, "-c:a", "libopus")


_MPEG2 = ("-c:v", "mpeg2video", "-g", "15", "-bf", "2", "-q:v", "2", "-c:a", "mp2")


def _mpeg2_cut(folder: Path) -> Path:
    """MPEG-2 cut at an open group: the two pictures before the first key picture got its very time."""
    whole = clip(folder / "whole.mkv", *_MPEG2, seconds=3)
    path = folder / "cut.mkv"
    ffmpeg("-ss", "1.5", "-i", str(whole), "-c", "copy", str(path))
    return path


def _mpeg_begun_in_the_middle(folder: Path) -> Path:
    """The same in MPEG-PS, which leaves the time of the first key picture out, with the end of a group before it."""
    content = clip(folder / "whole.mpg", *_MPEG2, "-an", seconds=3).read_bytes()
    path = folder / "middle.mpg"
    path.write_bytes(content[len(content) // 4 // 2048 * 2048 :])
    return path


def two_sizes(folder: Path) -> Path:
    return two_recordings(folder, ("-an", "-bf", "0"), ("-an", "-bf", "0", "-s", "320x180"))


def _begun_later(folder: Path) -> Path:
    """A live stream in fragments of which the first are missing: its clock begins with the second second."""
    parts = ("-movflags", "frag_keyframe+empty_moov+default_base_moof")
    content = clip(folder / "live.mp4", *parts, seconds=2).read_bytes()
    first = content.index(b"moof") - 4
    path = folder / "later.mp4"
    path.write_bytes(content[:first] + content[content.index(b"moof", first + 8) - 4 :])
    return path


def _logarithmic(folder: Path) -> Path:
    """What a camera records for grading; ffmpeg's scaler knows no such curve."""
    curve = ("-vf", "format=yuv422p10le,setparams=color_trc=log100", "-pix_fmt", "yuv422p10le")
    return clip(folder / "log.mov", "-an", "-c:v", "prores_ks", "-frames:v", "5", *curve)


def _ycgco(folder: Path) -> Path:
    """A matrix of screen recorders, which ffmpeg's scaler does not know either."""
    matrix = ("-vf", "format=yuv444p,setparams=colorspace=ycgco", "-pix_fmt", "yuv444p")
    return clip(folder / "green.mkv", "-an", "-frames:v", "5", *matrix)


def _stereoscopic(folder: Path) -> Path:
    """The views of both eyes beside each other, as Matroska marks them."""
    return clip(folder / "eyes.mkv", "-an", "-frames:v", "5", "-metadata:s:v", "stereo_mode=left_right")


def _growing_surround(folder: Path) -> Path:
    """A broadcast whose AC-3 has two channels, and six as soon as the film begins."""
    coded = ("-bf", "0", "-c:a", "ac3")
    wide = ("-af", "pan=5.1(side)|c0=c0|c1=c0|c2=c0|c3=c0|c4=c0|c5=c0")
    return two_recordings(folder, (*coded, "-ac", "2"), (*coded, *wide))


def captioned(folder: Path) -> Path:
    """A broadcast with closed captions (CEA-608), two bytes with each picture."""
    path = folder / "captioned.h264"
    clip(folder / "plain.mp4", "-an", "-frames:v", "5")
    ffmpeg(
        "-i", str(folder / "plain.mp4"), "-c", "copy", "-bsf:v", "h264_mp4toannexb,h264_metadata=aud=insert", str(path)
    )
    mark = b"\0\0\0\1\x09"
    caption = b"\xb5\0\x31GA94\x03\xc1\xff\xfc\x94\x20\xff"
    message = b"\0\0\0\1\x06" + bytes([4, len(caption)]) + caption + b"\x80"
    first, *pictures = path.read_bytes().split(mark)
    path.write_bytes(first + b"".join(mark + one[:1] + message + one[1:] for one in pictures))
    ffmpeg(
        "-framerate", "25", "-i", str(path), "-c", "copy", "-bsf:v", "setts=ts=N/25/TB", str(folder / "captioned.mkv")
    )
    return folder / "captioned.mkv"


def _two_matrices(folder: Path) -> Path:
    """A recording of two broadcasts that describe their colours differently."""
    tags = [f"setparams=colorspace={name}:color_primaries={name}:color_trc={name}" for name in ("bt709", "smpte170m")]
    return two_recordings(folder, ("-an", "-bf", "0", "-vf", tags[0]), ("-an", "-bf", "0", "-vf", tags[1]))


def _two_shapes(folder: Path) -> Path:
    """A recording of a broadcast in 4:3 and of one in 16:9."""
    wide = ("-c:v", "mpeg2video", "-q:v", "2", "-an", "-bf", "0", "-aspect")
    return two_recordings(folder, (*wide, "4:3"), (*wide, "16:9"))


def two_sounds(folder: Path) -> Path:
    """A recording of a broadcast in mono and of one in stereo."""
    return two_recordings(folder, ("-bf", "0", "-ac", "1"), ("-bf", "0", "-ac", "2", "-ar", "44100"))


def two_recordings(folder: Path, first: tuple[str, ...], second: tuple[str, ...]) -> Path:
    parts = clip(folder / "one.ts", *first), clip(folder / "two.ts", *second, "-output_ts_offset", "1")
    path = folder / "parts.ts"
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
    "clock that jumps where clocks do not begin again": (
        _jumping_elsewhere,
        Right(frames=75, seconds=600.92, sound_s=601, warned=("For 598 s nothing is shown or heard",)),
    ),
    "begins in the middle of a group of pictures": (
        _begun_in_the_middle,
        Right(frames=50, seconds=2, sound_s=3, warned=("are left out",)),
    ),
    "two programs": (_two_programs, Right(size=(240, 136), warned=("another program",))),
    "forty fonts": (_with_fonts, Right(warned=("40 attached files are left out",))),
    "turned, uneven, wide pixels": (turned, Right(size=(90, 160), sar=Fraction(3, 4), sound_s=1)),
    "ten bits of BT.2020": (_deep, Right()),
    "HDR10": (_hdr10, {"enhance": Right(), "transcode": Right(warned=("HDR was converted",))}),
    "360 degrees": (spherical, Right(audios=0)),
    "open group of pictures in MPEG-TS": (
        open_gop("cut.ts"),
        Right(frames=25, seconds=1, audios=0, warned=("The first 3 pictures are left out",)),
    ),
    "open group of pictures in Matroska": (
        open_gop("cut.mkv"),
        Right(frames=25, seconds=1, audios=0, warned=("The first 3 pictures are left out",)),
    ),
    "open group of pictures in MP4": (open_gop("cut.mp4"), Right(audios=0)),
    "edit list": (edited, Right(frames=37, seconds=1.48)),
    "one pixel": (_one_pixel, Right(size=(2, 2), frames=10, seconds=0.4, audios=0)),
    "clean aperture": (_clean_aperture, Right(size=(120, 60), audios=0)),
    "another size midway": (two_sizes, Right(frames=50, seconds=2, audios=0, warned=("changes midway to 320x180",))),
    "other colours midway": (_two_matrices, Right(frames=50, seconds=2, audios=0)),
    "other shape of pixels midway": (
        _two_shapes,
        Right(frames=50, seconds=2, sar=Fraction(3, 4), audios=0, warned=("The shape of the pixels changes midway",)),
    ),
    "other channels midway": (
        two_sounds,
        Right(frames=50, seconds=2, warned=("begins again", "change midway to stereo")),
    ),
    "more channels midway": (
        _growing_surround,
        Right(frames=50, seconds=2, warned=("says those of its beginning (stereo)",)),
    ),
    "live stream whose first part is missing": (_begun_later, Right()),
    "transfer of a camera": (_logarithmic, Right(frames=5, seconds=0.2, audios=0)),
    "YCgCo": (_ycgco, Right(frames=5, seconds=0.2, audios=0)),
    "3D": (_stereoscopic, Right(frames=5, seconds=0.2, audios=0, warned=("3D (side by side) is left out",))),
    "full range": (_full_range, Right()),
    "VP8 in high definition": (_vp8, Right(size=(1280, 720), frames=5, seconds=0.2, audios=0)),
    "no times of presentation": (_untimed, Right()),
    "packed B pictures in AVI": (_packed, Right(audios=0)),
    "clock that starts after two hours": (_late, Right()),
    "interlaced": (_interlaced, Right(size=(160, 96), warned=("interlaced",))),
    "cropping to odd sides": (_uneven_cropping, Right(size=(60, 120), sar=Fraction(3, 4), audios=0)),
    "odd sides": (_odd_sides, Right(size=(160, 90), sar=Fraction(208, 207), audios=0)),
    "transparency in WebM": (transparent_webm, Right(warned=("blended with black",))),
    "open group of MPEG-2": (_mpeg2_cut, Right(frames=45, seconds=1.8, warned=("The first 2 pictures are left out",))),
    "MPEG-PS that begins in the middle of a group": (
        _mpeg_begun_in_the_middle,
        Right(frames=45, seconds=1.8, audios=0, warned=("pictures are left out",)),
    ),
    "empty sound track": (_empty_track, Right(warned=("Sound track 2 is empty",))),
}


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("processor", BOTH)
def test_a_file_of_this_kind_comes_out_right(processor: str, kind: str, tmp_path: Path) -> None:
    made, known = FILES[kind]
    right = known if isinstance(known, Right) else known[processor]
    path = CASES / made if isinstance(made, str) else made(tmp_path)
    work = Work(processor, path, tmp_path / "work")
    output = work.run(quality="high")
    # What ffmpeg calls an error is none of a job that succeeds.
    assert "error" not in {line.level for line in work.log}
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


MATRICES = {"bt601": "smpte170m", "bt709": "bt709", "bt2020": "bt2020"}


@pytest.mark.parametrize("depth", [8, 10])
@pytest.mark.parametrize("spread", ["tv", "pc"])
@pytest.mark.parametrize("matrix", MATRICES)
def test_pictures_survive_a_round_trip(matrix: str, spread: str, depth: int, tmp_path: Path) -> None:
    """Through the frames and back, upright and with their times, at the quality where nothing is changed."""
    name = MATRICES[matrix]
    space, transfer = ("bt2020nc", "bt2020-10") if name == "bt2020" else (name, name)
    pixels = "yuv420p" if depth == 8 else "yuv420p10le"
    tags = f"setparams=range={spread}:colorspace={space}:color_primaries={name}:color_trc={transfer}"
    uneven = "settb=1/90000,setpts=PTS+eq(mod(N\\,3)\\,1)*1800"
    deep = () if depth == 8 else ("-c:v", "libx265", "-x265-params", "log-level=error:qp=8")
    upright = clip(
        tmp_path / "upright.mp4", "-an", "-vf",
        f"scale=out_color_matrix={matrix}:out_range={spread},format={pixels},{tags},{uneven}", "-pix_fmt", pixels,
        "-qp", "8", *deep, "-fps_mode", "passthrough", "-enc_time_base", "1/90000",
    )  # fmt: skip
    source = upright
    if spread == "tv":
        source = tmp_path / "turned.mp4"
        ffmpeg("-display_rotation", "90", "-i", str(upright), "-c", "copy", str(source))
    output = Work("enhance", source, tmp_path / "work").run()
    assert (unexplained(source, output.path, []), output.facts["warnings"]) == ([], [])
    assert worst_psnr(source, output.path) >= 45


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


@pytest.mark.parametrize("processor", BOTH)
def test_what_webm_hides_behind_transparency_does_not_appear(processor: str, tmp_path: Path) -> None:
    path = transparent_webm(tmp_path)
    shown = picture(Work(processor, path, tmp_path / "work").run(quality="high").path)
    assert shown[:, 90:].max() < 10, "the transparent half is black"
    assert shown[:, :70].max() > 200, "the other half is as it was"
    if processor == "transcode":
        kept = Work(processor, path, tmp_path / "kept").run(container="webm", codec="vp9")
        assert (video_of(facts_of(kept)).pixel_format, kept.facts["warnings"]) == ("yuva420p", [])


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


@pytest.mark.parametrize("processor", BOTH)
def test_surround_sound_with_channels_at_the_side_goes_into_webm(processor: str, tmp_path: Path) -> None:
    source = clip(tmp_path / "side.mkv", "-c:a", "ac3", "-af", "pan=5.1(side)|c0=c0|c1=c0|c2=c0|c3=c0|c4=c0|c5=c0")
    facts = facts_of(Work(processor, source, tmp_path / "work").run(container="webm"))
    assert [(audio.codec, audio.channel_layout) for audio in facts.audios] == [("opus", "5.1")]


def picture_subtitles(path: Path) -> None:
    """A Blu-ray subtitle (PGS): one white line for half a second."""
    position = (160).to_bytes(2) + (90).to_bytes(2) + b"\x10"
    line = bytes([0, 0x80 | 32, 1, 0, 0])  # 32 pixels of colour 1, and the end of the line
    shown = [
        (0x16, position + b"\0\1\x80\0\0\1" + b"\0\0\0\0" + (64).to_bytes(2) + (70).to_bytes(2)),
        (0x17, b"\1\0" + b"".join(side.to_bytes(2) for side in (64, 70, 32, 2))),
        (0x14, b"\0\0" + bytes([1, 235, 128, 128, 255])),
        (0x15, b"\0\0\0\xc0" + (4 + 2 * len(line)).to_bytes(3) + (32).to_bytes(2) + (2).to_bytes(2) + 2 * line),
        (0x80, b""),
    ]
    gone = [
        (0x16, position + b"\0\2\0\0\0\0"), (0x17, b"\1\0" + b"".join(side.to_bytes(2) for side in (64, 70, 32, 2))),
        (0x80, b""),
    ]  # fmt: skip
    segments = b""
    for seconds, parts in ((0.2, shown), (0.7, gone)):
        for kind, content in parts:
            times = round(seconds * 90_000).to_bytes(4) + bytes(4)
            segments += b"PG" + times + bytes([kind]) + len(content).to_bytes(2) + content
    path.write_bytes(segments)


@pytest.mark.parametrize("processor", BOTH)
def test_subtitles_that_are_pictures_are_kept_in_mkv_and_told_elsewhere(processor: str, tmp_path: Path) -> None:
    picture_subtitles(tmp_path / "text.sup")
    source = tmp_path / "disc.mkv"
    words = (word.format(seconds=1) for word in CLIP)
    ffmpeg(*words, "-i", str(tmp_path / "text.sup"), "-map", "0", "-map", "1", "-c:v", "libx264", "-c:s", "copy",
           "-metadata:s:s:0", "language=ger", str(source))  # fmt: skip
    kept = Work(processor, source, tmp_path / "mkv").run(container="mkv")
    tracks = [(one.codec, one.language) for one in facts_of(kept).subtitle_tracks]
    assert (tracks, kept.facts["warnings"]) == ([("hdmv_pgs_subtitle", "ger")], [])
    for wish, said in {
        "keep": "Subtitle track 1 (hdmv_pgs_subtitle) is left out",
        "burn": "its subtitles are pictures",
    }.items():
        other = Work(processor, source, tmp_path / wish).run(container="mp4", subtitles=wish)
        assert facts_of(other).subtitles == 0
        assert any(said in one for one in other.facts["warnings"])


def test_sound_that_nobody_can_decode_is_refused_unless_it_is_dropped(tmp_path: Path) -> None:
    only = tmp_path / "only.mov"
    ffmpeg("-i", str(CASES / "apac.mov"), "-map", "0:0", "-map", "0:2", "-c", "copy", str(only))
    with pytest.raises(VidqueueError) as caught:
        Work("transcode", only, tmp_path / "kept").run()
    assert (caught.value.code, "apac" in caught.value.message) == ("unsupported_codec", True)
    facts = facts_of(Work("transcode", only, tmp_path / "dropped").run(audio="drop"))
    assert (video_of(facts).frames, facts.audios) == (25, ())


def test_sound_whose_rate_only_its_decoder_knows_can_be_dropped(tmp_path: Path) -> None:
    """ffmpeg lists nothing of a broadcast with such a track (SMPTE 302M) unless the track is left out."""
    path = clip(tmp_path / "studio.ts", "-c:a", "s302m", "-ar", "48000", "-ac", "2", "-strict", "-2")
    with pytest.raises(VidqueueError) as caught:
        Work("transcode", path, tmp_path / "kept").run()
    assert (caught.value.code, "s302m" in caught.value.message) == ("unsupported_codec", True)
    facts = facts_of(Work("transcode", path, tmp_path / "dropped").run(audio="drop"))
    assert (video_of(facts).frames, facts.audios) == (25, ())
    facts = facts_of(Work("transcode", path, tmp_path / "cut").run(audio="drop", start_s=0.4))
    assert (video_of(facts).frames, facts.audios) == (15, ())
    pictures = outputs("thumbnails", "video", path, tmp_path / "pictures", poster_at_s=0.4, sheet=False, sprite=False)
    assert "poster.jpg" in pictures


@pytest.mark.parametrize(("share", "lost"), [(0.1, "warning"), (0.5, "fault")])
def test_sound_that_is_lost_in_decoding_is_told_or_a_fault(share: float, lost: str, tmp_path: Path) -> None:
    """A loss that no clock shows: the times of what is left are right."""
    sound = tmp_path / "sound.m4a"
    ffmpeg(*(word.format(seconds=3) for word in TONE), "-c:a", "aac", str(sound))
    content = bytearray(sound.read_bytes())
    start, length = content.index(b"mdat") + 4000, int(len(content) * share)
    content[start : start + length] = bytes([0xFF]) * length
    sound.write_bytes(content)
    path = tmp_path / "film.mp4"
    ffmpeg(*(word.format(seconds=3) for word in CLIP), "-i", str(sound), "-c:v", "libx264", "-c:a", "copy", str(path))
    for processor, wishes in {"transcode": {"audio": "reencode"}, "enhance": {"container": "webm"}}.items():
        work = Work(processor, path, tmp_path / processor)
        if lost == "warning":
            told = work.run(**wishes).facts["warnings"]
            assert "packets of sound track 1 could not be decoded" in told[-1]
        else:
            with pytest.raises(VidqueueError) as caught:
                work.run(**wishes)
            assert caught.value.code == "media_damaged"


def test_an_encrypted_file_says_so(tmp_path: Path) -> None:
    key = ("-encryption_scheme", "cenc-aes-ctr", "-encryption_key", "7" * 32, "-encryption_kid", "a" * 32)
    path = clip(tmp_path / "locked.mp4", *key)
    for processor in BOTH:
        with pytest.raises(VidqueueError) as caught:
            Work(processor, path, tmp_path / processor).run()
        assert caught.value.code == "encrypted"


def _scrambled(folder: Path) -> Path:
    """A broadcast for subscribers: tables are readable, pictures and sound are not."""
    content, dice = bytearray(clip(folder / "free.ts").read_bytes()), random.Random(1)
    for at in range(0, len(content), 188):
        if ((content[at + 1] & 0x1F) << 8 | content[at + 2]) in (0, 17, 4096):
            continue
        content[at + 3] |= 0x80
        begin = at + 4 + (1 + content[at + 4] if content[at + 3] & 0x20 else 0)
        content[begin : at + 188] = dice.randbytes(at + 188 - begin)
    path = folder / "scrambled.ts"
    path.write_bytes(content)
    return path


def _element(identifier: str, content: bytes) -> bytes:
    return bytes.fromhex(identifier) + (len(content) | 1 << 56).to_bytes(8) + content


def _locked(folder: Path, key: bytes) -> Path:
    """Matroska whose video track says that it is encrypted, with AES, by a key of this name or of none."""
    content = clip(folder / "open.mkv", "-an").read_bytes()
    # The first one is in the table of contents.
    tracks = content.index(bytes.fromhex("1654ae6b"), content.index(bytes.fromhex("1654ae6b")) + 4)
    width = 9 - content[tracks + 4].bit_length()
    head = tracks + 4 + width
    size = int.from_bytes(content[tracks + 4 : head]) - (1 << 7 * width)
    entry = content.index(b"\xae\x01", head)
    length = int.from_bytes(content[entry + 2 : entry + 9])
    how = _element("47e1", b"\5") + (_element("47e2", key) if key else b"")
    locked = _element("6d80", _element("6240", _element("5033", b"\1") + _element("5035", how)))
    track = _element("ae", content[entry + 9 : entry + 9 + length] + locked)
    rest = content[entry + 9 + length : head + size]
    path = folder / "locked.mkv"
    segment = content.index(bytes.fromhex("18538067"))
    # The length of all is not known any more.
    begin = content[: segment + 4] + b"\1" + b"\xff" * 7 + content[segment + 12 : tracks]
    path.write_bytes(begin + _element("1654ae6b", content[head:entry] + track + rest) + content[head + size :])
    return path


@pytest.mark.parametrize(
    "made", [_scrambled, lambda folder: _locked(folder, bytes(range(16))), lambda folder: _locked(folder, b"")],
    ids=["MPEG-TS", "Matroska", "Matroska without a key's name"],
)  # fmt: skip
def test_encryption_is_recognised_in_other_containers(made: Callable[[Path], Path], tmp_path: Path) -> None:
    path = made(tmp_path)
    for processor in (*BOTH, "verify"):
        field = "media" if processor == "verify" else "video"
        with pytest.raises(VidqueueError) as caught:
            outputs(processor, field, path, tmp_path / processor)
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


@pytest.mark.parametrize("words", [(), ("-bf", "0")], ids=["B pictures", "none"])
def test_a_broadcast_without_key_pictures_that_begins_midway_keeps_what_can_be_shown(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    refreshed = ("-c:v", "libx264", "-x264-params", "intra-refresh=1:keyint=50")
    whole = clip(tmp_path / "whole.ts", *refreshed, *words, seconds=6).read_bytes()
    path = tmp_path / "midway.ts"
    path.write_bytes(whole[len(whole) // 188 // 2 * 188 :])
    shown = len(decoded_times(path, 0))
    for processor in BOTH:
        output = Work(processor, path, tmp_path / processor).run()
        assert video_of(facts_of(output)).frames == shown
        assert [said for said in output.facts["warnings"] if "need others from before the file begins" in said]
        assert unexplained(path, output.path, output.facts["warnings"]) == []
    assert outputs("verify", "media", path, tmp_path / "verify")["report"].facts["ok"]


def captions(path: Path) -> int:
    return run_ffmpeg("-i", path, "-vf", "showinfo", "-f", "null", "-").stderr.count(b"Closed Captions: (")


def test_closed_captions_are_kept_in_the_codecs_of_broadcasts_and_told_elsewhere(tmp_path: Path) -> None:
    path = captioned(tmp_path)
    told = ["The closed captions are left out; transcode keeps them in H.264 and H.265."]
    assert captions(path) == 5
    for processor, wishes, kept in (
        ("transcode", {}, 5), ("transcode", {"codec": "h265"}, 5), ("transcode", {"container": "webm"}, 0),
        ("enhance", {}, 0),
    ):  # fmt: skip
        output = Work(processor, path, tmp_path / f"{processor}{len(wishes)}{kept}").run(**wishes)
        assert (captions(output.path), output.facts["warnings"]) == (kept, [] if kept else told)


def test_an_mp4_without_the_mark_of_captions_is_not_decoded_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marked, plain = tmp_path / "marked.mp4", tmp_path / "plain.mp4"
    ffmpeg("-i", str(captioned(tmp_path)), "-c", "copy", str(marked))
    bounds = SandboxLimits(Limits(), 60)
    video = playable_video(probe(marked, Limits()))
    assert lost_captions(check_source(marked), video, bounds)
    monkeypatch.setattr("vidqueue.media.ffmpeg.run", None)
    assert lost_captions(check_source(plain), video, bounds) == []


def test_a_copy_tells_that_its_sound_gains_channels_midway(tmp_path: Path) -> None:
    output = Work("transcode", _growing_surround(tmp_path), tmp_path / "work").run(codec="copy")
    assert any("says those of its beginning (stereo)" in warning for warning in output.facts["warnings"])


@pytest.mark.parametrize("made", [_logarithmic, _ycgco])
def test_colours_that_the_scaler_refuses_become_thumbnails_too(made: Callable[[Path], Path], tmp_path: Path) -> None:
    path = made(tmp_path)
    poster = outputs("thumbnails", "video", path, tmp_path / "work", preview="none", sprite=False)["poster.jpg"]
    assert poster.path.stat().st_size > 1000
