"""The video encoders: their arguments for quality and effort, and which of them work on this machine."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import Literal

from vidqueue.errors import VidqueueError
from vidqueue.limits import Limits
from vidqueue.media.arguments import INFORMATIVE, QUIET
from vidqueue.media.containers import Container, VideoCodec
from vidqueue.media.faults import failure_of
from vidqueue.media.jail import sandbox

Quality = Literal["low", "medium", "high"]
Effort = Literal["fast", "medium", "slow"]
EncoderChoice = Literal[
    "auto", "software", "nvenc", "libx264", "libx265", "libsvtav1", "libvpx-vp9", "h264_nvenc", "hevc_nvenc"
]

_TRIAL_TIMEOUT_S = 30.0
_HINT_GPU = "`auto` takes the CPU where the encoder of the GPU does not work; `vidqueue doctor` lists those that work."
# The lowest rate that anybody may ask for.
LEAST_KBIT = 16


@dataclass(frozen=True, slots=True)
class Encoder:
    """A video encoder of ffmpeg.

    Attributes:
        crf: the constant quality for low, medium and high; comparable between encoders, not equal.
        lowest_quality: the end of its scale of constant quality.
        quality_step: the smallest difference in that scale that it knows.
        effort: what trades time for size.
        ten_bit: its pixel format for ten bits; None where it had better stay with eight.
        alpha: whether it encodes transparency.
        sides: the smallest and the largest width and height that it takes everywhere, in pixels.
        rate: how it is told the nominal rate, where ffmpeg would tell it a wrong one for uneven timestamps.
    """

    name: str
    codec: VideoCodec
    crf: dict[Quality, int]
    effort: dict[Effort, tuple[str, ...]]
    constant_quality: Callable[[float], tuple[str, ...]]
    lowest_quality: int = 51
    quality_step: float = 0.1
    ten_bit: str | None = "yuv420p10le"
    rate: Callable[[Fraction], tuple[str, ...]] = lambda _: ()
    gpu: bool = False
    alpha: bool = False
    sides: tuple[int, int] = (2, 16384)

    def level(self, quality: Quality | float) -> float:
        """A quality in the encoder's own scale, in which a number is one already."""
        return self.crf[quality] if isinstance(quality, str) else quality

    def arguments(self, quality: Quality | float, effort: Effort, fps: float, container: Container) -> list[str]:
        """`-c:v` and the encoder's arguments; `fps` is the average rate."""
        return self._chosen(self.constant_quality(self.level(quality)), effort, fps, container)

    def at_rate(self, kbit: int, effort: Effort, fps: float, container: Container) -> list[str]:
        """The same for a mean rate in kbit a second."""
        # SVT-AV1 knows a highest rate only together with a constant quality.
        most = () if self.codec == "av1" else ("-maxrate", f"{kbit * 3 // 2}k", "-bufsize", f"{kbit * 2}k")
        return self._chosen(("-b:v", f"{kbit}k", *most), effort, fps, container)

    def _chosen(self, rate: tuple[str, ...], effort: Effort, fps: float, container: Container) -> list[str]:
        # hvc1 is the only name under which Apple's players accept HEVC.
        tag = ["-tag:v", "hvc1"] if self.codec == "h265" and container.has_faststart else []
        nominal = Fraction(fps or 25).limit_denominator(1001)
        nominal = min(max(nominal, Fraction(1)), Fraction(240))
        chosen = (*rate, *self.effort[effort], *self.rate(nominal))
        return ["-c:v", self.name, *chosen, *tag]

    def pixel_format(self, depth: int) -> str:
        """The pixel format of its input for a source of this bit depth."""
        return self.ten_bit if depth > 8 and self.ten_bit else "yuv420p"


def _presets(fast: str, medium: str, slow: str) -> dict[Effort, tuple[str, ...]]:
    return {"fast": ("-preset", fast), "medium": ("-preset", medium), "slow": ("-preset", slow)}


def _levels(low: int, medium: int, high: int) -> dict[Quality, int]:
    return {"low": low, "medium": medium, "high": high}


_NVENC_EFFORT = _presets("p2", "p4", "p6")


def _crf(value: float) -> tuple[str, ...]:
    return ("-crf", f"{value:g}")


def _nvenc_quality(value: float) -> tuple[str, ...]:
    return ("-rc", "vbr", "-cq", f"{value:g}", "-b:v", "0")


