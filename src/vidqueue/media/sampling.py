"""Sampling a video: small upright RGB pictures at about even times, with the exact time of each, for thumbnails."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from vidqueue.media.arguments import QUIET, VERBOSE, counting_from_all, input_arguments
from vidqueue.media.cutting import cut_out
from vidqueue.media.facts import VideoFacts
from vidqueue.media.faults import raise_if_failed
from vidqueue.media.ffmpeg import Tally
from vidqueue.media.filters import has_alpha, is_untagged_hd, opaque, scalable
from vidqueue.media.jail import sandbox
from vidqueue.media.source import Source

Picture = NDArray[np.uint8]
"""Height, width, and red, green and blue."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A picture and its time in seconds from the beginning of the file."""

    time_s: float
    picture: Picture


@dataclass(frozen=True, slots=True)
class Sampling:
    """What to take: a picture every `step_s` seconds, of this size, from `from_s` on, of a file in this container.

    Only key pictures are decoded if `keys_only`.
    """

    step_s: float
    size: tuple[int, int]
    keys_only: bool = False
    from_s: float = 0.0
    container: str = ""


def shown_size(video: VideoFacts) -> tuple[int, int]:
    """Width and height as a player shows the video: upright, with square pixels. Pixels are added, never taken away."""
    width, height = video.upright
    sar = video.upright_sar or Fraction(1)
    return (round(width * sar), height) if sar >= 1 else (width, round(height / sar))


def fitted(size: tuple[int, int], longest: int, multiple: int = 2) -> tuple[int, int]:
    """The size with its longer side brought to `longest`, both sides multiples of a number."""
    scale = longest / max(size)
    width, height = (max(multiple, round(side * scale / multiple) * multiple) for side in size)
    return width, height


def square_rgb(video: VideoFacts, size: tuple[int, int]) -> str:
    """The filters that turn decoded pictures (already upright) into RGB of this size, HDR brought to SDR.

    Transparent parts become black: what lies hidden there must not appear.
    """
    width, height = size
    shown = "".join(f"{step}," for step in opaque(video)) if has_alpha(video.pixel_format) else ""
    scale = f"{shown}scale={width}:{height}:flags=area+accurate_rnd"
    if video.colour.is_hdr:
        return (
            f"{scale},setsar=1,zscale=t=linear:npl=203,format=gbrpf32le,zscale=p=bt709,tonemap=hable:desat=0,"
            "zscale=t=bt709:m=gbr:r=pc,format=gbrp,format=rgb24"
        )
    matrix = ":in_color_matrix=bt709" if is_untagged_hd(video) else ""
    return ",".join([*scalable(video.colour), f"{scale}{matrix}", "setsar=1", "format=rgb24"])


def samples(
    source: Source,
    video: VideoFacts,
    wanted: Sampling,
    bounds: sandbox.SandboxLimits,
    tally: Tally,
    from_s: float = 0.0,
) -> Iterator[Sample]:
    """The samples in the order of their time; call it from a thread that lives as long as the run.

    Raises:
        VidqueueError: the decoder failed.
        CanceledError: the event of `bounds` was set.
    """
    width, height = wanted.size
    with ExitStack() as opened:
        file = opened.enter_context(source.opened())
        reading, writing = os.pipe()
        times = opened.enter_context(os.fdopen(reading, encoding="ascii"))
        closing = opened.enter_context(os.fdopen(writing, "wb"))
        arguments = _arguments(file, writing, video, wanted, bounds)
        running = opened.enter_context(
            sandbox.start(
                arguments, bounds, keep_open=[file, writing], stdout=subprocess.PIPE, on_line=tally.read
            )
        )  # fmt: skip
        closing.close()
        while len(data := running.stdout.read(width * height * 3)) == width * height * 3:
            yield Sample(float(times.readline()), np.frombuffer(data, np.uint8).reshape(height, width, 3))
        raise_if_failed(running.wait())


def _arguments(file: int, times: int, video: VideoFacts, wanted: Sampling, bounds: sandbox.SandboxLimits) -> list[str]:
    # A little less than the step, so that rounded times do not make it skip a picture.
    gap = f"select=isnan(prev_selected_t)+gte(t-prev_selected_t\\,{max(wanted.step_s - 0.002, 0):.6f})"
    before = [*video.reading, *(("-skip_frame", "nokey") if wanted.keys_only else ())]
    # A millisecond early: a time that was rounded up would lose its picture.
    cut = cut_out(wanted.container, video, max(0.0, wanted.from_s - 0.001))
    steps = ",".join(filter(None, [cut.pictures, gap, square_rgb(video, wanted.size)]))
    return [
        *QUIET, *VERBOSE, *input_arguments(file, bounds.limits, *before, *cut.before),
        "-map", f"0:{video.index}", "-vf", steps,
        "-fps_mode", "passthrough", "-enc_time_base", "1/1000000",
        "-stats_enc_pre:v", f"pipe:{times}", "-stats_enc_pre_fmt:v", "{t}",
        "-c:v", "rawvideo", "-f", "rawvideo", "pipe:1",
        *(counting_from_all(wanted.container) if cut.is_early else ()),
    ]  # fmt: skip
