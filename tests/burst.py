"""A burst: many small films submitted within a minute by several owners, with a report of what came of each.

`make burst` submits 800. It exits with 1 if a film was refused, lost or failed, if an owner's films began in another
order than the queue had told, or if an invariant is broken.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.daemon import Daemon
from tests.media.clips import run_ffmpeg

OWNERS = ("ann", "bob", "carl", "dora")
PRIORITIES = (0, 0, 5, 20)
SENDERS = 16
PAGE, LANES = 500, 2


@dataclass(slots=True)
class Burst:
    """What was seen."""

    accepted: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    answered_s: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def main() -> int:
    """Run a burst and print its report."""
    parser = argparse.ArgumentParser(description="Submit many small films within a minute.")
    parser.add_argument("--count", type=int, default=800)
    parser.add_argument(
        "--seconds", type=float, help="time to submit them in; 60 for 800, and as many a second for fewer"
    )
    parser.add_argument("--within", type=float, default=7200, help="seconds until all must have ended")
    chosen = parser.parse_args()
    chosen.seconds = chosen.seconds or 60 * chosen.count / 800
    with tempfile.TemporaryDirectory(prefix="vidqueue-burst-") as folder:
        daemon = Daemon(Path(folder) / "data").start()
        try:
            return _report(daemon, chosen)
        finally:
            daemon.stop()


def _report(daemon: Daemon, chosen: argparse.Namespace) -> int:
    seen = Burst()
    # An operator submits for others and sees what is everybody's.
    key = daemon.http.post("/v1/keys", json={"owner": "operator", "role": "operate"}).json()["key"]
    daemon.http.headers["Authorization"] = f"Bearer {key}"
    stored = _upload(daemon)
    began = time.monotonic()
    _submit(daemon, stored, chosen, seen)
    submitted_s = time.monotonic() - began
    pages = _queue(daemon)
    waiting = [one for page in pages for one in page]
    _check_visible(waiting, seen)
    _until_ended(daemon, seen, began + chosen.within)
    ended_s = time.monotonic() - began
    states = Counter(one["state"] for one in daemon.sql("SELECT state FROM vidqueue.jobs"))
    started = _started(daemon)
    for page in pages:
        _check_order(page, started, seen)
    lost = sorted(set(seen.accepted) - started.keys())
    seen.faults += [f"{job} was lost" for job in lost] + [f"invariant: {one}" for one in daemon.violations()]
    if states["succeeded"] != chosen.count or len(seen.accepted) != chosen.count:
        seen.faults.append(f"{chosen.count} were to succeed: {dict(states)}")
    times = sorted(seen.answered_s)
    median_ms, slow_ms = statistics.median(times) * 1000, times[int(len(times) * 0.99) - 1] * 1000
    print(
        f"submitted  {chosen.count} in {submitted_s:.1f} s, accepted {len(seen.accepted)}, refused {len(seen.refused)}"
    )
    print(f"answers    median {median_ms:.0f} ms, 99 % {slow_ms:.0f} ms")
    told = "each with its position and reason" if waiting else "so nothing is known of their order; try --seconds 15"
    print(f"waiting    {len(waiting)} when the last was accepted, {told}")
    print(
        f"ended      {sum(states.values())} in {ended_s:.0f} s: {dict(states)}; {chosen.count / ended_s:.2f} a second"
    )
    print(f"order      {len(OWNERS)} owners, each in the order that was told; owners took turns: {_turns(daemon)}")
    for fault in seen.faults[:20]:
        print(f"FAULT      {fault}")
    return 1 if seen.faults else 0


def _upload(daemon: Daemon) -> dict[str, str]:
    """The same small picture as a file of each owner."""
    path = daemon.data_dir.parent / "still.png"
    run_ffmpeg("-f", "lavfi", "-i", "color=green:s=64x64", "-frames:v", "1", path)
    stored = {}
    for owner in OWNERS:
        answer = daemon.http.post("/v1/files", params={"owner": owner}, files={"file": ("a.png", path.read_bytes())})
        stored[owner] = str(answer.json()["id"])
    return stored


def _submit(daemon: Daemon, stored: dict[str, str], chosen: argparse.Namespace, seen: Burst) -> None:
    """Send the requests at even times, over several connections."""
    began = time.monotonic()

    def send(number: int) -> None:
        time.sleep(max(0.0, began + number * chosen.seconds * 0.95 / chosen.count - time.monotonic()))
        owner = OWNERS[number % len(OWNERS)]
        clip = {"media": f"vq:files/{stored[owner]}", "duration_s": 0.1 + number % 7 / 100}
        body = {
            "processor": "export",
            "input": {"clips": [clip], "fps": 25, "effort": "fast"},
            "priority": PRIORITIES[number // len(OWNERS) % len(PRIORITIES)],
            # Most are alike: their results would be known.
            "cache": False,
            "title": f"film {number}",
        }
        asked = time.monotonic()
        answer = daemon.http.post(
            "/v1/jobs", params={"owner": owner}, json=body, headers={"Idempotency-Key": str(number)}
        )
        seen.answered_s.append(time.monotonic() - asked)
        if answer.status_code == 202:
            seen.accepted.append(str(answer.json()["id"]))
        else:
            seen.refused.append(answer.text)

    with ThreadPoolExecutor(SENDERS) as senders:
        list(senders.map(send, range(chosen.count)))


def _queue(daemon: Daemon) -> list[list[dict[str, Any]]]:
    """Every waiting film, as people see it: the pages of the list, each of which is true of one moment."""
    pages: list[list[dict[str, Any]]] = []
    address: str | None = f"/v1/jobs?state=queued&limit={PAGE}"
    while address is not None:
        page = daemon.http.get(address).json()
        pages.append(page["jobs"])
        address = page["next"]
    return pages


def _check_visible(waiting: list[dict[str, Any]], seen: Burst) -> None:
    hidden = [one["id"] for one in waiting if not one["position"] or not one["wait_reason"]]
    if hidden:
        seen.faults.append(f"{len(hidden)} waiting films have no position or no reason, such as {hidden[0]}")


def _until_ended(daemon: Daemon, seen: Burst, deadline: float) -> None:
    while True:
        left = daemon.sql("SELECT count(*)::int AS n FROM vidqueue.jobs WHERE finished_at IS NULL")[0]["n"]
        if not left:
            return
        if time.monotonic() > deadline:
            seen.faults.append(f"{left} films had not ended in time")
            return
        time.sleep(1)


def _started(daemon: Daemon) -> dict[str, int]:
    """The place of each job among those that began, by the order of their events."""
    rows = daemon.sql("SELECT job_id, min(number) AS n FROM vidqueue.events WHERE kind = 'running' GROUP BY 1")
    return {str(one["job_id"]): int(one["n"]) for one in rows}


def _check_order(waiting: list[dict[str, Any]], started: dict[str, int], seen: Burst) -> None:
    """Each owner's films must have begun in the order in which they stood when nothing more was submitted."""
    for owner in OWNERS:
        told = sorted((one for one in waiting if one["owner"] == owner), key=lambda one: int(one["position"] or 0))
        begun = [started[one["id"]] for one in told if one["id"] in started]
        # Lanes that are free at the same moment take the first ones of the line at once.
        if any(max(begun[:place]) > min(begun[place + LANES - 1 :]) for place in range(1, len(begun) - LANES + 1)):
            seen.faults.append(f"the films of {owner} began in another order than the queue had told")


def _turns(daemon: Daemon) -> str:
    """How many of the first half of the films were of each owner."""
    rows = daemon.sql(
        "SELECT owner, count(*)::int AS n FROM (SELECT owner FROM vidqueue.events WHERE kind = 'running' "
        "ORDER BY number LIMIT (SELECT count(*) / 2 FROM vidqueue.jobs)) e GROUP BY owner ORDER BY owner"
    )
    return ", ".join(f"{one['owner']} {one['n']}" for one in rows)


if __name__ == "__main__":
    sys.exit(main())
