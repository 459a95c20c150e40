"""vidqueue: a real daemon process with four lanes, on a PostgreSQL that it shares with the other contenders."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import TupleRow

from benchmarks import usage
from benchmarks.contenders.base import PATIENCE_S, Drained, Marks, difference
from tests.daemon import Daemon
from tests.postgres import Postgres
from tests.statements import Counted, counted

# Found by its entry point, in the daemon and in its executors, as any processor of an outside package.
NOOP = Path(__file__).parents[1] / "noop"
LANES = 4
MOST_MEMBERS = 1000


class Vidqueue:
    """Submits by SQL, batches over HTTP, and lets lanes go by ending their pause."""

    def __init__(self, daemon: Daemon, marks: Marks, postgres: Postgres | None = None) -> None:
        self._daemon = daemon
        self._postgres = postgres
        self._marks = marks
        self._connection = psycopg.connect(daemon.database_url, autocommit=True)

    def one_by_one(self, jobs: int) -> float:
        """One call of `vidqueue.submit()` and one commit for each job."""
        begun = time.perf_counter()
        for _ in range(jobs):
            self._connection.execute("SELECT vidqueue.submit('noop', '{}')")
        return time.perf_counter() - begun

    def batch(self, jobs: int) -> float:
        """One call of `POST /v1/batches` for each thousand jobs, which is as many as one takes."""
        calls = [min(MOST_MEMBERS, jobs - first) for first in range(0, jobs, MOST_MEMBERS)]
        bodies = [{"jobs": [{"processor": "noop", "input": {}}] * members} for members in calls]
        begun = time.perf_counter()
        for body in bodies:
            self._daemon.http.post("/v1/batches", json=body).raise_for_status()
        return time.perf_counter() - begun

    def drain(self, consumers: int) -> Drained:
        """From the first dispatch to the last end, as the attempts tell."""
        (since,) = self._one("SELECT clock_timestamp()")
        before = self._cpu_s()
        with self._unpaused(consumers):
            self._wait_until_done()
        used = difference(self._cpu_s(), before)
        jobs, seconds, succeeded = self._one(
            """SELECT count(*), extract(epoch FROM max(ended_at) - min(dispatched_at))::float8,
                      count(*) FILTER (WHERE outcome = 'succeeded')
               FROM vidqueue.attempts WHERE dispatched_at >= %s""",
            since,
        )
        assert jobs == succeeded > 0, f"{succeeded} of {jobs} attempts succeeded"
        return Drained(jobs, seconds, used)

    def pickups(self, samples: int) -> list[float]:
        """One job at a time on one lane, each submitted after the one before has ended."""
        taken = []
        with self._unpaused(1):
            for _ in range(samples):
                # Events of the last 20 ms are handled together; an idle lane has heard none.
                time.sleep(0.03)
                self._marks.forget()
                submitted = time.monotonic_ns()
                text = "SELECT vidqueue.submit('noop', jsonb_build_object('marks', %s::text))"
                self._connection.execute(text, [str(self._marks.path)])
                taken.append((self._marks.wait_for(1)[0] - submitted) / 1e6)
                self._wait_until_done(every_s=0.005)
        return taken

    def counted(self, jobs: int, lanes: int) -> tuple[Counted, float]:
        """What a drain of `jobs` costs in statements and commits, and the syncs of PostgreSQL's log for each job."""
        assert self._postgres, "statements are counted in the log of a server of our own"
        self.batch(jobs)
        syncs = self._syncs()
        with counted(self._daemon.database_url, self._postgres.log) as found:
            self.drain(lanes)
        return found, (self._syncs() - syncs) / jobs

    def warm(self) -> None:
        """Let each lane do one job, so that its executor runs."""
        self.pause()
        for lane in range(LANES):
            self._connection.execute("SELECT vidqueue.submit('noop', '{}', lane => %s)", [f"cpu{lane}"])
        self.drain(LANES)

    def pause(self) -> None:
        """Let no lane take a job."""
        self._connection.execute("UPDATE vidqueue.lanes SET paused = true")

    @contextmanager
    def _unpaused(self, consumers: int) -> Iterator[None]:
        names = [f"cpu{lane}" for lane in range(consumers)]
        self._connection.execute("SELECT vidqueue.resume_lane(id) FROM vidqueue.lanes WHERE name = ANY (%s)", [names])
        try:
            yield
        finally:
            self.pause()

    def _wait_until_done(self, *, every_s: float = 0.1) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while self._one("SELECT EXISTS (SELECT FROM vidqueue.jobs WHERE state IN ('queued', 'running'))")[0]:
            assert time.monotonic() < deadline, f"the queue was not empty within {PATIENCE_S} s"
            time.sleep(every_s)

    def _syncs(self) -> float:
        """Syncs of the write-ahead log so far; an idle session tells its share after ten seconds."""
        time.sleep(11)
        if self._connection.info.server_version >= 180_000:
            return float(self._one("SELECT sum(fsyncs) FROM pg_stat_io WHERE object = 'wal'")[0])
        return float(self._one("SELECT wal_sync FROM pg_stat_wal")[0])

    def _cpu_s(self) -> dict[str, float]:
        # An embedded server is a child of the daemon.
        server = [self._postgres.postmaster] if self._postgres else []
        return usage.cpu_s(self._daemon.process.pid, *server)

    def _one(self, query: str, *values: object) -> TupleRow:
        found: Any = self._connection.execute(query.encode(), values or None).fetchone()
        assert found is not None
        return tuple(found)


def daemon_with_noop(folder: Path, **variables: str) -> Daemon:
    """A daemon, not started, with four lanes and the processor that does nothing."""
    path = os.environ.get("PYTHONPATH", "")
    daemon = Daemon(
        folder,
        VIDQUEUE_LANES__CPU=str(LANES),
        VIDQUEUE_LANES__GPU="off",
        VIDQUEUE_DISK__LOW_WATER_MIB="0",
        PYTHONPATH=os.pathsep.join([str(NOOP), *filter(None, [path])]),
        **variables,
    )
    daemon.prepared = False
    return daemon


@contextmanager
def vidqueue(postgres: Postgres, folder: Path) -> Iterator[Vidqueue]:
    """A daemon with paused, warm lanes."""
    daemon = daemon_with_noop(folder / "vidqueue", VIDQUEUE_DATABASE__URL=postgres.database("vidqueue")).start()
    try:
        contender = Vidqueue(daemon, Marks(folder / "vidqueue.marks"), postgres)
        contender.warm()
        yield contender
    finally:
        daemon.stop()
