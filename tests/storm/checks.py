"""What has to be true when the storm is over, by the client's own log: rows first, then bytes, then processes."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator, Set
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.daemon import until
from tests.storm.history import BrokenError, History, Order
from tests.storm.kinds import KINDS, SUCCEEDED
from tests.storm.world import Host, World
from vidqueue.job import MAX_CRASHES

# Codes that an attempt of any job may fail with while this fault (its name begins so) is about.
EXPLAINED = {
    "executor_crashed": "kill executor",
    # SIGKILL is what the kernel does when memory runs out.
    "out_of_memory": "kill ffmpeg",
    "ffmpeg_failed": "kill ffmpeg",
    "no_space": "full disk",
}
OLD_S = 7200
# Leases here are short, and a machine that has too much to do may miss one.
LOST_BY_LOAD = 3


def rows_are_right(world: World, history: History, *, also: Set[str]) -> Iterator[BrokenError]:
    """Every acknowledged job is there, once, and ended as its kind may; there are no others, but those in `also`."""
    jobs = {str(row["id"]): row for row in world.postgres.sql("SELECT * FROM vidqueue.jobs")}
    attempts: dict[str, list[dict[str, Any]]] = {}
    for attempt in world.postgres.sql("SELECT * FROM vidqueue.attempts ORDER BY job_id, number"):
        attempts.setdefault(str(attempt["job_id"]), []).append(attempt)
    for job_id, order in history.orders.items():
        if order.deleted != (job_id not in jobs):
            yield BrokenError(
                "a deleted job is still there" if order.deleted else "an acknowledged job is lost", job_id
            )
        elif not order.deleted:
            yield from _judged(order, jobs[job_id], attempts.get(job_id, []), history)
    yield from _lost_for_nothing([one for of_job in attempts.values() for one in of_job], history)
    for job_id in jobs.keys() - history.orders.keys() - also:
        yield BrokenError("a job that no client was told of", job_id)
    for key, ids in history.ids_of_key.items():
        if any(not history.orders[job_id].deleted for job_id in ids[:-1]):
            yield BrokenError(f"the key {key} made more than one job: {ids}", ids[0])
    for row in world.postgres.sql("SELECT * FROM vidqueue_report.invariant_violations"):
        yield BrokenError(f"invariant broken at the end: {row['invariant']}: {row['detail']}", str(row["job_id"]))
    try:
        # A lane forgets its delivery a moment after the job has ended.
        until(lambda: not world.postgres.sql("SELECT 1 FROM procrastinate.procrastinate_jobs"), within_s=15)
    except AssertionError:
        left = world.postgres.sql("SELECT * FROM procrastinate.procrastinate_jobs")
        # A ticket that nobody fetches: its lane hangs.
        yield BrokenError(f"procrastinate still holds {left}", left[0]["args"]["job_id"] if left else None)


def _judged(
    order: Order, job: dict[str, Any], attempts: list[dict[str, Any]], history: History
) -> Iterator[BrokenError]:
    kind, state, code = KINDS[order.kind], job["state"], job["error_code"]
    if state == "canceled" and not order.cancel_sent:
        yield BrokenError("canceled, and nobody asked for it", order.job_id)
    if order.cancel_accepted and not order.retry_sent and state != "canceled":
        yield BrokenError(f"a cancel was accepted, and the job ended as {state}", order.job_id)
    if state == "succeeded" and SUCCEEDED not in kind.ends:
        yield BrokenError(f"a job of kind {kind.name} cannot succeed", order.job_id)
    if code == "dependency_failed" and code not in kind.ends:
        yield BrokenError("failed by a dependency that it does not have", order.job_id)
    crashes = 0
    for attempt in attempts:
        crashes += attempt["error_code"] in ("executor_crashed", "no_result")
        if attempt["outcome"] == "failed" and not _explained(attempt, kind.ends | kind.burns, history):
            yield BrokenError(f"attempt {attempt['number']} failed unexplained: {attempt['error_code']}", order.job_id)
        if attempt["outcome"] is None:
            yield BrokenError(f"attempt {attempt['number']} is open", order.job_id)
    if code == "poison" and crashes < MAX_CRASHES:
        yield BrokenError(f"poison after {crashes} crashes", order.job_id)
    run_at = order.body.get("run_at")
    # Whoever retries a job wants it now.
    early = run_at and attempts and attempts[0]["dispatched_at"] < datetime.fromisoformat(run_at)
    if early and not order.retry_sent:
        yield BrokenError(f"began before its time {run_at}", order.job_id)


def _lost_for_nothing(attempts: list[dict[str, Any]], history: History) -> Iterator[BrokenError]:
    """A lane that hangs loses one lease after the other, and other lanes hide it by doing its jobs."""
    lost = [
        attempt
        for attempt in attempts
        if attempt["outcome"] == "interrupted"
        and not history.faults_during(attempt["dispatched_at"].timestamp(), attempt["ended_at"].timestamp())
    ]
    if len(lost) > LOST_BY_LOAD:
        yield BrokenError(f"{len(lost)} attempts were interrupted while nothing struck", str(lost[0]["job_id"]))


def _explained(attempt: dict[str, Any], expected: frozenset[str], history: History) -> bool:
    """Whether the kind fails so by itself, or a fault of the right sort was about."""
    code = attempt["error_code"]
    begin, end = attempt["dispatched_at"].timestamp(), attempt["ended_at"].timestamp()
    return code in expected or any(
        code in EXPLAINED and struck.name.startswith(EXPLAINED[code]) for struck in history.faults_during(begin, end)
    )


def results_are_right(world: World) -> Iterator[BrokenError]:
    """A succeeded job has one set of outputs, the winning attempt's, and the bytes are those of the rows."""
    for row in world.postgres.sql(
        "SELECT j.id, count(*) FILTER (WHERE a.outcome = 'succeeded') AS wins, max(a.number) AS last,"
        " max(a.number) FILTER (WHERE a.outcome = 'succeeded') AS winner"
        " FROM vidqueue.jobs j JOIN vidqueue.attempts a ON a.job_id = j.id WHERE j.state = 'succeeded' GROUP BY j.id"
        " HAVING count(*) FILTER (WHERE a.outcome = 'succeeded') <> 1"
        " OR max(a.number) <> max(a.number) FILTER (WHERE a.outcome = 'succeeded')"
    ):
        yield BrokenError(f"succeeded with {row['wins']} winning attempts, the last is {row['last']}", str(row["id"]))
    published = world.postgres.sql(
        "SELECT o.job_id, j.title, o.name, o.attempt, f.id AS file_id, f.sha256, f.size, a.outcome, a.host,"
        " count(*) OVER (PARTITION BY o.job_id) AS outputs"
        " FROM vidqueue.outputs o JOIN vidqueue.files f ON f.id = o.file_id"
        " JOIN vidqueue.attempts a ON a.job_id = o.job_id AND a.number = o.attempt"
        " JOIN vidqueue.jobs j ON j.id = o.job_id"
    )
    for row in published:
        wanted = KINDS[row["title"]].outputs if row["title"] in KINDS else 1
        if row["outcome"] != "succeeded" or row["outputs"] != wanted:
            text = f"{row['outputs']} outputs, one of attempt {row['attempt']} which {row['outcome']}"
            yield BrokenError(text, str(row["job_id"]))
        yield from _same_bytes(world, row)


