"""Seeds for jobs that name none."""

from __future__ import annotations

import hashlib

from vidqueue.processors.context import Context


def drawn_seed(ctx: Context) -> int:
    """Return a seed derived from the id of the job, so that each attempt of the job has the same."""
    job, _, _ = ctx.attempt.rpartition("-")
    return int.from_bytes(hashlib.sha256(job.encode()).digest()[:4], "big")
