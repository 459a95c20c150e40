"""Speed of `transcode` and `enhance` against bare ffmpeg with the same encoder settings, at 1080p and 720p.

`transcode` is compared with one ffmpeg, `enhance` with two that are joined by a pipe of raw pictures, which is the
limit of everything that takes pictures out of ffmpeg and puts them back; with a filter, these make the same pictures.
Pictures on disk between two ffmpegs and sequential imageio show what the usual ways cost. Processors run in this
process as an executor runs them: with the probe before and the check of the result after.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import imageio_ffmpeg
import numpy as np

from benchmarks.measure import Report, interleaved, machine
from vidqueue.limits import Limits
from vidqueue.media.ffmpeg import ffmpeg_version
from vidqueue.media.jail.sandbox import ffmpeg_path
from vidqueue.media.sample import make_sample
from vidqueue.processors.base import Context, Processor
from vidqueue.processors.enhance import Enhance
from vidqueue.processors.transcode import Transcode

FFMPEG = str(ffmpeg_path())
SIZES = {"1080p": (1920, 1080), "720p": (1280, 720)}
# What `quality` and `effort` medium mean with x264.
ENCODER = ("-c:v", "libx264", "-crf", "23", "-preset", "medium", "-pix_fmt", "yuv420p")
SOUND_AND_INDEX = ("-c:a", "copy", "-movflags", "+faststart")
BRIGHTER = {"brightness": 0.05, "contrast": 1.1}
# The same change as a filter: brighter pictures take the encoder longer than those of the source.
BRIGHTER_FILTER = "lutyuv=y='clip(floor((((val-16)/219-0.5)*1.1+0.55)*219+16.5),0,255)'"


@dataclass(frozen=True, slots=True)
class Spent:
    """What one run took, in seconds."""

    wall_s: float
    cpu_s: float


Way = Callable[[Path, Path], object]


def ffmpeg(*arguments: str | Path) -> list[str]:
    """A command line of plain ffmpeg."""
    return [FFMPEG, "-v", "error", "-nostdin", "-y", *map(str, arguments)]


def bare(clip: Path, folder: Path) -> None:
    """One ffmpeg, as anyone would call it."""
    output = folder / "bare.mp4"
    command = ffmpeg("-i", clip, "-map", "0:v:0", "-map", "0:a?", *ENCODER, *SOUND_AND_INDEX, output)
    subprocess.run(command, check=True)


def joined(clip: Path, folder: Path, *filters: str) -> None:
    """Two ffmpegs with a pipe of raw pictures between them."""
    decode = ffmpeg("-i", clip, "-map", "0:v:0", "-pix_fmt", "yuv420p", "-f", "yuv4mpegpipe", "-")
    with subprocess.Popen(decode, stdout=subprocess.PIPE, pipesize=1024 * 1024) as decoding:
        encode = ffmpeg(
            "-f", "yuv4mpegpipe", "-i", "-", "-i", clip, "-map", "0:v", "-map", "1:a?", *filters, *ENCODER,
            *SOUND_AND_INDEX, folder / "joined.mp4",
        )  # fmt: skip
        subprocess.run(encode, stdin=decoding.stdout, check=True)


def joined_brighter(clip: Path, folder: Path) -> None:
    """The same, and the pictures are changed as `enhance` changes them."""
    joined(clip, folder, "-vf", BRIGHTER_FILTER)


def on_disk(clip: Path, folder: Path) -> None:
    """Each picture as a JPEG on disk, changed there, and back."""
    pictures = folder / "pictures"
    pictures.mkdir()
    subprocess.run(ffmpeg("-i", clip, "-map", "0:v:0", "-q:v", "2", pictures / "%06d.jpg"), check=True)
    for path in sorted(pictures.iterdir()):
        picture = cv2.imread(str(path))
        assert picture is not None
        cv2.imwrite(str(path), cv2.convertScaleAbs(picture, alpha=1.1, beta=5))
    source = ("-framerate", "30", "-i", pictures / "%06d.jpg")
    subprocess.run(
        ffmpeg(*source, "-i", clip, "-map", "0:v", "-map", "1:a?", *ENCODER, *SOUND_AND_INDEX, folder / "disk.mp4"),
        check=True,
    )


def sequential(clip: Path, folder: Path) -> None:
    """imageio-ffmpeg's reader and writer, one picture after the other, in RGB."""
    reader = imageio_ffmpeg.read_frames(clip)
    about = next(reader)
    assert isinstance(about, dict)
    width, height = about["size"]
    writer = imageio_ffmpeg.write_frames(
        folder / "sequential.mp4", (width, height), fps=about["fps"], codec="libx264", quality=None,
        output_params=["-crf", "23", "-preset", "medium"], macro_block_size=2,
    )  # fmt: skip
    writer.send(None)
    for picture in reader:
        rgb = np.frombuffer(picture, np.uint8).reshape(height, width, 3)
        writer.send(cv2.convertScaleAbs(rgb, alpha=1.1, beta=5))
    writer.close()