def _same_bytes(world: World, row: dict[str, Any]) -> Iterator[BrokenError]:
    path = bytes_of(world.hosts[row["host"]].data_dir, str(row["file_id"]))
    if not path.exists():
        yield BrokenError(f"the bytes of {row['name']} ({row['file_id']}) are not on {row['host']}", str(row["job_id"]))
    elif hashlib.sha256(path.read_bytes()).hexdigest() != row["sha256"]:
        yield BrokenError(f"the bytes of {row['name']} are others than published", str(row["job_id"]))


def bytes_of(data_dir: Path, file_id: str) -> Path:
    """Where the bytes of a file lie."""
    return data_dir / "files" / file_id[-2:] / file_id


def strays(world: World) -> list[Path]:
    """Bytes without a row, and anything in the folders that are empty between jobs."""
    known = {str(row["id"]) for row in world.postgres.sql("SELECT id FROM vidqueue.files")}
    found: list[Path] = []
    for host in world.hosts.values():
        found += [path for path in host.data_dir.glob("files/*/*") if path.name not in known]
        found += [*host.data_dir.glob("work/*"), *host.data_dir.glob("incoming/*")]
    return found


def sweep_takes_strays(world: World, history: History) -> Iterator[BrokenError]:
    """A crash may leave bytes that no row names; once they are old, the next start removes them, and nothing else.

    Both daemons are down when this begins and when it ends.
    """
    before = strays(world)
    history.counts["strays before the sweep"] = len(before)
    for path in before:
        if path.parent.name in ("work", "incoming"):
            yield BrokenError(f"{path} was left after a drain")
    if lost := world.postgres.sql("SELECT id FROM vidqueue.files WHERE missing_at IS NOT NULL"):
        yield BrokenError(f"a daemon holds these files for lost: {lost}")
    long_ago = time.time() - OLD_S
    for host in world.hosts.values():
        for path in host.data_dir.glob("*/*/*"):
            os.utime(path, (long_ago, long_ago))
    for host in world.hosts.values():
        host.start()
    try:
        until(lambda: not strays(world), within_s=30)
    except AssertionError:
        yield BrokenError(f"these have no row, and the sweep left them: {strays(world)}")
    yield from drain_all(world)


def drain_all(world: World) -> Iterator[BrokenError]:
    """SIGTERM to both daemons at once; they end well."""
    with ThreadPoolExecutor() as pool:
        for host, code in zip(world.hosts.values(), pool.map(Host.drain, world.hosts.values()), strict=True):
            if code != 0:
                yield BrokenError(f"daemon {host.name} ended with {code} after SIGTERM")


def nobody_is_left(world: World) -> Iterator[BrokenError]:
    """Both daemons are down: nothing of theirs runs."""
    for process in world.stray_processes():
        yield BrokenError(f"process {process.pid} was left: {process.command}")
