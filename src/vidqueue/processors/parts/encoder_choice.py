"""Which encoder a job takes under `encoder: auto`: that of the lane's GPU where it is proven, else that on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from vidqueue.errors import VidqueueError
from vidqueue.media import encoder_proof, encoders
from vidqueue.media.encoders import Effort, Encoder, EncoderChoice, Quality
from vidqueue.processors.context import Context

Made = TypeVar("Made")

# What the encoder on the CPU may do better. A card without a free session says that memory has run out.
_FAULTS = frozenset({"encoder_unavailable", "ffmpeg_failed", "out_of_memory", "output_incomplete"})


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a job wants of its encoder.

    Attributes:
        choice: the parameter.
        encoder: what it means on a lane without a GPU.
        quality: a name, or a number in the scale of `encoder`.
        size: width and height of the result in pixels.
        depth: bits of one component of the result.
        needs: says of the encoder of a GPU what speaks against it for this job; empty for nothing.
    """

    choice: EncoderChoice
    encoder: Encoder
    quality: Quality | float
    effort: Effort
    size: tuple[int, int]
    depth: int
    needs: Callable[[Encoder], str] = lambda _: ""


def taken(wanted: Wanted, ctx: Context) -> Encoder:
    """Return the encoder for the job, which works on this machine, and tell the log which it is and why.

    Raises:
        VidqueueError: `encoder_unavailable`.
        CanceledError: the job was canceled.
    """
    encoder = wanted.encoder
    gpu = encoders.on_gpu(encoder.codec) if wanted.choice == "auto" and ctx.device != "cpu" else None
    why_not = _why_not(wanted, gpu) if gpu else ""
    if gpu is None or why_not or not isinstance(wanted.quality, str):
        encoders.require(encoder)
        aside = f"; {gpu.name} is not used: {why_not}" if gpu else ""
        ctx.log(f"encoder: {encoder.name} (on the {'GPU' if encoder.gpu else 'CPU'}{aside})")
        return encoder
    found = encoder_proof.proof(gpu, encoder, wanted.quality, wanted.effort)
    ctx.check_canceled()
    if found.holds:
        ctx.log(f"encoder: {gpu.name} (proven: {found.words})")
        return gpu
    encoders.require(encoder)
    ctx.log(f"encoder: {encoder.name} (on the CPU; {gpu.name} is not used: {found.words})")
    return encoder


def _why_not(wanted: Wanted, gpu: Encoder) -> str:
    """Why the encoder of the GPU is not even tried; empty if it may be."""
    least, most = gpu.sides
    if not isinstance(wanted.quality, str):
        return f"the quality is a number in the scale of {wanted.encoder.name}"
    if wanted.depth > 8:
        return "the result has 10 bits"
    if not all(least <= side <= most for side in wanted.size):
        return f"it takes sides of {least} to {most} pixels, and the result has {wanted.size[0]}x{wanted.size[1]}"
    return wanted.needs(gpu)


def with_fallback(
    encoder: Encoder, cpu: Encoder, make: Callable[[Encoder], Made], undo: Callable[[], None], ctx: Context
) -> tuple[Made, list[str]]:
    """Return what `make` makes, and a warning if it failed with the encoder of the GPU and was done with the other.

    Args:
        encoder: the one that was taken.
        cpu: the one to fall back to; the same where the job asked for this encoder.
        make: does the work with an encoder.
        undo: removes what a failed try has left.
        ctx: of the job.

    Raises:
        VidqueueError: the work failed, and another encoder does not help.
        CanceledError: the job was canceled.
    """
    try:
        return make(encoder), []
    except VidqueueError as error:
        if encoder is cpu or error.code not in _FAULTS:
            raise
        encoder_proof.doubt(encoder, error.message)
        warning = f"{encoder.name} failed ({error.message.rstrip('.')}); {cpu.name} encoded the pictures on the CPU."
    ctx.log(f"encoder: {cpu.name} (on the CPU, because {encoder.name} has failed)", "warning")
    encoders.require(cpu)
    undo()
    return make(cpu), [warning]
