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
from vidqueue.media.arguments import QUIET, counting_from_all, input_arguments
from vidqueue.media.containers import AnimationFormat
from vidqueue.media.cutting import Cut, cut_out
from vidqueue.media.drawing import NOTHING_DRAWN, Drawn
from vidqueue.media.facts import VideoFacts
from vidqueue.media.filters import USUAL, Treatment, at_rate, deinterlacing, transparent_over
from vidqueue.media.jail.sandbox import SandboxLimits
from vidqueue.media.sampling import Picture, square_rgb
from vidqueue.media.sink import created
from vidqueue.media.source import Source

ImageFormat = Literal["jpg", "png", "webp"]

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

    def of(self, video: VideoFacts, container: str) -> Cut:
        """How it is cut out of a file in this container."""
        return cut_out(container, video, self.start_s, self.length_s)


@dataclass(frozen=True, slots=True)
class Animation:
    """An animated picture: which parts of the video it joins, its size in pixels, its rate, its format, its looks.

    `container` is that of the video.
    """

    windows: Sequence[Window]
    size: tuple[int, int]
    fps: float
    kind: AnimationFormat
    container: str
    quality: int = 65
    how: Treatment = USUAL
    drawn: Drawn = NOTHING_DRAWN


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
) -> ffmpeg.Tally:
    """Join parts of a video into an animated picture that repeats for ever.

    Raises:
        VidqueueError: the source cannot be decoded, or nothing came of it.
        CanceledError: the event of `bounds` was set.
    """
    with ExitStack() as opened:
        # One descriptor for each part: a descriptor has one offset.
        files = [opened.enter_context(source.opened()) for _ in wanted.windows]
        sink = opened.enter_context(created(path))
        text, fonts = opened.enter_context(wanted.drawn.filter(wanted.size, alpha=wanted.how.keeps_alpha))
        arguments = [*QUIET]
        cuts = [window.of(video, wanted.container) for window in wanted.windows]
        for file, cut in zip(files, cuts, strict=True):
            # Where a broadcast begins in the middle of a group of pictures, seeking to its beginning ends behind it.
            arguments += input_arguments(file, bounds.limits, *video.reading, *cut.before)
        arguments += ["-filter_complex", _joined(video, wanted, text), "-map", "[out]", *_encoder(wanted)]
        arguments += ["-f", wanted.kind, "-fd", str(sink.writing), "fd:"]
        for number, cut in enumerate(cuts):
            arguments += counting_from_all(wanted.container, number) if cut.is_early else []
        keep = [*files, sink.writing, *fonts]
        tally = ffmpeg.Tally(stream=f"0:{video.index}")
        ffmpeg.run(arguments, bounds, keep_open=keep, stdin=sink.reading, tally=tally, on_progress=on_progress)
    if tally.encoded < 1:
        raise VidqueueError("output_incomplete", "The animated picture has no pictures.")
    return tally


def _encoder(wanted: Animation) -> list[str]:
    if wanted.kind == "gif":
        return ["-c:v", "gif", "-loop", "0"]
    return ["-c:v", "libwebp_anim", "-quality", str(wanted.quality), "-loop", "0"]


def _joined(video: VideoFacts, wanted: Animation, text: list[str]) -> str:
    count = len(wanted.windows)
    parts = [f"[{number}:{video.index}]{_shown(video, wanted, number)}[p{number}]" for number in range(count)]
    whole = "".join(f"[p{number}]" for number in range(count)) + ",".join([f"concat=n={count}:v=1:a=0", *text])
    if wanted.kind == "gif":
        palette = "split[a][b];[a]palettegen=stats_mode=diff[c];[b][c]paletteuse=dither=bayer:bayer_scale=4[out]"
        return ";".join([*parts, f"{whole},{palette}"])
    return ";".join([*parts, f"{whole},format={'yuva420p' if wanted.how.keeps_alpha else 'yuv420p'}[out]"])


def _shown(video: VideoFacts, wanted: Animation, number: int) -> str:
    """The filters that make the pictures of one part."""
    window = wanted.windows[number]
    steps = [
        window.of(video, wanted.container).pictures,
        *deinterlacing(video, wanted.how),
        at_rate(wanted.fps, min(window.length_s, video.duration_s)),
    ]
    if wanted.how.keeps_alpha:
        steps.append(f"scale={wanted.size[0]}:{wanted.size[1]}:flags=bicubic+accurate_rnd,setsar=1,format=rgba")
    else:
        steps += [transparent_over(video, f"#{wanted.how.background}", f"part{number}"), square_rgb(video, wanted.size)]
    return ",".join(filter(None, steps))