def processed(processor: Processor, **wishes: object) -> Way:
    """A processor with everything that belongs to an attempt on it."""

    def run(clip: Path, folder: Path) -> None:
        params = processor.Params.model_validate({"video": str(clip), "container": "mp4", **wishes})
        ctx = Context({"video": clip}, folder, "cpu", Limits(), lambda _: None, lambda _: None)
        processor.run(params, ctx)

    return run


WAYS: dict[str, tuple[str, dict[str, Way]]] = {
    "transcode": ("bare ffmpeg", {"bare ffmpeg": bare, "transcode": processed(Transcode())}),
    "enhance": (
        "two ffmpegs and a pipe",
        {
            "two ffmpegs and a pipe": joined,
            "the same with a filter": joined_brighter,
            "enhance": processed(Enhance(), **BRIGHTER),
            "sequential imageio": sequential,
            "pictures on disk": on_disk,
        },
    ),
}


SLOW = ("sequential imageio", "pictures on disk")


def measured(way: Way, clip: Path) -> Spent:
    """Run one way once, in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="vidqueue-frames-", ignore_cleanup_errors=True) as folder:
        cpu, started = _cpu_s(), time.perf_counter()
        way(clip, Path(folder).resolve())
        return Spent(time.perf_counter() - started, _cpu_s() - cpu)


def _cpu_s() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


@contextmanager
def clips(given: dict[str, Path], seconds: float) -> Iterator[dict[str, Path]]:
    """The clips to work on: those that were named, else made ones."""
    with tempfile.TemporaryDirectory(prefix="vidqueue-clips-") as folder:
        for name, size in SIZES.items():
            if name not in given:
                made = Path(folder).resolve() / f"{name}.mp4"
                make_sample(made, seconds=seconds, size=size)
                given[name] = made
        yield given


def compare(report: Report, name: str, clip: Path, rounds: int, *, quick: bool) -> None:
    """Measure every way on one clip and add its rates: the larger the better."""
    for part, (against, ways) in WAYS.items():
        runs: dict[str, Callable[[], Spent]] = {
            label: lambda way=way: measured(way, clip)  # type: ignore[misc]
            for label, way in ways.items()
            if not quick or label not in SLOW
        }
        # Once for nothing: the first run loads torch, tries the encoder and fills the page cache.
        interleaved(runs, 1)
        spent = interleaved(runs, rounds)
        walls = {label: [60 / one.wall_s for one in seen] for label, seen in spent.items()}
        report.add("frames", f"{part} {name}", "runs/min", walls, against=against)
        processors = {label: [60 / one.cpu_s for one in seen] for label, seen in spent.items()}
        report.add("frames", f"{part} {name}", "runs/min of CPU", processors, against=against)


def main() -> int:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.frames", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=12, help="length of made clips")
    parser.add_argument(
        "--clip", action="append", default=[], metavar="SIZE=PATH", help="use this file as 1080p or 720p"
    )
    parser.add_argument("--quick", action="store_true", help="leave out the ways over the disk and over imageio")
    parser.add_argument("--out", type=Path, help="write the table here as .md and .json")
    wanted = parser.parse_args()
    given = {name: Path(path).resolve() for name, _, path in (one.partition("=") for one in wanted.clip)}
    if unknown := set(given) - set(SIZES):
        parser.error(f"unknown size {', '.join(sorted(unknown))}; there are {', '.join(SIZES)}")
    # As the lanes do for their executors, before torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    report = Report(machine=machine(ffmpeg=ffmpeg_version()))
    with clips(given, wanted.seconds) as files:
        for name, clip in files.items():
            compare(report, name, clip, wanted.rounds, quick=wanted.quick)
    report.publish(wanted.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
