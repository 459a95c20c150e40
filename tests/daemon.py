"""A real daemon in a process of its own, as a user would run it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import psycopg
from psycopg.rows import dict_row

from tests import prepared
from vidqueue.db.embedded import server as embedded

FINAL = {"succeeded", "failed", "canceled"}
# What a submit says of the job; everything else is its input.
JOB_KEYS = ("max_attempts", "lane", "title", "timeout_s", "stall_timeout_s", "cache")


def until(condition: Callable[[], Any], *, within_s: float = 30, what: str = "") -> Any:
    """The first true answer of `condition`; fails loudly when there is none."""
    deadline = time.monotonic() + within_s
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"did not happen within {within_s} s: {what or condition}"
        time.sleep(0.05)
    return answer


def promised(seconds: float) -> float:
    """Scales a time limit by the load of the machine: with more to do than there are cores, everything takes longer."""
    return seconds * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


class Daemon:
    """`python -m vidqueue serve` on a data folder, with embedded PostgreSQL and two CPU lanes."""

    # A command that runs the daemon, such as `unshare`.
    under: tuple[str, ...] = ()
    # The interpreter that runs it.
    python: str = sys.executable
    # False: the daemon initialises its server itself, as on a new machine.
    prepared: bool = True

    def __init__(self, data_dir: Path, **variables: str) -> None:
        self.data_dir = data_dir
        self.log = data_dir.parent / f"{data_dir.name}.log"
        self.variables = {
            "VIDQUEUE_DATA_DIR": str(data_dir),
            "VIDQUEUE_API__PORT": "0",
            "VIDQUEUE_DATABASE__DISK_RESERVE_MIB": "0",
            "VIDQUEUE_LANES__CPU": "2",
            "VIDQUEUE_LOG__FORMAT": "json",
            "VIDQUEUE_INPUTS__ROOTS": f'["{data_dir.parent}"]',
        } | variables

    def start(self) -> Daemon:
        """Start it and wait until it is ready."""
        if self.prepared and "VIDQUEUE_DATABASE__URL" not in self.variables:
            prepared.copy_into(self.data_dir)
        with self.log.open("ab") as output:
            mark = output.tell()
            self.spawned_at = time.time()
            self.process = subprocess.Popen(
                [*self.under, self.python, "-m", "vidqueue", "serve"],
                env=os.environ | self.variables, stdout=output, stderr=output,
            )  # fmt: skip
        self.url = until(lambda: self._announced(mark), within_s=promised(30), what=f"ready; see {self.log}")
        self.http = httpx2.Client(base_url=self.url, timeout=30)
        return self

    def _announced(self, mark: int) -> str | None:
        import json

        text = self.log.read_bytes()[mark:].decode()
        assert self.process.poll() is None, f"the daemon ended with {self.process.returncode}:\n{text}"
        for line in text.splitlines():
            if '"daemon_ready"' in line:
                return str(json.loads(line)["url"])
        return None

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait()

    def end(self, *, by: signal.Signals) -> None:
        """Send a signal until it has ended; the second SIGTERM hurries a drain."""
        while self.process.poll() is None:
            self.process.send_signal(by)
            time.sleep(0.2)

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)

    @property
    def database_url(self) -> str:
        return self.variables.get("VIDQUEUE_DATABASE__URL") or embedded.url_of(self.data_dir)

    def sql(self, text: str) -> list[dict[str, Any]]:
        """Run any statement and return its rows."""
        with psycopg.connect(self.database_url, row_factory=dict_row, autocommit=True) as connection:
            cursor = connection.execute(text)
            assert cursor.description or cursor.statusmessage != f"SELECT {cursor.rowcount}", "rows without a column"
            return cursor.fetchall() if cursor.description else []

    def submit(self, processor: str = "zoo", **parameters: Any) -> str:
        """Queue a job over HTTP and return its id."""
        extra = {key: parameters.pop(key) for key in JOB_KEYS if key in parameters}
        answer = self.http.post("/v1/jobs", json={"processor": processor, "input": parameters, **extra})
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def job(self, job_id: str) -> dict[str, Any]:
        """Read a job over HTTP."""
        answer = self.http.get(f"/v1/jobs/{job_id}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def ended(self, job_id: str, *, within_s: float = 60) -> dict[str, Any]:
        """The job once it is final."""

        def final() -> dict[str, Any] | None:
            job = self.job(job_id)
            return job if job["state"] in FINAL else None

        return dict(until(final, within_s=within_s, what=f"the end of {job_id}"))

    def violations(self) -> list[dict[str, Any]]:
        """Broken invariants."""
        return self.sql("SELECT * FROM vidqueue_report.invariant_violations")

    def children(self, pattern: str) -> list[int]:
        """Process ids of descendants whose command line holds `pattern`."""
        listing = subprocess.run(
            ["ps", "-ww", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True
        ).stdout
        rows = [line.split(None, 2) for line in listing.splitlines()[1:]]
        family = {self.process.pid}
        for _ in rows:  # as deep as it may be
            family |= {int(pid) for pid, parent, _ in rows if int(parent) in family}
        return [int(pid) for pid, _, args in rows if int(pid) in family and pattern in args]


def alive(pid: int) -> bool:
    """True if the process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
