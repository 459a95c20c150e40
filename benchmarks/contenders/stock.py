"""procrastinate as it comes, with its own worker.

`python -m benchmarks.contenders.stock URL MARKS CONSUMERS` is one worker.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from procrastinate import App, PsycopgConnector, SyncPsycopgConnector

from benchmarks import usage
from benchmarks.contenders.base import Drained, Marks, difference
from benchmarks.contenders.children import child, let_go, ready
from tests.postgres import Postgres

TASK = "noop"


class Stock:
    """Jobs are deferred by its synchronous connector; a worker process begins when it is let go."""

    def __init__(self, app: App, url: str, marks: Marks, postmaster: int) -> None:
        self._task = app.configure_task(TASK)
        self._url = url
        self._marks = marks
        self._postmaster = postmaster
        self._waiting = 0

    def one_by_one(self, jobs: int) -> float:
        """One `defer` for each job."""
        begun = time.perf_counter()
        for _ in range(jobs):
            self._task.defer()
        self._waiting += jobs
        return time.perf_counter() - begun

    def batch(self, jobs: int) -> float:
        """One `batch_defer` for all jobs."""
        begun = time.perf_counter()
        self._task.batch_defer(*({} for _ in range(jobs)))
        self._waiting += jobs
        return time.perf_counter() - begun

    def drain(self, consumers: int) -> Drained:
        """One worker process with this concurrency."""
        jobs, self._waiting = self._waiting, 0
        self._marks.forget()
        with child(__name__, self._url, str(self._marks.path), str(consumers)) as worker:
            before = usage.cpu_s(worker.pid, self._postmaster)
            let_go(worker)
            self._marks.wait_for(jobs)
            return self._marks.drained(jobs, difference(usage.cpu_s(worker.pid, self._postmaster), before))

    def pickups(self, samples: int) -> list[float]:
        """One job at a time on a worker that listens."""
        taken = []
        with child(__name__, self._url, str(self._marks.path), "1") as worker:
            let_go(worker)
            time.sleep(1)
            for _ in range(samples):
                self._marks.forget()
                submitted = time.monotonic_ns()
                self._task.defer()
                taken.append((self._marks.wait_for(1)[0] - submitted) / 1e6)
                time.sleep(0.03)
        return taken


@contextmanager
def procrastinate(postgres: Postgres, folder: Path) -> Iterator[Stock]:
    """A database with its schema."""
    url = postgres.database("procrastinate")
    with App(connector=SyncPsycopgConnector(conninfo=url)).open() as app:
        app.schema_manager.apply_schema()
        yield Stock(app, url, Marks(folder / "procrastinate.marks"), postgres.postmaster)


async def work(url: str, path: str, consumers: int) -> None:
    """Its own worker, which deletes successful jobs as ours does."""
    logging.disable(logging.INFO)
    marks = os.open(path, os.O_WRONLY | os.O_APPEND)
    app = App(connector=PsycopgConnector(conninfo=url))

    @app.task(name=TASK)
    async def noop() -> None:
        os.write(marks, b"%d\n" % time.monotonic_ns())

    async with app.open_async():
        await asyncio.to_thread(ready)
        await app.run_worker_async(concurrency=consumers, delete_jobs="successful", install_signal_handlers=False)


if __name__ == "__main__":
    # By its own name, because procrastinate warns of an App in the main module.
    from benchmarks.contenders import stock  # noqa: PLW0406

    asyncio.run(stock.work(sys.argv[1], sys.argv[2], int(sys.argv[3])))
