"""Commands that read and change jobs: `status`, `list`, `cancel`, `retry`, `priority`, `delete`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter

from vidqueue.cli.client import Client, Job
from vidqueue.cli.exits import CommandError, Exit
from vidqueue.cli.options import DOOR, LOOK, Door, Look
from vidqueue.cli.render import name_of, ran_text, situation, state_of
from vidqueue.cli.selection import NO_CHOICE, Choice, StateName, chosen, full_id
from vidqueue.cli.terminal import Screen, age_text, size_text


def status(job_id: Annotated[str, Parameter(name="ID")], *, door: Door = DOOR, look: Look = LOOK) -> int:
    """Show one job: its state, why it waits or failed, and its outputs.

    Args:
        job_id: The job.
        door: The daemon to talk to.
        look: The format of the output.
    """
    screen = Screen(look)
    with Client(door.url) as client:
        job = client.job(full_id(client, job_id))
    if screen.json:
        screen.object(job)
    else:
        show(screen, job)
    return Exit.OK


def list_jobs(
    *,
    state: tuple[StateName, ...] | None = None,
    processor: str | None = None,
    tag: str | None = None,
    limit: int = 20,
    every: Annotated[bool, Parameter(name="--all", negative="", show_default=False)] = False,
    door: Door = DOOR,
    look: Look = LOOK,
) -> int:
    """List jobs, newest first.

    Args:
        state: Only jobs in this state; may be given more than once.
        processor: Only jobs of this processor.
        tag: Only jobs with this tag.
        limit: Largest number of jobs.
        every: List all jobs.
        door: The daemon to talk to.
        look: The format of the output.
    """
    screen = Screen(look)
    with Client(door.url) as client:
        states = ",".join(state or ()) or None
        found = client.jobs(limit=None if every else limit, state=states, processor=processor, tag=tag)
        if screen.json:
            for job in found:
                screen.object(job)
        else:
            lines = [(job["id"], job["processor"], state_of(job), age_text(job["created_at"]),
                      name_of(job) if job.get("title") else "", situation(job)) for job in found]  # fmt: skip
            screen.table(("ID", "PROCESSOR", "STATE", "CREATED", "TITLE", ""), lines)
    return Exit.OK


def cancel(*ids: str, choice: Choice = NO_CHOICE, door: Door = DOOR, look: Look = LOOK) -> int:
    """Cancel jobs. A waiting job ends at once; a running job is stopped within seconds.

    Args:
        ids: The jobs.
        choice: Jobs that wait or run, chosen by what they are.
        door: The daemon to talk to.
        look: The format of the output.
    """
    verb = Verb("Cancel", ("queued", "running"), lambda client, one: client.call("POST", f"/v1/jobs/{one}/cancel"))
    return _each(ids, choice, door, look, verb)


def retry(*ids: str, choice: Choice = NO_CHOICE, door: Door = DOOR, look: Look = LOOK) -> int:
    """Queue failed or canceled jobs again, with a full number of attempts.

    Args:
        ids: The jobs.
        choice: Jobs that failed or were canceled, chosen by what they are.
        door: The daemon to talk to.
        look: The format of the output.
    """
    verb = Verb("Retry", ("failed", "canceled"), lambda client, one: client.call("POST", f"/v1/jobs/{one}/retry"))
    return _each(ids, choice, door, look, verb)


def priority(
    job_id: Annotated[str, Parameter(name="ID")],
    level: Annotated[int, Parameter(name="N", allow_leading_hyphen=True)],
    *,
    door: Door = DOOR,
    look: Look = LOOK,
) -> int:
    """Change the priority of a job.

    Args:
        job_id: The job.
        level: From -1000 to 1000; higher goes first, and one point outweighs a minute of waiting.
        door: The daemon to talk to.
        look: The format of the output.
    """
    verb = Verb("Change", (), lambda client, one: client.call("PATCH", f"/v1/jobs/{one}", json={"priority": level}))
    return _each((job_id,), NO_CHOICE, door, look, verb)


def delete(*ids: str, choice: Choice = NO_CHOICE, door: Door = DOOR, look: Look = LOOK) -> int:
    """Delete finished jobs with their logs and files.

    Args:
        ids: The jobs.
        choice: Jobs that have ended, chosen by what they are.
        door: The daemon to talk to.
        look: The format of the output.
    """
    ended: tuple[StateName, ...] = ("succeeded", "failed", "canceled")
    verb = Verb("Delete", ended, lambda client, one: client.call("DELETE", f"/v1/jobs/{one}"))
    return _each(ids, choice, door, look, verb)


def show(screen: Screen, job: Job) -> None:
    """Print one job."""
    screen.write(f"{job['id']}  {job['processor']}  {job['title'] or ''}".rstrip())
    screen.write(state_of(job), situation(job) if job["state"] != "failed" else ran_text(job))
    screen.write(f"created {age_text(job['created_at'])}, attempt {job['attempt']} of {job['max_attempts']}")
    if error := job.get("error"):
        screen.write(f"{error['code']}: {error['message']}")
        screen.write(f"  {error.get('hint') or ''}".rstrip())
    for output in job.get("outputs") or ():
        screen.write(f"output {output['name']}: {output['media_type']}, {size_text(output['size'])}")


@dataclass(frozen=True, slots=True)
class Verb:
    """What is done to each job, and in which states jobs are for it where they are not named."""

    name: str
    states: Sequence[StateName]
    act: Callable[[Client, str], Job | None]


def _each(ids: Sequence[str], choice: Choice, door: Door, look: Look, verb: Verb) -> int:
    """Act on each job, even after an error with one of them, and raise the first error at the end."""
    screen = Screen(look)
    refusals: list[CommandError] = []
    with Client(door.url) as client:
        for job_id in chosen(client, screen, ids, choice, act=verb.name, states=verb.states):
            try:
                job = verb.act(client, job_id)
            except CommandError as refusal:
                refusals.append(refusal)
                if len(ids) != 1:
                    screen.say(f"{job_id}  {refusal.message}")
                continue
            if screen.json:
                screen.object(job or {"id": job_id, "deleted": True})
            else:
                screen.write(f"{job_id}  {_now(job) if job else 'deleted'}")
    if refusals:
        raise refusals[0]
    return Exit.OK


def _now(job: Job) -> str:
    return f"{job['state']}, priority {job['priority']}" if job["state"] == "queued" else str(job["state"])
