"""Stream copy into another container: when it is possible, and the check of its result."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vidqueue.errors import VidqueueError, is_retryable
from vidqueue.media import verify
from vidqueue.media.containers import Container
from vidqueue.media.facts import MediaFacts, VideoFacts
from vidqueue.media.probe import probe
from vidqueue.processors.context import Context

# How much longer a trimmed copy may be, because pictures are not stored in display order.
_CUT_S = 0.2


@dataclass(frozen=True, slots=True)
class Copied:
    """The facts of a correct copy with its warnings, or the reason why it is not correct."""

    facts: MediaFacts | None
    notes: list[str]


def why_not_copied(video: VideoFacts, container: Container) -> str:
    """Return why the pictures cannot be copied; empty if they can."""
    if video.codec not in container.copies:
        return f"{container.name} does not hold {video.codec}."
    if video.untimed:
        return "they have no times of presentation."
    if video.clock_restarts:
        return "the clock of the file begins again."
    if video.hidden and not container.has_faststart:
        return f"an edit list hides some, which {container.name} does not know."
    return ""


def copy_tag(video: VideoFacts, container: Container) -> list[str]:
    """The arguments that name the codec of copied pictures as players expect it."""
    return ["-tag:v", "hvc1"] if video.codec == "hevc" and container.has_faststart else []


def is_unofficial(video: VideoFacts, *, copied: bool) -> bool:
    """True if a result says something of its pictures that is in no standard of MP4: 360 degrees, 3D, Dolby Vision."""
    return video.projection is not None or (copied and (video.dolby_vision, video.stereo) != (None, None))


def copied(output: Path, expected: verify.Expected, ctx: Context, *, start_s: float, trims: bool) -> Copied:
    """Read a copy back and compare it with its source; a trimmed part begins and ends at places that can be cut.

    Raises:
        VidqueueError: it could not be read for want of memory, time or space.
        CanceledError: the job was canceled.
    """
    if not trims:
        try:
            return Copied(verify.check_output(output, expected, ctx.limits, ctx.canceled), [])
        except VidqueueError as error:
            if error.code != "output_incomplete":
                raise
            return Copied(None, [error.message])
    try:
        facts = probe(output, ctx.limits, ctx.canceled, whole=True)
    except VidqueueError as error:
        if is_retryable(error.code):
            raise
        return Copied(None, [f"The result cannot be read back: {error.message}"])
    if facts.video is None or facts.duration_s < expected.duration_s - max(expected.slack_s, 0.1):
        return Copied(None, [f"The result lasts {facts.duration_s:.3f} s instead of {expected.duration_s:.3f} s."])
    early_s = facts.duration_s - expected.duration_s
    if start_s and early_s > expected.slack_s + _CUT_S:
        return Copied(facts, [f"The result is {early_s:.3f} s longer: a copy begins with the key picture before."])
    return Copied(facts, [])
