"""Proving the encoder of a GPU against the one on the CPU: both encode the same short clip, and both are compared.

The clip is generated, so that nobody's file decides for the files of others. A proof holds for the life of the process,
whose GPU is always the same; an encoder that fails is tried again after a while, because it may lack a session only.
"""

from __future__ import annotations

import math
import os
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from vidqueue.errors import VidqueueError
from vidqueue.limits import Limits
from vidqueue.media.arguments import INFORMATIVE, QUIET
from vidqueue.media.containers import CONTAINERS
from vidqueue.media.encoders import Effort, Encoder, Quality
from vidqueue.media.faults import raise_if_failed
from vidqueue.media.jail import sandbox
from vidqueue.media.jail.lines import Line
from vidqueue.ops import active_time

# Edges that move, and noise, which is what costs bytes in the pictures of a camera.
_FPS = 25
_CLIP = f"testsrc2=size=480x272:rate={_FPS}:duration=1.2,noise=all_seed=1:alls=6:allf=t,format=yuv420p"
# How much worse than the encoder on the CPU the pictures may be, in dB, and how many times as large the file.
WORST_DB = 1.0
LARGEST = 1.5
# What encoders that lose nothing are counted as.
_LOSSLESS_DB = 100.0
_TIMEOUT_S = 20.0
_DOUBT_S = 600.0
_PSNR = re.compile(r"PSNR .*\baverage:(inf|\d{1,3}(?:\.\d{1,9})?)\b.*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Proof:
    """Whether the encoder of the GPU is as good as the one on the CPU, and the figures or the fault in words."""

    holds: bool
    words: str
    until: float = math.inf


@dataclass(frozen=True, slots=True)
class _Result:
    decibels: float
    size: int


_proofs: dict[tuple[str, str, Quality, Effort], Proof] = {}
_one_at_a_time = threading.Lock()


def proof(gpu: Encoder, cpu: Encoder, quality: Quality, effort: Effort) -> Proof:
    """Compare both encoders at this quality and effort, once per process.

    It encodes 1.2 s of pictures twice: 0.2 to 0.8 s for the encoder on the CPU, on two idle cores.

    Raises:
        VidqueueError: the encoder on the CPU does not work.
    """
    key = (gpu.name, cpu.name, quality, effort)
    with _one_at_a_time:
        known = _proofs.get(key)
        if known is None or active_time.now() > known.until:
            known = _proofs[key] = _compared(gpu, cpu, quality, effort)
        return known


def doubt(gpu: Encoder, reason: str) -> None:
    """Forget for some minutes that an encoder was proven, because it has just failed."""
    doubted = Proof(False, f"it failed a moment ago: {reason}", active_time.now() + _DOUBT_S)
    with _one_at_a_time:
        _proofs.update((key, doubted) for key in list(_proofs) if key[0] == gpu.name)


def forget() -> None:
    """Forget every proof."""
    with _one_at_a_time:
        _proofs.clear()


def _compared(gpu: Encoder, cpu: Encoder, quality: Quality, effort: Effort) -> Proof:
    try:
        ours = _tried(gpu, quality, effort)
    except VidqueueError as error:
        return Proof(False, f"it does not work: {error.message}", active_time.now() + _DOUBT_S)
    theirs = _tried(cpu, quality, effort)
    words = (
        f"{ours.decibels:.1f} dB against {theirs.decibels:.1f} dB of {cpu.name}, size {ours.size / theirs.size:.1f}x"
    )
    worse, larger = theirs.decibels - ours.decibels > WORST_DB, ours.size > theirs.size * LARGEST
    return Proof(not worse and not larger, words)


def _tried(encoder: Encoder, quality: Quality, effort: Effort) -> _Result:
    with _memory() as file:
        coded = encoder.arguments(quality, effort, _FPS, CONTAINERS["mkv"])
        clip = ("-f", "lavfi", "-i", _CLIP)
        _run([*clip, "-pix_fmt", "yuv420p", *coded, "-f", "matroska", "-fd", str(file), "fd:"], file, gpu=encoder.gpu)
        size = os.fstat(file).st_size
        os.lseek(file, 0, os.SEEK_SET)
        compared = (
            "-protocol_whitelist", "fd", "-f", "matroska", "-fd", str(file), "-i", "fd:", *clip,
            "-lavfi", "[0:v]format=yuv420p[coded];[coded][1:v]psnr", "-f", "null", "pipe:2",
        )  # fmt: skip
        return _Result(_run(compared, file), size)


def _run(arguments: Sequence[str], file: int, *, gpu: bool = False) -> float:
    """Run ffmpeg to its end; the mean PSNR in dB that it said, if any."""
    heard = _Heard()
    bounds = sandbox.SandboxLimits(Limits(), _TIMEOUT_S, gpu=gpu)
    with sandbox.start([*QUIET, *INFORMATIVE, *arguments], bounds, keep_open=[file], on_line=heard.take) as running:
        raise_if_failed(running.wait())
    return heard.decibels


class _Heard:
    """The mean PSNR among the lines of ffmpeg."""

    decibels = 0.0

    def take(self, line: Line) -> None:
        if found := _PSNR.fullmatch(line.body.strip()):
            self.decibels = min(float(found[1]), _LOSSLESS_DB)


@contextmanager
def _memory() -> Iterator[int]:
    """A file in memory."""
    file = os.memfd_create("vidqueue-proof", os.MFD_CLOEXEC)
    try:
        yield file
    finally:
        os.close(file)
