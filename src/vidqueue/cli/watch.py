"""`vidqueue watch`, and waiting for jobs in general."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated

from cyclopts import Parameter

from vidqueue.cli.client import Client, Job
from vidqueue.cli.exits import Exit
from vidqueue.cli.follow import UNFINISHED, changes
from vidqueue.cli.options import DOOR, LOOK, Door, Look
from vidqueue.cli.render import board
from vidqueue.cli.terminal import Screen


def watch(
    *ids: str,
    follow_all: Annotated[bool, Parameter(name="--all", negative="", show_default=False)] = False,
    door: Door = DOOR,
    look: Look = LOOK,
) -> int:
    """Watch jobs until they end; Ctrl-C stops the watching, not the jobs.

    Bars on a terminal; elsewhere a line at each change and one every ten seconds. Ends with 3 when a job failed,
    5 when one was canceled.

    Args:
        ids: The jobs; without any, all that wait or run now.
        follow_all: Every job, new ones too, until Ctrl-C.
        door: Which daemon is asked.
        look: How the answer is written.
    """
    screen = Screen(look)
    with Client(door.url) as client:
        wanted: Collection[str] | None = None
        if not follow_all:
            # Asked for first, so that a wrong id or a daemon that is away is told at once.
            found = [client.job(job_id) for job_id in ids] if ids else client.jobs(limit=None, state=UNFINISHED)
            wanted = [job["id"] for job in found]
            if not wanted:
                screen.say("No job waits or runs.")
                return Exit.OK
        return verdict(list(wait_for(client, screen, wanted).values()))


def wait_for(client: Client, screen: Screen, wanted: Collection[str] | None) -> dict[str, Job]:
    """Show jobs until they have ended; their last state by id.

    Raises:
        KeyboardInterrupt: after saying that the jobs go on and how to come back.
    """
    seen: dict[str, Job] = {}
    try:
        with board(screen) as shown:
            for job in changes(client, wanted, tell=screen.say):
                seen[job["id"]] = job
                shown.put(job)
    except KeyboardInterrupt:
        again = " ".join(wanted) if wanted and len(wanted) <= 5 else ""
        screen.say(f"Detached; the jobs go on. Come back with: vidqueue watch {again}".rstrip())
        raise
    return seen


def verdict(jobs: Collection[Job]) -> Exit:
    """The exit code that tells how jobs ended; a failure weighs most."""
    states = {job["state"] for job in jobs}
    if "failed" in states:
        return Exit.JOB_FAILED
    return Exit.JOB_CANCELED if "canceled" in states else Exit.OK
