"""Submits to Celery and steers its workers, in the peers' environment; told what to do by lines on stdin.

`submit MARKS JOBS` answers with the nanoseconds that the calls took and the clock at their beginning. `pause WORKER`
and `resume WORKER` answer when the worker has confirmed.
"""

from __future__ import annotations

import sys
import time

from benchmarks.contenders.celery_tasks import QUEUE, app, noop


def main() -> None:
    """Answer until stdin ends."""
    print("ready", flush=True)
    for line in sys.stdin:
        verb, *words = line.split()
        if verb == "submit":
            print(*submit(words[0], int(words[1])), flush=True)
        else:
            steer(verb, words[0])
            print("done", flush=True)


def submit(marks: str, jobs: int) -> tuple[int, int]:
    """Call `apply_async` so many times."""
    begun = time.monotonic_ns()
    for _ in range(jobs):
        noop.apply_async(args=[marks], queue=QUEUE)
    return time.monotonic_ns() - begun, begun


def steer(verb: str, worker: str) -> None:
    """Let a worker consume or not; asked again until it answers."""
    control = app.control.add_consumer if verb == "resume" else app.control.cancel_consumer
    for _ in range(60):
        if control(QUEUE, destination=[worker], reply=True, timeout=2):
            return
    raise SystemExit(f"{worker} does not answer")


if __name__ == "__main__":
    main()
