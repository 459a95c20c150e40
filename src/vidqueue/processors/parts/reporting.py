"""Turning ffmpeg's progress reports into the progress of a job: a stage, its share of the work, and the time left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from vidqueue.media import ffmpeg
from vidqueue.ops import active_time
from vidqueue.progress import Progress, eta_of_whole, eta_s

Log = Callable[[str, str], None]
"""What takes a line and its level, as `ctx.log`."""


def stage_reporter(
    tell: Callable[[Progress], None], stage: str, duration_s: float, *, begin: float = 0.0, end: float = 0.98
) -> ffmpeg.ProgressCallback:
    """A callback for `ffmpeg.run` that reports one stage.

    Args:
        tell: what is called with each report, as `ctx.progress`; what it raises ends the stage.
        stage: a short word, such as `encode`.
        duration_s: seconds of media that the stage goes through.
        begin: share of the whole work that was done before.
        end: share that is done after it.
    """
    started = active_time.now()

    def report(seen: ffmpeg.Seen) -> None:
        share = min(seen.out_time_s / duration_s, 1.0) if duration_s > 0 else 0.0
        fraction = begin + share * (end - begin)
        left = eta_of_whole(eta_s(share, active_time.now() - started), fraction, end)
        tell(Progress(fraction, stage, fps=seen.fps or None, speed=seen.speed or None, eta_s=left))

    return report


def log_remarks(log: Log, tally: ffmpeg.Tally, *, failed: bool = False) -> None:
    """Write ffmpeg's messages into the log of the attempt; its errors have the level error only if the run failed."""
    for level, text in tally.remarks:
        log(text, level if failed else ffmpeg.endured(level))


@contextmanager
def remarks_logged(log: Log, tally: ffmpeg.Tally) -> Iterator[None]:
    """Write ffmpeg's messages of the block into the log at its end."""
    try:
        yield
    except BaseException:
        log_remarks(log, tally, failed=True)
        raise
    log_remarks(log, tally)
