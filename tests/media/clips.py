"""Where the tests' media comes from, and a second opinion on it: ffmpeg asked directly, not through our own probe."""

from __future__ import annotations

import csv
import os
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from vidqueue.media.jail.sandbox import ffmpeg_path
from vidqueue.media.sample import make_sample

# Resolved, because a path that leads through a symbolic link is refused.
FOLDER = Path(os.environ.get("VIDQUEUE_TEST_MEDIA") or Path(__file__).parents[3] / "shared" / "media").resolve()
MANIFEST = FOLDER / "manifest.csv"

Samples = Callable[[str], Path]

_RECIPES = {
    "plain.mp4": {"seconds": 3},
    "plain.mkv": {"seconds": 2},
    "silent.mkv": {"seconds": 2, "variant": "silent"},
    "audio.mp4": {"seconds": 2, "variant": "audio"},
    "vfr.mp4": {"seconds": 3, "variant": "vfr"},
    "rotated.mov": {"seconds": 2, "variant": "rotated"},
    "odd.mkv": {"seconds": 1, "size": (321, 181)},
    "odd.webm": {"seconds": 1, "size": (321, 181)},
    "film.mp4": {"seconds": 2, "fps": Fraction(24000, 1001)},
    "medium.mp4": {"seconds": 10},
}
LONG_S = 30


@dataclass(frozen=True, slots=True)
class Clip:
    """One line of the manifest of the shared media."""

    name: str
    expect: str
    facts: str

    @property
    def path(self) -> Path:
        return FOLDER / self.name

    @property
    def is_still(self) -> bool:
        return self.name.endswith((".png", ".jpg"))

    @property
    def has_video(self) -> bool:
        return "| V" in self.facts and not self.is_still

    def __str__(self) -> str:
        return self.name


def manifest() -> list[Clip]:
    """Every shared clip; a single placeholder where the folder is absent, so that the skip shows."""
    if not MANIFEST.exists():
        return [Clip("absent", "absent", "")]
    with MANIFEST.open(newline="") as lines:
        return [Clip(row["file"], row["expect"], row["facts"]) for row in csv.DictReader(lines)]


def needs(clip: Clip) -> None:
    if not MANIFEST.exists():
        pytest.skip(f"no shared media at {FOLDER}")


@pytest.fixture(scope="session")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Samples:
    """Own clips by name, each made once."""
    folder = tmp_path_factory.mktemp("samples")

    def sample(name: str) -> Path:
        path = folder / name
        if path.exists():
            return path
        if name == "long.mp4":
            make_long_sample(path, seconds=LONG_S)
        else:
            make_sample(path, **_RECIPES[name])  # type: ignore[arg-type]
        return path

    return sample


def make_long_sample(path: Path, *, seconds: int) -> None:
    """Write a clip that repeats one of five seconds, because a second of CPU encodes only eight."""
    piece = path.with_name(f"piece-of-{path.name}")
    make_sample(piece, seconds=5)
    run_ffmpeg("-stream_loop", str(seconds // 5 - 1), "-i", piece, "-c", "copy", path)
    piece.unlink()


def run_ffmpeg(*arguments: str | Path) -> subprocess.CompletedProcess[bytes]:
    """Plain ffmpeg on trusted files."""
    command = [ffmpeg_path(), "-hide_banner", "-nostdin", "-y", *arguments]
    return subprocess.run(command, capture_output=True, check=True)


@cache
def decoded_times(path: Path, stream: int) -> list[float]:
    """The time of every picture that really comes out of the decoder, in seconds on the file's own clock."""
    listing = run_ffmpeg(
        "-copyts", "-i", path, "-map", f"0:{stream}", "-vf", "scale=16:16", "-fps_mode", "passthrough",
        "-enc_time_base", "demux", "-f", "framecrc", "-",
    ).stdout.decode()  # fmt: skip
    tick = Fraction(re.search(r"^#tb 0: (\S+)", listing, re.M)[1])  # type: ignore[index]
    return [float(int(line.split(",")[2]) * tick) for line in listing.splitlines() if not line.startswith("#")]


def packet_times(path: Path) -> list[float]:
    """The time of every packet of the first video stream, sorted: cheap, and as good for what our encoders wrote."""
    listing = run_ffmpeg("-copyts", "-i", path, "-map", "0:v:0", "-c", "copy", "-f", "framecrc", "-").stdout.decode()
    tick = Fraction(re.search(r"^#tb 0: (\S+)", listing, re.M)[1])  # type: ignore[index]
    return sorted(float(int(line.split(",")[2]) * tick) for line in listing.splitlines() if not line.startswith("#"))


def picture(path: Path, *, at_frame: int = 0, size: tuple[int, int] | None = None) -> np.ndarray:
    """One picture as a player shows it: (height, width, 3) bytes of RGB."""
    scale = [f"scale={size[0]}:{size[1]}:flags=area"] if size else []
    steps = ",".join([f"select=eq(n\\,{at_frame})", *scale, "format=rgb24"])
    ppm = run_ffmpeg("-i", path, "-vf", steps, "-frames:v", "1", "-c:v", "ppm", "-f", "image2pipe", "-").stdout
    _, dimensions, _, pixels = ppm.split(b"\n", 3)
    width, height = map(int, dimensions.split())
    return np.frombuffer(pixels, np.uint8).reshape(height, width, 3)


def flashes(path: Path, stream: int) -> list[float]:
    """When the picture turns white, in seconds: what `make_sample` does at each full second."""
    times = decoded_times(path, stream)
    grey = run_ffmpeg(
        "-i", path, "-map", f"0:{stream}", "-vf", "scale=4:4:flags=area,format=gray", "-fps_mode", "passthrough",
        "-f", "rawvideo", "-",
    ).stdout  # fmt: skip
    white = np.frombuffer(grey, np.uint8).reshape(len(times), 16).mean(axis=1) > 225
    return [times[n] for n in np.flatnonzero(white) if n == 0 or not white[n - 1]]


def beeps(path: Path) -> list[float]:
    """When the sound sets in, in seconds on the file's own clock."""
    rate = 8000
    sound = run_ffmpeg(
        "-copyts", "-i", path, "-map", "0:a:0", "-af", "aresample=async=1:first_pts=0", "-ac", "1", "-ar", str(rate),
        "-f", "s16le", "-",
    ).stdout  # fmt: skip
    loud = np.abs(np.frombuffer(sound, "<i2").astype(np.int32)) > 3000
    onsets = np.flatnonzero(loud)
    quiet_before = np.diff(onsets, prepend=-rate) > rate // 4
    return [float(n) / rate for n in onsets[quiet_before]]