ENCODERS: dict[str, Encoder] = {
    one.name: one
    for one in (
        # Ten-bit H.264 plays nearly nowhere, so x264 stays with eight.
        Encoder("libx264", "h264", _levels(28, 23, 18), _presets("veryfast", "medium", "slow"), _crf, ten_bit=None),
        Encoder(
            "libx265", "h265", _levels(33, 28, 23), _presets("ultrafast", "fast", "medium"), _crf,
            rate=lambda fps: ("-x265-params", f"log-level=error:fps={fps.numerator}/{fps.denominator}", "-a53cc", "1"),
        ),
        Encoder(
            "libsvtav1", "av1", _levels(45, 35, 25), _presets("10", "8", "5"), _crf,
            lowest_quality=63, quality_step=1,
            rate=lambda fps: ("-svtav1-params", f"fps-num={fps.numerator}:fps-denom={fps.denominator}"),
        ),
        Encoder(
            "libvpx-vp9", "vp9", _levels(40, 33, 26),
            {
                "fast": ("-deadline", "realtime", "-cpu-used", "8", "-row-mt", "1"),
                "medium": ("-deadline", "good", "-cpu-used", "4", "-row-mt", "1"),
                "slow": ("-deadline", "good", "-cpu-used", "2", "-row-mt", "1"),
            },
            lambda value: ("-crf", f"{value:g}", "-b:v", "0"),
            lowest_quality=63, quality_step=1,
            alpha=True,
        ),
        Encoder(
            "h264_nvenc", "h264", _levels(33, 27, 21), _NVENC_EFFORT, _nvenc_quality, ten_bit=None, gpu=True,
            sides=(160, 4096),
        ),
        Encoder(
            "hevc_nvenc", "h265", _levels(35, 29, 23), _NVENC_EFFORT, _nvenc_quality, ten_bit="p010le", gpu=True,
            sides=(160, 8192),
        ),
    )
}  # fmt: skip

_SOFTWARE: dict[VideoCodec, str] = {"h264": "libx264", "h265": "libx265", "av1": "libsvtav1", "vp9": "libvpx-vp9"}
# The encoder of the GPU for each codec that it makes.
ON_GPU: dict[VideoCodec, str] = {"h264": "h264_nvenc", "h265": "hevc_nvenc"}


def encoder_named(choice: EncoderChoice, codec: VideoCodec) -> Encoder | None:
    """The encoder that a choice means for a codec; None if the choice does not encode that codec.

    `auto` means the one on the CPU here; whether a job takes that of the GPU is decided where it runs.
    """
    if choice in ("auto", "software"):
        return ENCODERS[_SOFTWARE[codec]]
    if choice == "nvenc":
        return on_gpu(codec)
    return ENCODERS[choice] if ENCODERS[choice].codec == codec else None


def on_gpu(codec: VideoCodec) -> Encoder | None:
    """The encoder of the GPU for a codec, if there is one."""
    return ENCODERS[ON_GPU[codec]] if codec in ON_GPU else None


def require(encoder: Encoder) -> None:
    """Check that the encoder works on this machine.

    Raises:
        VidqueueError: `encoder_unavailable`; `out_of_memory` when the trial was killed.
    """
    if reason := fault_of(encoder.name):
        said = f"The encoder {encoder.name} does not work on this machine. {reason}"
        raise VidqueueError("encoder_unavailable", said, hint=_HINT_GPU if encoder.gpu else None)


def working_encoders() -> tuple[str, ...]:
    """Names of the encoders that encode a test picture on this machine."""
    return tuple(name for name in ENCODERS if works(name))


def works(name: str) -> bool:
    """True if this encoder encodes a small test picture.

    Raises:
        VidqueueError: as `fault_of`.
    """
    return not fault_of(name)


@cache
def fault_of(name: str) -> str:
    """Why this encoder encodes no small test picture, a sentence; empty if it does. Tried once per process.

    Raises:
        VidqueueError: the trial was killed from outside, which says nothing about the encoder and is not remembered.
    """
    encoder = ENCODERS[name]
    arguments = [
        *QUIET, *INFORMATIVE,
        "-f", "lavfi", "-i", "color=gray:size=320x192:rate=25", "-frames:v", "1", "-pix_fmt", "yuv420p",
        "-c:v", name, "-f", "null", "pipe:1",
    ]  # fmt: skip
    bounds = sandbox.SandboxLimits(Limits(), _TRIAL_TIMEOUT_S, gpu=encoder.gpu)
    with sandbox.start(arguments, bounds) as running:
        ended = running.wait()
    if ended.returncode == -signal.SIGKILL and ended.by == "itself":
        raise failure_of(ended)
    return failure_of(ended).message if ended.returncode else ""
