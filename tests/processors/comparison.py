"""Comparing a result with plain ffmpeg's own decode of its source, and naming every difference that nobody was told of.

Nothing here uses the program's own probe: streams, times, pictures and sound are read by ffmpeg, once for each side.
A difference has a kind; it is accepted if a parameter asked for it, or if a warning of the result speaks of it.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path

import numpy as np

from tests.media.clips import run_ffmpeg
from vidqueue.media.jail.sandbox import ffmpeg_path

ONE_IN = 10
LEAST_PSNR = 35.0
# ffmpeg counts times from the earliest stream that a run uses; so every run uses all.
_ALL = ("-map", "0:v?", "-map", "0:a?", "-c", "copy", "-f", "null", "-")
# The same for runs with a loopback decoder. Where copies begin before the sound does, as times below zero do, ffmpeg's
# scheduler now and then lets each wait for the other, for ever: 18 of 3,000 runs, and none of 8,000 that end at once.
_ALL_AT_ONCE = ("-map", "0:v?", "-map", "0:a?", "-c", "copy", "-t", "0", "-f", "null", "-")
_RATE = 8000
_STREAM = re.compile(
    r"^ +Stream #0:(?P<index>\d+)(?:\[0x\w+\])?(?:\[[^]]*\])?(?:\((?P<language>\w{3})\))?: (?P<kind>\w+): (?P<text>.*)$"
)
_SOUND = re.compile(r"\d+ Hz, (?P<layout>[^,]+)")
_COLOUR = re.compile(r"color_range:(\S+) color_space:(\S+) color_primaries:(\S+) color_trc:(\S+)")
# A display of no luminance at all says nothing, and encoders leave it out.
_SIDE_DATA = re.compile(r"MaxCLL=\d+, MaxFALL=\d+|max_luminance=[1-9]\d*|Spherical Mapping: \w+")
_UNSCALED = {
    "ycgco", "bt2020c", "smpte2085", "chroma-derived-nc", "chroma-derived-c", "ictcp", "log100", "log316",
}  # fmt: skip
_RGB = ("rgb", "bgr", "gbr", "argb", "abgr", "pal8")

# What a warning must say for a kind of difference to be told.
TOLD = {
    "pictures": r"pictures (?:are left out|could not be decoded)",
    "look": r"HDR was converted|Transparent parts|interlaced|visibly damaged",
    "colour": r"HDR was converted",
    "hdr metadata": r"HDR was converted",
    "sound tracks": r"[Ss]ound track",
    "sound": r"[Ss]ound track|could not be decoded",
    "subtitles": r"subtitle",
    "chapters": r"chapter",
    "attachments": r"attached file",
    "title": r"Metadata is left out",
    "projection": r"360",
}


@dataclass(frozen=True)
class Seen:
    """What ffmpeg says of a file. `streams` are (index, kind, language, text); times in seconds from its beginning."""

    streams: tuple[tuple[int, str, str | None, str], ...]
    title: str | None
    chapters: tuple[tuple[float, str], ...]
    video: int
    size: tuple[int, int]
    sar: Fraction
    times: tuple[float, ...]
    pixel_format: str
    colour: tuple[str | None, ...]
    side_data: frozenset[str]

    def of_kind(self, kind: str) -> list[tuple[int, str | None, str]]:
        return [(index, language, text) for index, what, language, text in self.streams if what == kind]

    @property
    def is_rgb(self) -> bool:
        return self.pixel_format.startswith(_RGB)


@cache
def seen(path: Path) -> Seen:
    """Ask ffmpeg about a file; the video is the stream with most pictures, then the largest, covers aside."""
    banner = subprocess.run([ffmpeg_path(), "-hide_banner", "-i", path], capture_output=True, check=False).stderr
    text = banner.decode("utf-8", "replace")
    streams: dict[int, tuple[str, str | None, str]] = {}
    for line in text.splitlines():
        if found := _STREAM.match(line):
            language = None if found["language"] in (None, "und") else found["language"]
            streams.setdefault(int(found["index"]), (found["kind"], language, found["text"]))
    ordered = tuple((index, *told) for index, told in sorted(streams.items()))
    moving = [one for one in ordered if one[1] == "Video" and "(attached pic)" not in one[3]]
    decoded = {}
    for index, *_ in moving:
        # In a damaged file a stream may be one that nobody can decode.
        with suppress(subprocess.CalledProcessError):
            decoded[index] = _decoded(path, index)
    video = max(decoded, key=lambda index: (len(decoded[index][2]), decoded[index][0], -index))
    tags = run_ffmpeg("-i", path, "-map_metadata", "0", "-f", "ffmetadata", "-").stdout.decode()
    head, *parts = re.split(r"^\[(?=CHAPTER\])", tags, flags=re.M)
    return Seen(
        ordered, _title(head), tuple(_chapter(part) for part in parts), video, *decoded[video],
        *_first_picture(path, video),
    )  # fmt: skip


def _first_picture(path: Path, stream: int) -> tuple[str, tuple[str | None, ...], frozenset[str]]:
    """Of the first picture: pixel format, colour tags (range, matrix, primaries, transfer) and side data."""
    told = run_ffmpeg("-i", path, "-map", f"0:{stream}", "-vf", "showinfo", "-frames:v", "1", "-f", "null", "-").stderr
    text = told.decode("utf-8", "replace")
    words = _COLOUR.search(text)
    spread, *tags = words.groups() if words else ("unknown",) * 4
    pixels = re.search(r" fmt:(\w+) ", text)
    # What says nothing has the range of films.
    spread = "pc" if spread == "pc" or (pixels and pixels[1].startswith("yuvj")) else "tv"
    side_data = frozenset(_SIDE_DATA.findall(text))
    return (
        pixels[1] if pixels else "",
        (spread, *(None if tag in ("unknown", "reserved") else tag for tag in tags)),
        side_data,
    )


def _title(section: str) -> str | None:
    found = re.search(r"^title=(.*)$", section.split("[STREAM]", maxsplit=1)[0], re.M)
    return found[1] if found else None


def _chapter(section: str) -> tuple[float, str]:
    tick = Fraction(re.search(r"TIMEBASE=(\S+)", section)[1])  # type: ignore[index]
    return round(float(int(re.search(r"START=(\d+)", section)[1]) * tick), 2), _title(section) or ""  # type: ignore[index]


def _decoded(path: Path, stream: int) -> tuple[tuple[int, int], Fraction, tuple[float, ...]]:
    """Size, pixel shape and times of the pictures as they come out of the decoder, turned and cropped by ffmpeg."""
    listing = run_ffmpeg(
        "-i", path, "-map", f"0:{stream}", "-fps_mode", "passthrough", "-enc_time_base", "1/90000",
        "-f", "framecrc", "pipe:1", *_ALL,
    ).stdout.decode()  # fmt: skip
    told = dict(re.findall(r"^#(\w+) 0: (\S+)", listing, re.M))
    width, height = map(int, told["dimensions"].split("x"))
    above, below = map(int, told["sar"].split("/"))
    times = [int(line.split(",")[2]) / 90_000 for line in listing.splitlines() if not line.startswith("#")]
    return (width, height), Fraction(above, below) if above and below else Fraction(1), tuple(times)


def unexplained(source: Path, result: Path, warnings: Collection[str], asked: Collection[str] = ()) -> list[str]:
    """The differences that no parameter asked for and no warning tells of, as sentences that begin with their kind."""
    said = "\n".join(warnings)
    return [
        f"{kind}: {what}"
        for kind, what in differences(source, result)
        if kind not in asked and not (kind in TOLD and re.search(TOLD[kind], said))
    ]


def differences(source: Path, result: Path) -> Iterator[tuple[str, str]]:
    """Everything in which a result differs from its source, as kind and sentence."""
    old, new = seen(source), seen(result)
    yield from _of_pictures(old, new)
    if len(old.times) == len(new.times) and (worst := worst_psnr(source, result)) < LEAST_PSNR:
        yield "look", f"a picture has a PSNR of {worst:.1f} dB"
    yield from _of_tracks(old, new)
    yield from _of_sound(source, result)


def differences_of_pictures(source: Path, result: Path, warnings: Collection[str]) -> list[str]:
    """What `unexplained` says of the number, the times and the look of pictures."""
    kinds = ("pictures", "times", "look", "size")
    return [said for said in unexplained(source, result, warnings) if said.startswith(kinds)]


def _of_pictures(old: Seen, new: Seen) -> Iterator[tuple[str, str]]:
    if len(old.times) != len(new.times):
        yield "pictures", f"{len(new.times)} instead of {len(old.times)}"
    else:
        # Matroska rounds to milliseconds.
        drift = max(abs((a - old.times[0]) - (b - new.times[0])) for a, b in zip(old.times, new.times, strict=True))
        if drift > 0.0011:
            yield "times", f"a picture is {drift:.4f} s from its place"
    if new.size != tuple(max(2, side - side % 2) for side in old.size):
        yield "size", f"{new.size} instead of {old.size}"
    if new.sar != old.sar:
        yield "sar", f"{new.sar} instead of {old.sar}"
    # Codecs of films have no RGB.
    if new.colour != old.colour and not old.is_rgb:
        yield "colour", f"{new.colour} instead of {old.colour}"
    for what in sorted(old.side_data ^ new.side_data):
        fate = "lost" if what in old.side_data else "new"
        yield ("projection" if what.startswith("Spherical") else "hdr metadata"), f"{what} is {fate}"


def _of_tracks(old: Seen, new: Seen) -> Iterator[tuple[str, str]]:
    before, after = _sound_tracks(old), _sound_tracks(new)
    if before != after:
        yield "sound tracks", f"{after} instead of {before}"
    subtitles = [[language for _, language, _ in one.of_kind("Subtitle")] for one in (old, new)]
    if subtitles[0] != subtitles[1]:
        yield "subtitles", f"{subtitles[1]} instead of {subtitles[0]}"
    if old.chapters != new.chapters:
        yield "chapters", f"{new.chapters} instead of {old.chapters}"
    if len(old.of_kind("Attachment")) != len(new.of_kind("Attachment")):
        yield "attachments", f"{len(new.of_kind('Attachment'))} instead of {len(old.of_kind('Attachment'))}"
    if old.title != new.title:
        yield "title", f"{new.title!r} instead of {old.title!r}"


def _sound_tracks(one: Seen) -> list[tuple[str | None, str]]:
    """Language and channels; the place of surround channels, side or back, has one name only in some codecs."""
    found = [(language, _SOUND.search(text)) for _, language, text in one.of_kind("Audio")]
    return [(language, layout["layout"].replace("(side)", "") if layout else "?") for language, layout in found]


def worst_psnr(source: Path, result: Path) -> float:
    """The lowest PSNR of one picture in ten in dB, all planes together, at the size of the result."""
    new = seen(result)
    worst = 100.0
    for a, b in zip(_pictures(source, new.size), _pictures(result, new.size), strict=True):
        error = float(np.mean((a.astype(np.int16) - b) ** 2.0))
        worst = min(worst, 10 * np.log10(255**2 / error) if error else 100.0)
    return worst


def _pictures(path: Path, size: tuple[int, int]) -> Iterator[np.ndarray]:
    one = seen(path)
    width, height = size
    # Where only an odd last line is missing, the others must be as they were.
    odd = tuple(side - side % 2 for side in one.size) == size and one.size != size
    fit = f"crop={width}:{height}:0:0:exact=1," if odd else ""
    matrix = ":out_color_matrix=bt709" if one.is_rgb else ""
    # Where the size changes midway, ffmpeg begins its filters, and their counts, anew.
    large = path.stat().st_size > 1_000_000
    # What ffmpeg's scaler refuses says nothing about scaling.
    refused = _UNSCALED & set(one.colour)
    plain = "setparams=colorspace=unknown:color_trc=unknown," if refused else ""
    thinned = f"select=not(mod(n\\,{ONE_IN}))," if large else ""
    steps = (
        f"{plain}{thinned}{fit}scale={width}:{height}:flags=bicubic+accurate_rnd:out_range=tv{matrix},format=yuv420p"
    )
    command: list[str | Path] = [ffmpeg_path(), "-v", "error", "-i", path, "-map", f"0:{one.video}", "-vf", steps]
    command += ["-fps_mode", "passthrough", "-f", "rawvideo", "-"]
    length = width * height * 3 // 2
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as running:
        assert running.stdout is not None
        count = 0
        while len(data := running.stdout.read(length)) == length:
            if large or count % ONE_IN == 0:
                yield np.frombuffer(data, np.uint8)
            count += 1
        assert count, f"ffmpeg cannot scale the pictures of {path.name}"


def _of_sound(source: Path, result: Path) -> Iterator[tuple[str, str]]:
    tracks = [[index for index, _, _ in seen(path).of_kind("Audio")] for path in (source, result)]
    if len(tracks[0]) != len(tracks[1]):
        return
    for place, (a, b) in enumerate(zip(*tracks, strict=True), start=1):
        before, after = _sound(source, a), _sound(result, b)
        if abs(len(before) - len(after)) > _RATE // 10:
            yield "sound", f"track {place} lasts {len(after) / _RATE:.2f} s instead of {len(before) / _RATE:.2f} s"
        for end, late in _lags(before, after):
            if late is None or abs(late) > 0.015:
                how = "is another sound" if late is None else f"is {late:+.3f} s late"
                yield "sound", f"track {place} {how} at its {end}"


def _sound(path: Path, stream: int) -> np.ndarray:
    """The samples of a track from the first picture on, as one channel."""
    begin = seen(path).times[0]
    # Where the sound changes midway, ffmpeg begins filters anew, and with them the silence before the first sample.
    raw = run_ffmpeg(
        "-i", path, "-map", f"0:{stream}", "-c:a", "pcm_f64le", "-f", "null", "-", "-dec", "0:0",
        "-filter_complex", "[dec:0]aresample=async=1:first_pts=0[sound]", "-map", "[sound]", "-ac", "1",
        "-ar", str(_RATE), "-f", "s16le", "pipe:1", *_ALL_AT_ONCE,
    ).stdout  # fmt: skip
    samples = np.frombuffer(raw, "<i2").astype(np.float64)
    skipped = round(begin * _RATE)
    return samples[skipped:] if skipped >= 0 else np.pad(samples, (-skipped, 0))


def _lags(before: np.ndarray, after: np.ndarray) -> Iterator[tuple[str, float | None]]:
    """By how much one sound is later than another at both ends, in seconds; None where they have nothing in common."""
    common = min(len(before), len(after))
    length = min(_RATE, common)
    for end, start in (("beginning", 0), ("end", common - length)):
        a, b = (one[start : start + length] - np.mean(one[start : start + length]) for one in (before, after))
        if length < _RATE // 10 or np.sqrt(np.mean(a**2)) < 30:
            continue
        yield end, _lag(a, b)


def _lag(a: np.ndarray, b: np.ndarray) -> float | None:
    size = 2 * len(a)
    product = np.fft.irfft(np.conj(np.fft.rfft(a, size)) * np.fft.rfft(b, size), size)
    shifts = np.concatenate([np.arange(len(a)), np.arange(-len(a), 0)])
    # A lag takes its share of the samples out of sight; half a second is as far as anybody looks.
    share = 1 - np.abs(shifts) / len(a)
    alike = np.where(share > 0.5, product / np.maximum(share, 0.5), 0) / (np.linalg.norm(a) * np.linalg.norm(b) or 1)
    if alike.max() < 0.6:
        return None
    # A tone is like itself at every period: the nearest of the best counts.
    best: Sequence[int] = shifts[alike >= alike.max() - 0.01]
    return min(map(float, best), key=abs) / _RATE
