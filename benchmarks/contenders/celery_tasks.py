"""The Celery application of the benchmark, imported by its worker and by the process that submits."""

from __future__ import annotations

import os
import time

from celery import Celery

QUEUE = "noop"

app = Celery("benchmark", broker=os.environ["BENCH_BROKER"])
app.conf.update(
    task_acks_late=True,
    worker_prefetch_multiplier=1,
    task_ignore_result=True,
    broker_connection_retry_on_startup=True,
)


@app.task(name="noop")  # type: ignore[untyped-decorator]
def noop(marks: str) -> None:
    """Append the monotonic clock to a file, and do nothing else."""
    descriptor = os.open(marks, os.O_WRONLY | os.O_APPEND)
    os.write(descriptor, b"%d\n" % time.monotonic_ns())
    os.close(descriptor)
