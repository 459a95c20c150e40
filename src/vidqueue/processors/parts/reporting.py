"""Turning ffmpeg's progress reports into the progress of a job: a stage, its share of the work, and the time left."""

from __future__ import annotations

import time

from vidqueue.media import ffmpeg
from vidqueue.processors.context import Context
from vidqueue.progress import Progress, eta_s


def stage_reporter(
    ctx: Context, stage: str, duration_s: float, *, begin: float = 0.0, end: float = 0.98
) -> ffmpeg.ProgressCallback:
    """A callback for `ffmpeg.run` that reports one stage.

    Args:
        ctx: the run; its cancel ends the stage.
        stage: a short word, such as `encode`.
        duration_s: seconds of media that the stage goes through.
        begin: share of the whole work that was done before.
        end: share that is done after it.
    """
    started = time.monotonic()

    def report(seen: ffmpeg.Seen) -> None:
        share = min(seen.out_time_s / duration_s, 1.0) if duration_s > 0 else 0.0
        fraction = begin + share * (end - begin)
        left = eta_s(share, time.monotonic() - started)
        ctx.progress(Progress(fraction, stage, fps=seen.fps or None, speed=seen.speed or None, eta_s=left))

    return report


def log_remarks(ctx: Context, tally: ffmpeg.Tally) -> None:
    """Write what ffmpeg remarked into the log of the attempt."""
    for level, text in tally.remarks:
        ctx.log(text, level)
