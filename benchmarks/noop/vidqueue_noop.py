"""A processor that does nothing and publishes one small output: what remains of its time is the queue's."""

from __future__ import annotations

import os
import time
from typing import Any

from vidqueue.job import OutputDraft
from vidqueue.processors.base import Context, Parameters, Processor
from vidqueue.progress import Progress


class Noop(Processor):
    """Does nothing, and publishes four bytes."""

    name = "noop"

    class Params(Parameters):
        """What a benchmark wants to know of the work."""

        # File that receives the monotonic clock at the beginning of the work, in nanoseconds, one line a job.
        marks: str = ""
        # Progress messages to send, and the pause between two.
        reports: int = 0
        pause_s: float = 0

    def run(self, params: Any, ctx: Context) -> list[OutputDraft]:
        """Write the mark, report as often as asked, and publish."""
        if params.marks:
            mark(params.marks)
        for step in range(params.reports):
            # The message carries the time of sending; the clock is the same for every process of the machine.
            ctx.progress(Progress(step / params.reports, stage="noop", message=str(time.monotonic_ns())))
            time.sleep(params.pause_s)
        path = ctx.output_path("result.txt")
        path.write_text("done")
        return [OutputDraft("text", path, "text/plain")]


def mark(path: str) -> None:
    """Append the monotonic clock to a file, in one write."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        os.write(descriptor, b"%d\n" % time.monotonic_ns())
    finally:
        os.close(descriptor)
