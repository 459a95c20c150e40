"""Making short test clips with moving pictures and sound, for the demo and for tests, in the jail.

Each second starts with a beep and a white flash, so that anyone can see and hear whether sound and picture agree.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Literal

from vidqueue.limits import Limits
from vidqueue.media import ffmpeg
from vidqueue.media.arguments import QUIET, output_arguments
from vidqueue.media.containers import CONTAINERS, ContainerName
from vidqueue.media.jail.sandbox import SandboxLimits
from vidqueue.media.sink import created

Variant = Literal["plain", "silent", "audio", "vfr", "rotated"]

_FLASH_S = 0.1
_TIMEOUT_S = 120.0


def make_sample(
    path: Path,
    *,
    seconds: float = 5,
    size: tuple[int, int] = (640, 360),
    fps: Fraction | int = 30,
    variant: Variant = "plain",
) -> None:
    """Write a clip to `path`, whose ending says which container; nothing else is written.

    Args:
        path: a file that does not exist yet, ending in .mp4, .mov, .mkv or .webm.
        seconds: length.
        size: width and height in pixels; odd ones only come out odd in webm and mkv.
        fps: pictures per second.
        variant: `silent` has no sound, `audio` no picture, `vfr` uneven times, `rotated` asks the player for a
            quarter turn clockwise.

    Raises:
        VidqueueError: ffmpeg failed.
        FileExistsError: something is there already.
    """
    name: ContainerName = path.suffix.removeprefix(".")  # type: ignore[assignment]
    container = CONTAINERS[name]
    pictures = _pictures(size, Fraction(fps), seconds, uneven=variant == "vfr")
    sound = f"aevalsrc='0.4*sin(880*2*PI*t)*lt(mod(t,1),{_FLASH_S})':sample_rate=48000:duration={seconds}"
    video_input = ["-f", "lavfi", "-i", pictures] if variant != "audio" else []
    audio_input = ["-f", "lavfi", "-i", sound] if variant != "silent" else []
    if variant == "rotated":
        video_input = ["-display_rotation", "-90", "-noautorotate", *video_input]
    with created(path) as sink:
        arguments = [
            *QUIET, *video_input, *audio_input, *_codecs(container.name, size),
            "-fps_mode", "passthrough", "-enc_time_base", "1/90000",
            *output_arguments(sink.writing, container, Limits()),
        ]  # fmt: skip
        ffmpeg.run(arguments, SandboxLimits(Limits(), _TIMEOUT_S), keep_open=[sink.writing], stdin=sink.reading)


def _pictures(size: tuple[int, int], fps: Fraction, seconds: float, *, uneven: bool) -> str:
    width, height = size
    steps = [
        # testsrc2 itself only makes even sizes.
        f"testsrc2=size={width + width % 2}x{height + height % 2}:rate={fps}:duration={seconds}",
        "format=yuv444p",
        f"crop={width}:{height}:0:0:exact=1",
        f"drawbox=color=white:thickness=fill:enable='lt(mod(t,1),{_FLASH_S})'",
        "settb=1/90000",
    ]
    if uneven:
        # Never backwards: every third picture comes half a picture late.
        steps.append(f"setpts=PTS+eq(mod(N\\,3)\\,1)*{round(90000 / fps / 2)}")
    return ",".join(steps)


def _codecs(container: ContainerName, size: tuple[int, int]) -> list[str]:
    if container == "webm":
        return [
            "-c:v",
            "libvpx-vp9",
            "-deadline",
            "realtime",
            "-cpu-used",
            "8",
            "-pix_fmt",
            "yuv420p",
            "-c:a",
            "libopus",
        ]
    odd = any(length % 2 for length in size)
    # x264 takes odd sizes only without chroma subsampling.
    pixel_format = "yuv444p" if odd else "yuv420p"
    return ["-c:v", "libx264", "-preset", "veryfast", "-g", "60", "-pix_fmt", pixel_format, "-c:a", "aac"]
