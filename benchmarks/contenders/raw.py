"""A table and SKIP LOCKED, nothing else: what one PostgreSQL can give at most, with one commit a job and with two.

`python -m benchmarks.contenders.raw URL MARKS COMMITS` is one consumer.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg

from benchmarks import usage
from benchmarks.contenders.base import Drained, Marks, difference
from benchmarks.contenders.children import child, let_go, ready
from tests.postgres import Postgres

SCHEMA = """
CREATE TABLE job (id bigserial PRIMARY KEY, state text NOT NULL DEFAULT 'queued', done_at timestamptz);
CREATE INDEX ON job (id) WHERE state = 'queued';
"""
SUBMIT = "WITH one AS (INSERT INTO job DEFAULT VALUES RETURNING id) SELECT pg_notify('job', '')"
CHOSEN = "(SELECT id FROM job WHERE state = 'queued' ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED)"
BOTH = f"UPDATE job SET state = 'done', done_at = now() WHERE id = {CHOSEN} RETURNING id"
CLAIM = f"UPDATE job SET state = 'running' WHERE id = {CHOSEN} RETURNING id"
FINISH = "UPDATE job SET state = 'done', done_at = now() WHERE id = %s"


class Raw:
    """Consumers are processes that begin when they are let go, and end when the queue is empty or they are stopped."""

    def __init__(self, url: str, marks: Marks, commits: int, postmaster: int) -> None:
        self._connection = psycopg.connect(url, autocommit=True)
        self._arguments = (url, str(marks.path), str(commits))
        self._marks = marks
        self._postmaster = postmaster
        self._waiting = 0

    def one_by_one(self, jobs: int) -> float:
        """One INSERT with a NOTIFY and one commit for each job."""
        begun = time.perf_counter()
        for _ in range(jobs):
            self._submit()
        self._waiting += jobs
        return time.perf_counter() - begun

    def batch(self, jobs: int) -> float:
        """One INSERT for all jobs."""
        begun = time.perf_counter()
        self._connection.execute("INSERT INTO job (state) SELECT 'queued' FROM generate_series(1, %s)", [jobs])
        self._waiting += jobs
        return time.perf_counter() - begun

    def drain(self, consumers: int) -> Drained:
        """Let go so many processes at once."""
        jobs, self._waiting = self._waiting, 0
        self._marks.forget()
        with ExitStack() as stack:
            children = [stack.enter_context(child(__name__, *self._arguments)) for _ in range(consumers)]
            pids = [self._postmaster, *(one.pid for one in children)]
            before = usage.cpu_s(*pids)
            for one in children:
                let_go(one)
            self._marks.wait_for(jobs)
            return self._marks.drained(jobs, difference(usage.cpu_s(*pids), before))

    def pickups(self, samples: int) -> list[float]:
        """One job at a time, woken by NOTIFY."""
        taken = []
        with child(__name__, *self._arguments) as consumer:
            let_go(consumer)
            time.sleep(0.5)
            for _ in range(samples):
                self._marks.forget()
                submitted = time.monotonic_ns()
                self._submit()
                taken.append((self._marks.wait_for(1)[0] - submitted) / 1e6)
                time.sleep(0.03)
        return taken

    def _submit(self) -> None:
        self._connection.execute(SUBMIT)


@contextmanager
def raw_one_commit(postgres: Postgres, folder: Path) -> Iterator[Raw]:
    """Choose and finish in one statement."""
    yield _prepared(postgres, folder, 1)


@contextmanager
def raw_two_commits(postgres: Postgres, folder: Path) -> Iterator[Raw]:
    """Claim, work, finish: two commits, as any queue needs that must notice a lost worker."""
    yield _prepared(postgres, folder, 2)


def _prepared(postgres: Postgres, folder: Path, commits: int) -> Raw:
    url = postgres.database(f"raw{commits}")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(SCHEMA)
    return Raw(url, Marks(folder / f"raw{commits}.marks"), commits, postgres.postmaster)


def consume(url: str, path: str, commits: int) -> None:
    """Do what waits, then wait for a NOTIFY."""
    marks = os.open(path, os.O_WRONLY | os.O_APPEND)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("LISTEN job")
        ready()
        while True:
            while found := connection.execute(BOTH if commits == 1 else CLAIM).fetchone():
                os.write(marks, b"%d\n" % time.monotonic_ns())
                if commits == 2:
                    connection.execute(FINISH, found)
            for _ in connection.notifies(timeout=5, stop_after=1):
                pass


if __name__ == "__main__":
    consume(sys.argv[1], sys.argv[2], int(sys.argv[3]))
