"""Encodes generated pictures into a silent MP4, with a jailed ffmpeg."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from vidqueue.errors import VidqueueError
from vidqueue.media import ffmpeg
from vidqueue.media.arguments import QUIET, output_arguments
from vidqueue.media.containers import CONTAINERS
from vidqueue.media.encoders import ENCODERS
from vidqueue.media.facts import MediaFacts
from vidqueue.media.jail.sandbox import SandboxLimits
from vidqueue.media.sampling import Picture
from vidqueue.media.sink import created
from vidqueue.media.verify import Expected, check_output

_MP4 = CONTAINERS["mp4"]
# Full range RGB to what players expect of a video without further words.
_AS_VIDEO = "scale=out_color_matrix=bt709:out_range=tv:flags=accurate_rnd,format=yuv420p,setparams=color_primaries=bt709:color_trc=bt709:colorspace=bt709:range=tv"  # noqa: E501


def write_video(
    pictures: Iterable[Picture],
    path: Path,
    fps: float,
    bounds: SandboxLimits,
    *,
    on_progress: Callable[[ffmpeg.Seen], None] = lambda _: None,
) -> MediaFacts:
    """Encode pictures of one even size into a new file, check it, and return what is in it.

    Raises:
        VidqueueError: the encoder failed, or the file is not whole.
        CanceledError: the event of `bounds` was set.
    """
    raw, count, size = path.with_suffix(".raw"), 0, (0, 0)
    with raw.open("wb") as file:
        for picture in pictures:
            file.write(picture.tobytes())
            count, size = count + 1, (picture.shape[1], picture.shape[0])
    if not count:
        raise VidqueueError("output_incomplete", "There are no pictures for a video.")
    try:
        _encode(raw, path, size, fps, bounds, on_progress)
    finally:
        raw.unlink()
    return check_output(path, Expected(count, count / fps, 1 / fps, 0), bounds.limits, bounds.canceled)


def _encode(
    raw: Path,
    path: Path,
    size: tuple[int, int],
    fps: float,
    bounds: SandboxLimits,
    on_progress: Callable[[ffmpeg.Seen], None],
) -> None:
    file = os.open(raw, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with created(path) as sink:
            arguments = [
                *QUIET, "-f", "rawvideo", "-pixel_format", "rgb24", "-video_size", f"{size[0]}x{size[1]}",
                "-framerate", f"{fps:.6f}", "-fd", str(file), "-i", "fd:", "-vf", _AS_VIDEO,
                *ENCODERS["libx264"].arguments("high", "medium", fps, _MP4),
                *output_arguments(sink.writing, _MP4, bounds.limits),
            ]  # fmt: skip
            keep = [file, sink.writing]
            ffmpeg.run(arguments, bounds, keep_open=keep, stdin=sink.reading, on_progress=on_progress)
    finally:
        os.close(file)
