"""Writing still and animated pictures with a jailed ffmpeg: JPEG, PNG and WebP; GIF and WebP that move."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vidqueue.errors import VidqueueError
from vidqueue.media import ffmpeg
from vidqueue.media.arguments import QUIET, input_arguments
from vidqueue.media.facts import VideoFacts
from vidqueue.media.jail.sandbox import SandboxLimits
from vidqueue.media.sampling import Picture, square_rgb
from vidqueue.media.sink import created
from vidqueue.media.source import Source

ImageFormat = Literal["jpg", "png", "webp"]
AnimationFormat = Literal["webp", "gif"]

_JPEG = ("-vf", "scale=out_range=pc:out_color_matrix=bt601,format=yuv420p", "-c:v", "mjpeg", "-q:v", "3")
_ENCODERS: dict[ImageFormat, tuple[str, ...]] = {
    "jpg": _JPEG,
    "png": ("-c:v", "png"),
    "webp": ("-c:v", "libwebp", "-quality", "82"),
}


@dataclass(frozen=True, slots=True)
class Window:
    """A part of a video, in seconds from its beginning."""

    start_s: float
    length_s: float


@dataclass(frozen=True, slots=True)
class Animation:
    """An animated picture: which parts of the video it joins, its size in pixels, its rate, and its format."""

    windows: Sequence[Window]
    size: tuple[int, int]
    fps: float
    kind: AnimationFormat


def write_image(picture: Picture, path: Path, kind: ImageFormat, bounds: SandboxLimits) -> None:
    """Encode one picture into a new file.

    Raises:
        VidqueueError: the encoder failed, or wrote nothing.
        CanceledError: the event of `bounds` was set.
    """
    height, width, _ = picture.shape
    raw = path.with_suffix(".raw")
    raw.write_bytes(picture.tobytes())
    file = os.open(raw, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with created(path) as sink:
            arguments = [
                *QUIET, "-f", "rawvideo", "-pixel_format", "rgb24", "-video_size", f"{width}x{height}",
                "-fd", str(file), "-i", "fd:", *_ENCODERS[kind], "-frames:v", "1", "-f", "image2pipe",
                "-fd", str(sink.writing), "fd:",
            ]  # fmt: skip
            tally = ffmpeg.run(arguments, bounds, keep_open=[file, sink.writing], stdin=sink.reading)
    finally:
        os.close(file)
        raw.unlink()
    if tally.encoded != 1 or not path.stat().st_size:
        raise VidqueueError("output_incomplete", f"The picture {path.name} was not written.")


def write_animation(
    source: Source,
    video: VideoFacts,
    wanted: Animation,
    path: Path,
    bounds: SandboxLimits,
    *,
    on_progress: ffmpeg.ProgressCallback = lambda _: None,
) -> int:
    """Join parts of a video into an animated picture that repeats for ever; the number of its pictures.

    Raises:
        VidqueueError: the source cannot be decoded, or nothing came of it.
        CanceledError: the event of `bounds` was set.
    """
    with ExitStack() as opened:
        # One descriptor for each part: a descriptor has one offset.
        files = [opened.enter_context(source.opened()) for _ in wanted.windows]
        sink = opened.enter_context(created(path))
        arguments = [*QUIET]
        for file, window in zip(files, wanted.windows, strict=True):
            place = ("-ss", f"{window.start_s:.6f}", "-t", f"{window.length_s:.6f}")
            arguments += input_arguments(file, bounds.limits, *place)
        arguments += ["-filter_complex", _joined(video, wanted), "-map", "[out]", *_MOVING[wanted.kind]]
        arguments += ["-f", wanted.kind, "-fd", str(sink.writing), "fd:"]
        keep = [*files, sink.writing]
        tally = ffmpeg.run(arguments, bounds, keep_open=keep, stdin=sink.reading, on_progress=on_progress)
    if tally.encoded < 1:
        raise VidqueueError("output_incomplete", "The animated picture has no pictures.")
    return tally.encoded


_MOVING: dict[AnimationFormat, tuple[str, ...]] = {
    "webp": ("-c:v", "libwebp_anim", "-quality", "65", "-loop", "0"),
    "gif": ("-c:v", "gif", "-loop", "0"),
}


def _joined(video: VideoFacts, wanted: Animation) -> str:
    count = len(wanted.windows)
    shown = f"fps={wanted.fps:g},{square_rgb(video, wanted.size)}"
    parts = [f"[{number}:{video.index}]{shown}[p{number}]" for number in range(count)]
    whole = "".join(f"[p{number}]" for number in range(count)) + f"concat=n={count}:v=1:a=0"
    if wanted.kind == "gif":
        palette = "split[a][b];[a]palettegen=stats_mode=diff[c];[b][c]paletteuse=dither=bayer:bayer_scale=4[out]"
        return ";".join([*parts, f"{whole},{palette}"])
    return ";".join([*parts, f"{whole},format=yuv420p[out]"])
