"""What a storm tells: how it goes, what it came to, and after a failure the shortest trace of the job that shows it."""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime
from typing import Any

import psycopg
from rich.console import Console
from rich.table import Table

from tests.storm.history import History, Struck
from tests.storm.world import World

SHOWN = 5
LATEST_EVENTS = 30
LINE_EVERY_S = 10


class Ticker:
    """One line that is written over on a terminal, a new line each ten seconds elsewhere."""

    def __init__(self, history: History, seed: str, seconds: float) -> None:
        self.history, self.seed, self.seconds = history, seed, seconds
        self._told_at = 0.0

    def tick(self, phase: str) -> None:
        """Say how it goes, if it is time to."""
        terminal = sys.stderr.isatty()
        if time.monotonic() - self._told_at < (1 if terminal else LINE_EVERY_S):
            return
        self._told_at = time.monotonic()
        now = [struck.name for struck in self.history.faults if struck.end is None]
        counts = self.history.counts
        text = (
            f"storm {self.seed}: {phase}, {time.time() - self.history.began:.0f} of {self.seconds:.0f} s, "
            f"{counts['jobs']} jobs, {counts['line']} open, {len(self.history.faults)} faults {', '.join(now)}"
        )
        print(f"\r\033[K{text}" if terminal else text, end="" if terminal else "\n", file=sys.stderr, flush=True)


def summary(world: World, history: History, seed: str) -> dict[str, Any]:
    """The figures of a storm."""
    counts = history.counts
    by_state = world.postgres.sql("SELECT state, count(*) AS jobs FROM vidqueue.jobs GROUP BY state ORDER BY state")
    outcomes = world.postgres.sql(
        "SELECT coalesce(outcome, 'open') AS outcome, count(*) AS attempts FROM vidqueue.attempts GROUP BY 1 ORDER BY 1"
    )
    return {
        "seed": seed,
        "duration_s": round(time.time() - history.began, 1),
        "acknowledged": len(history.orders),
        "deleted": sum(order.deleted for order in history.orders.values()),
        "jobs": {row["state"]: row["jobs"] for row in by_state},
        "attempts": {row["outcome"]: row["attempts"] for row in outcomes},
        "faults": named(counts, "fault: "),
        "missed": named(counts, "missed: "),
        "answers": {key: counts[key] for key in sorted(counts) if "submit: " in key},
        "people": {
            key: counts[key]
            for key in sorted(counts)
            if key.split(":")[0] in ("cancel", "retry", "patch", "delete", "read")
        },
        "operator": {key: counts[key] for key in sorted(counts) if key.split(":")[0] in ("pause", "drain", "resume")},
        "told_of_its_end": counts["told of its end"],
        "videos_taken": counts["videos taken"],
        "submitted_by_schedules": counts["submitted by a schedule"],
        "strays_before_sweep": counts["strays before the sweep"],
        "slowest_poll_s": round(history.slowest_poll_s, 2),
        "longest_line": history.longest_line,
        "full_disk_possible": world.small_disk is not None,
    }


def named(counts: dict[str, int], prefix: str) -> dict[str, int]:
    """The counters whose name begins so, without that beginning."""
    return {key.removeprefix(prefix): counts[key] for key in sorted(counts) if key.startswith(prefix)}


def show(figures: dict[str, Any]) -> None:
    """The figures as a table, and as one line of JSON."""
    table = Table(title=f"storm {figures['seed']}")
    table.add_column("what")
    table.add_column("figures")
    for name, value in figures.items():
        text = ", ".join(f"{key} {count}" for key, count in value.items()) if isinstance(value, dict) else str(value)
        table.add_row(name.replace("_", " "), text)
    Console(width=None if sys.stdout.isatty() else 140).print(table)
    print(json.dumps(figures))


def explain(world: World, history: History, repeat: str) -> None:
    """After a failure: what is broken, how to repeat it, and the life of the first job it shows on."""
    print(f"\n{len(history.problems)} promises broken. Repeat with: {repeat}")
    for problem in history.problems[:SHOWN]:
        print(f"  {f'job {problem.job_id}: ' if problem.job_id else ''}{problem}")
    job_id = next((problem.job_id for problem in history.problems[:SHOWN] if problem.job_id), None)
    for line in trace(world, history, job_id) if job_id else _latest_faults(history):
        print(line)
    print(f"Data folders and logs are kept in {world.folder}")


def trace(world: World, history: History, job_id: str) -> list[str]:
    """Everything that happened to a job, in the order of time."""
    lines: list[tuple[float, str]] = []
    order = history.orders.get(job_id)
    if order is not None:
        lines.append((order.acknowledged_at, f"client    acknowledged {order.key}, kind {order.kind}: {order.body}"))
        lines += [(act.at, f"{act.who:9} {act.what}") for act in order.acts]
    try:
        lines += _of_database(world, job_id)
        row = [(time.time(), _row(world, job_id))]
    except psycopg.Error as error:
        row = [(time.time(), f"the database cannot tell: {error}")]
    if lines:
        first, last = min(at for at, _ in lines), max(at for at, _ in lines)
        lines += [entry for struck in history.faults_during(first, last) for entry in _of_fault(struck)]
    lines += row
    return [f"  {_clock(at)} {text}" for at, text in sorted(lines)]


def _of_database(world: World, job_id: str) -> list[tuple[float, str]]:
    lines = []
    for row in world.postgres.sql(
        "SELECT * FROM (SELECT number, kind, at, data FROM vidqueue.events WHERE job_id = %s"
        " ORDER BY number DESC LIMIT %s) e ORDER BY number",
        job_id,
        LATEST_EVENTS,
    ):
        told = {key: row["data"][key] for key in ("attempt", "lane", "progress", "error") if key in row["data"]}
        lines.append((row["at"].timestamp(), f"event     {row['number']} {row['kind']} {told}"))
    for row in world.postgres.sql("SELECT * FROM vidqueue.attempts WHERE job_id = %s ORDER BY number", job_id):
        where = f"attempt   {row['number']} (fence {row['fence']}) on {row['host']} {row['lane']}"
        lines.append((row["dispatched_at"].timestamp(), f"{where} dispatched"))
        if row["ended_at"]:
            why = row["reason"] or row["error_code"] or ""
            text = f"{where} {row['outcome']} {why} {row['error_message'] or ''}"
            lines.append((row["ended_at"].timestamp(), text))
            if row["error_detail"]:
                lines.append((row["ended_at"].timestamp(), f"          {row['error_detail'][-800:]}"))
        else:
            lines.append((time.time(), f"{where} is open, lease until {row['lease_expires_at']}"))
    return lines


def _row(world: World, job_id: str) -> str:
    found = world.postgres.sql("SELECT * FROM vidqueue.jobs WHERE id = %s", job_id)
    if not found:
        return "row       there is none"
    shown = ("state", "attempt", "failures", "crashes", "error_code", "error_message", "run_at", "cancel_requested_at")
    return f"row       { ({name: str(found[0][name]) for name in shown}) }"


def _of_fault(struck: Struck) -> list[tuple[float, str]]:
    lines = [(struck.begin, f"fault     {struck.name} begins {struck.detail}")]
    if struck.end is not None:
        lines.append((struck.end, f"fault     {struck.name} is over"))
    return lines


def _latest_faults(history: History) -> list[str]:
    lines = [entry for struck in history.faults[-6:] for entry in _of_fault(struck)]
    return [f"  {_clock(at)} {text}" for at, text in sorted(lines)]


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S.%f")[:-3]
