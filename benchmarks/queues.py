"""Queue overhead with jobs that do nothing: drain, pickup, submit one by one and in a batch, against other queues.

Each round fills every queue while its consumers are at rest, lets them go, and takes the time from the first job's
dispatch to the last job's end. vidqueue runs as a real daemon and publishes one small output for each job.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from benchmarks.contenders.base import Contender
from benchmarks.contenders.celery_workers import celery_rabbitmq, celery_redis
from benchmarks.contenders.children import SkippedError
from benchmarks.contenders.ours import Vidqueue, vidqueue
from benchmarks.contenders.raw import raw_one_commit, raw_two_commits
from benchmarks.contenders.stock import procrastinate
from benchmarks.measure import Report, interleaved, machine, percentile
from tests.postgres import Postgres, own_postgres

PART = "queue"
Opened = Callable[[Postgres, Path], AbstractContextManager[Contender]]

CONTENDERS: dict[str, Opened] = {
    "vidqueue": vidqueue,
    "Celery+Redis": celery_redis,
    "Celery+RabbitMQ": celery_rabbitmq,
    "procrastinate": procrastinate,
    "SKIP LOCKED, one commit": raw_one_commit,
    "SKIP LOCKED, two commits": raw_two_commits,
}

HOW = """
examples:
  python -m benchmarks.queues                                          everything (make bench ONLY=queue)
  python -m benchmarks.queues --only vidqueue --jobs 400 --lanes 4     vidqueue alone, in a minute or so
  python -m benchmarks.queues --only vidqueue --count 200              statements and commits a job, by text

Run it from the root of the repository, as a module. The figures of different runs do not compare on a shared machine;
measure before and after a change.
"""


@dataclass(slots=True)
class Round:
    """What one contender reached in one round."""

    drains: dict[int, float] = field(default_factory=dict)
    cpu_ms: dict[int, dict[str, float]] = field(default_factory=dict)
    one_by_one: float = 0
    batch: float = 0
    pickups: list[float] = field(default_factory=list)


def one_round(contender: Contender, wanted: argparse.Namespace) -> Round:
    """Fill and drain once for each number of consumers, then measure pickups."""
    found = Round()
    for consumers in wanted.lanes:
        if consumers == max(wanted.lanes):
            found.batch = wanted.jobs / contender.batch(wanted.jobs)
        else:
            # Fewer jobs, because this is slow for everyone.
            few = max(1, wanted.jobs // 4)
            found.one_by_one = few / contender.one_by_one(few)
        drained = contender.drain(consumers)
        found.drains[consumers] = drained.rate
        found.cpu_ms[consumers] = {kind: 1000 * used / drained.jobs for kind, used in drained.cpu_s.items()}
    found.pickups = contender.pickups(wanted.pickups) if wanted.pickups else []
    return found


def add(report: Report, measured: Mapping[str, list[Round]], lanes: list[int]) -> None:
    """Turn the rounds into figures."""

    def each(value: Callable[[Round], float]) -> dict[str, list[float]]:
        return {name: [value(one) for one in rounds] for name, rounds in measured.items()}

    against = next((name for name in measured if name != "vidqueue"), "")
    for consumers in lanes:
        what = f"drain, {consumers} consumer{'s' if consumers > 1 else ''}"
        report.add(PART, what, "jobs/s", each(lambda one, n=consumers: one.drains[n]), against=against)  # type: ignore[misc]
        spent = each(lambda one, n=consumers: sum(one.cpu_ms[n].values()))  # type: ignore[misc]
        report.add(PART, f"CPU, {what}", "ms a job", spent, against=against)
        for kind in ("daemon", "executor", "postgres"):
            ours = [one.cpu_ms[consumers].get(kind, 0.0) for one in measured.get("vidqueue", [])]
            report.add(PART, f"CPU, {what}", "ms a job", {f"vidqueue: {kind}": ours})
    if all(one.pickups for rounds in measured.values() for one in rounds):
        for name, share in (("p50", 0.5), ("p99", 0.99)):
            pickups = each(lambda one, at=share: percentile(one.pickups, at))  # type: ignore[misc]
            report.add(PART, f"pickup on an idle consumer, {name}", "ms", pickups, against=against)
    if len(lanes) > 1:
        report.add(PART, "submit one by one", "jobs/s", each(lambda one: one.one_by_one), against=against)
    report.add(PART, "submit in a batch", "jobs/s", each(lambda one: one.batch), against=against)


def count(report: Report, contender: Vidqueue, jobs: int, lanes: int) -> None:
    """Statements, commits and syncs a job, in a run of their own: logging them costs time."""
    counted, syncs = contender.counted(jobs, lanes)
    print(counted.table(jobs), flush=True)
    what = {"statements": counted.statements / jobs, "commits": counted.commits / jobs, "syncs of the log": syncs}
    for name, value in what.items():
        report.add(PART, f"{name} a job, {lanes} lanes", "", {"vidqueue": [value]})


def main() -> None:
    """Measure and print one table."""
    wanted = arguments()
    # A terminated run closes its servers too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    report = Report(machine=machine())
    with (
        own_postgres() as postgres,
        tempfile.TemporaryDirectory(prefix="vidqueue-bench-") as name,
        ExitStack() as stack,
    ):
        folder = Path(name)
        folder.chmod(0o755)
        opened = {}
        for one in wanted.only:
            try:
                opened[one] = stack.enter_context(CONTENDERS[one](postgres, folder))
            except SkippedError as error:
                report.skip(one, str(error))
        rounds = {one: partial(one_round, contender, wanted) for one, contender in opened.items()}
        add(report, interleaved(rounds, wanted.rounds), wanted.lanes)
        ours = opened.get("vidqueue")
        if wanted.count and isinstance(ours, Vidqueue):
            count(report, ours, wanted.count, max(wanted.lanes))
    report.publish(wanted.out)


def arguments() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.queues",
        description=__doc__,
        epilog=HOW,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, default=list(CONTENDERS), help="which queues")
    parser.add_argument("--jobs", type=int, default=800, help="jobs for each drain with the most consumers (800)")
    parser.add_argument("--lanes", type=int, nargs="+", default=[1, 4], help="consumers: 1, 4 or both (both)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds; the table shows their medians (3)")
    parser.add_argument("--pickups", type=int, default=50, help="pickups in each round, 0 for none (50)")
    parser.add_argument("--count", type=int, default=0, metavar="JOBS", help="also count statements over JOBS jobs (0)")
    parser.add_argument("--out", type=Path, help="file to write the table to, as .md and .json")
    return parser.parse_args()


if __name__ == "__main__":
    main()
