"""`vidqueue logs`: prints the log of an attempt."""

from __future__ import annotations

import time
from typing import Annotated, Any

from cyclopts import Parameter

from vidqueue.cli.client import FINAL, Client, Job
from vidqueue.cli.completers import jobs_in
from vidqueue.cli.exits import Exit
from vidqueue.cli.options import DOOR, LOOK, Door, Look
from vidqueue.cli.selection import full_id
from vidqueue.cli.terminal import Screen

FOLLOW_EVERY_S = 1.0


def logs(
    job_id: Annotated[str, Parameter(name="ID", completer=jobs_in())],
    *,
    attempt: int | None = None,
    follow: Annotated[bool, Parameter(negative="", show_default=False, alias="-f")] = False,
    door: Door = DOOR,
    look: Look = LOOK,
) -> int:
    """Show the log of a job's attempt.

    Args:
        job_id: The job.
        attempt: Number of the attempt. The default is the latest.
        follow: Print new lines until the job ends.
        door: The daemon to talk to.
        look: The format of the output.
    """
    screen = Screen(look)
    with Client(door.url) as client:
        job_id = full_id(client, job_id)
        after = _print_new(client, screen, job_id, attempt, after=0)
        while follow and client.job(job_id)["state"] not in FINAL:
            time.sleep(FOLLOW_EVERY_S)
            after = _print_new(client, screen, job_id, attempt, after=after)
        if follow:
            after = _print_new(client, screen, job_id, attempt, after=after)
        if not after:
            screen.say(_nothing(client.job(job_id), attempt))
    return Exit.OK


def _nothing(job: Job, attempt: int | None) -> str:
    if not job["attempt"]:
        return f"The job is {job['state']} and has had no attempt, so there is no log."
    return f"Attempt {attempt or job['attempt']} has written no lines."


def _print_new(client: Client, screen: Screen, job_id: str, attempt: int | None, *, after: int) -> int:
    """Write the lines above number `after` and return the number of the last one."""
    page = client.get(f"/v1/jobs/{job_id}/logs", attempt=attempt, after=after)
    while True:
        for line in page["lines"]:
            after = line["number"]
            _write(screen, page["attempt"], line)
        if not page["next"]:
            return after
        page = client.get(page["next"])


def _write(screen: Screen, attempt: int, line: dict[str, Any]) -> None:
    if screen.json:
        screen.object({"attempt": attempt, **line})
    else:
        screen.write(f"{line['at'][:23]}Z  {line['level']:<7}  {line['text']}")
