"""Counts the statements and commits that a program sends to PostgreSQL, by reading the server's own log.

The embedded server has no pg_stat_statements, and counters of transactions arrive seconds late. The log has every
statement of every session at once, with its time to plan and to run. Statements inside functions are not counted: they
cost no round trip.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

_MARK = "vidqueue-counted"
# Process, virtual transaction, application.
_PREFIX = f"{_MARK} %p %v %a|"
_LINE = re.compile(
    rf"{_MARK} (?P<session>\d+) (?P<transaction>\S*) (?P<name>[^|]*)\|LOG: +"
    r"(?:duration: (?P<ms>[\d.]+) ms)?(?: *(?P<phase>statement|execute|parse|bind)(?: [^:\n]+)?: (?P<text>.*))?\Z",
    re.DOTALL,
)
_ROLLBACK = re.compile(r"ROLLBACK\s*(;|\Z)", re.IGNORECASE)


@dataclass(slots=True)
class Counted:
    """What the sessions of one application sent while they were counted."""

    statements: int = 0
    commits: int = 0
    rollbacks: int = 0
    # Times each text was executed, and the milliseconds it took to plan (parse and bind) and to run.
    texts: Counter[str] = field(default_factory=Counter)
    planning_ms: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    running_ms: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def table(self, per: int) -> str:
        """One line per text: how often it ran for each of `per` jobs, and its milliseconds for each."""
        lines = [f"{'a job':>7} {'plan ms':>8} {'run ms':>8}  statement"]
        for text, times in self.texts.most_common():
            plan, run = self.planning_ms[text] / per, self.running_ms[text] / per
            lines.append(f"{times / per:7.2f} {plan:8.3f} {run:8.3f}  {text[:120]}")
        return "\n".join(lines)


@contextmanager
def counted(url: str, log: Path, application: str = "vidqueue") -> Iterator[Counted]:
    """Count what sessions named `application` send during the block; complete when the block has ended.

    `url` needs the rights of a superuser, and `log` is the file that the server writes to.
    """
    _log_everything(url, on=True)
    counted = Counted()
    start = log.stat().st_size
    try:
        yield counted
    finally:
        with log.open("rb") as text:
            text.seek(start)
            _count(text.read().decode(errors="replace"), application, counted)
        _log_everything(url, on=False)


def _log_everything(url: str, *, on: bool) -> None:
    settings = {
        "log_statement": "'all'" if on else "'none'",
        "log_min_duration_statement": "0" if on else "-1",
        "log_line_prefix": f"'{_PREFIX}'" if on else "'%m [%p] '",
    }
    with psycopg.connect(url, autocommit=True, application_name="counting") as connection:
        for name, value in settings.items():
            connection.execute(f"ALTER SYSTEM SET {name} = {value}".encode())
        connection.execute("SELECT pg_reload_conf()")
        # The postmaster passes the signal on to every session at once.
        while connection.execute("SHOW log_min_duration_statement").fetchone() != ("0" if on else "-1",):
            pass


def _count(text: str, application: str, counted: Counted) -> None:
    transactions: set[str] = set()
    last: dict[str, str] = {}
    for entry in re.split(rf"(?m)^(?={_MARK} )", text):
        found = _LINE.match(entry.rstrip("\n"))
        if found is None or found["name"] != application:
            continue
        words = " ".join((found["text"] or "").split())
        if found["phase"] in ("parse", "bind"):
            counted.planning_ms[words] += float(found["ms"])
        elif found["phase"] is not None:
            counted.statements += 1
            counted.texts[words] += 1
            counted.rollbacks += bool(_ROLLBACK.match(words))
            transactions.add(found["transaction"])
            last[found["session"]] = words
        elif found["ms"] is not None and found["session"] in last:
            # The text of this duration was logged when the statement began.
            counted.running_ms[last[found["session"]]] += float(found["ms"])
    counted.commits = len(transactions) - counted.rollbacks
