"""`vidqueue watch`: shows jobs until they end. Other commands wait with `wait_for`."""

from __future__ import annotations

import shlex
from collections.abc import Collection
from typing import Annotated

from cyclopts import Parameter

from vidqueue.cli.client import Client, Job
from vidqueue.cli.completers import jobs_in
from vidqueue.cli.exits import CommandError, Exit
from vidqueue.cli.follow import UNFINISHED, changes
from vidqueue.cli.options import DOOR, LOOK, Door, Look
from vidqueue.cli.render import board
from vidqueue.cli.selection import NO_FILTERS, Filters, full_id
from vidqueue.cli.terminal import Screen


def watch(
    *ids: Annotated[str, Parameter(completer=jobs_in("queued", "running"))],
    filters: Filters = NO_FILTERS,
    follow_all: Annotated[bool, Parameter(name="--all", negative="", show_default=False)] = False,
    door: Door = DOOR,
    look: Look = LOOK,
) -> int:
    """Watch jobs until they end. Ctrl-C stops watching; the jobs continue.

    Shows bars on a terminal, otherwise a line at each change and every ten seconds. The exit code is 3 if a job
    failed, 5 if one was canceled.

    Args:
        ids: The jobs. The default is all jobs that wait or run now.
        filters: Filters that select among the jobs that wait or run now.
        follow_all: Every job, new ones too, until Ctrl-C.
        door: The daemon to talk to.
        look: The format of the output.
    """
    screen = Screen(look)
    if bool(ids) + bool(filters.query) + follow_all > 1:
        raise CommandError("Job ids, filters such as --tag, and --all exclude each other.", exit=Exit.USAGE)
    with Client(door.url) as client:
        wanted: Collection[str] | None = None
        if not follow_all:
            # Asked for first, so that a wrong id or a daemon that is away is told at once.
            found = (
                [client.job(full_id(client, job_id)) for job_id in ids]
                if ids
                else client.jobs(limit=None, state=UNFINISHED, **filters.completed(client))
            )
            wanted = [job["id"] for job in found]
            if not wanted:
                screen.say("No such job is waiting or running." if filters.query else "No job is waiting or running.")
                return Exit.OK
        again = shlex.join(word for name, value in filters.query.items() for word in (f"--{name}", value))
        return verdict(list(wait_for(client, screen, wanted, again=again).values()))


def wait_for(
    client: Client, screen: Screen, wanted: Collection[str] | None, *, said_first: str = "", again: str = ""
) -> dict[str, Job]:
    """Show jobs until they have ended, and return their last state by id.

    Args:
        client: of the daemon.
        screen: where they are shown.
        wanted: their ids; None for all jobs.
        said_first: a line to begin with. Whoever has seen it may press Ctrl-C and is told how to go on.
        again: what chooses the same jobs on the command line; their ids if it is not given.

    Raises:
        KeyboardInterrupt: after a message that the jobs continue and how to watch them again.
    """
    seen: dict[str, Job] = {}
    try:
        if said_first:
            screen.say(said_first)
        with board(screen) as shown:
            for job in changes(client, wanted, tell=screen.say, places=screen.live):
                seen[job["id"]] = job
                shown.put(job)
    except KeyboardInterrupt:
        again = again or (" ".join(wanted) if wanted and len(wanted) <= 5 else "")
        screen.say(f"Detached; the jobs continue. Watch them again with: vidqueue watch {again}".rstrip())
        raise
    return seen


def verdict(jobs: Collection[Job]) -> Exit:
    """The exit code for jobs that have ended: failed goes before canceled."""
    states = {job["state"] for job in jobs}
    if "failed" in states:
        return Exit.JOB_FAILED
    return Exit.JOB_CANCELED if "canceled" in states else Exit.OK
