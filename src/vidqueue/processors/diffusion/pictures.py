"""Reads the input picture of a diffusion pipeline and writes its results, with a jailed ffmpeg."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from vidqueue.errors import VidqueueError
from vidqueue.media import ffmpeg
from vidqueue.media.images import write_image
from vidqueue.media.jail.sandbox import SandboxLimits
from vidqueue.media.pictures_file import write_video
from vidqueue.media.probe import probe
from vidqueue.media.sampling import Picture, Sampling, samples, shown_size
from vidqueue.media.source import check_source
from vidqueue.processors.context import Context

# Later than any second picture.
_ONLY_ONE_S = 1e9


def shape_of(path: Path, ctx: Context) -> tuple[int, int]:
    """Return the width and height of a picture as it is shown.

    Raises:
        VidqueueError: `not_an_image`, or that the file cannot be read.
    """
    video = probe(path, ctx.limits, ctx.canceled).video
    if video is None:
        raise VidqueueError("not_an_image", "The file of `image` has no picture.")
    return shown_size(video)


def read_picture(path: Path, size: tuple[int, int], ctx: Context) -> Picture:
    """Read a picture in this size: scaled to cover it, and cropped.

    Raises:
        VidqueueError: it cannot be decoded.
        CanceledError: the job was canceled.
    """
    video = probe(path, ctx.limits, ctx.canceled).video
    assert video is not None
    width, height = size
    shown = shown_size(video)
    scale = max(width / shown[0], height / shown[1])
    covering = (max(width, round(shown[0] * scale)), max(height, round(shown[1] * scale)))
    tally = ffmpeg.Tally(stream=f"0:{video.index}")
    wanted = Sampling(_ONLY_ONE_S, covering)
    found = [one.picture for one in samples(check_source(path), video, wanted, bounds_of(ctx), tally)]
    if not found:
        raise VidqueueError("media_damaged", "The picture of `image` cannot be decoded.")
    left, top = (covering[0] - width) // 2, (covering[1] - height) // 2
    return found[0][top : top + height, left : left + width]


def as_pixels(made: Any) -> Picture:
    """Convert the pictures of a pipeline, which are numbers from 0 to 1, to bytes.

    Raises:
        VidqueueError: `model_failed`, they are no numbers.
    """
    values = np.asarray(made, dtype=np.float32)
    if not np.isfinite(values).all():
        message = "The model produced NaN or infinite pixels."
        raise VidqueueError("model_failed", message, hint="Try another dtype: float16 is too small for some models.")
    pixels: Picture = np.rint(values.clip(0, 1) * 255).astype(np.uint8)
    return pixels


def write_png(picture: Picture, path: Path, ctx: Context) -> dict[str, Any]:
    """Write a picture, and return the facts of the file."""
    write_image(picture, path, "png", bounds_of(ctx))
    return {"width": picture.shape[1], "height": picture.shape[0]}


def write_mp4(
    pictures: Picture, path: Path, fps: float, ctx: Context, on_progress: Callable[[ffmpeg.Seen], None]
) -> dict[str, Any]:
    """Write a video, and return the facts of the file."""
    return write_video(pictures, path, fps, bounds_of(ctx), on_progress=on_progress).as_json()


def bounds_of(ctx: Context) -> SandboxLimits:
    """Return the limits of a run of ffmpeg."""
    return SandboxLimits(ctx.limits, ctx.limits.ffmpeg_timeout_s, ctx.canceled)
