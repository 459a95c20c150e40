"""Commands that read and change jobs: `status`, `list`, `cancel`, `suspend`, `retry`, `priority`, `delete`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter

from vidqueue.cli.client import Client, Job
from vidqueue.cli.completers import jobs_in, processors
from vidqueue.cli.error_messages import did_you_mean
from vidqueue.cli.exits import CommandError, Exit
from vidqueue.cli.options import DOOR, LOOK, Door, Look
from vidqueue.cli.render import name_of, ran_text, situation, state_of
from vidqueue.cli.selection import NO_CHOICE, Choice, StateName, chosen, full_id
from vidqueue.cli.terminal import Screen, age_text, size_text
from vidqueue.wait_reasons import ADVICE

Unended = Annotated[str, Parameter(completer=jobs_in("queued", "running"))]
Unsuccessful = Annotated[str, Parameter(completer=jobs_in("failed", "canceled"))]
Ended = Annotated[str, Parameter(completer=jobs_in("succeeded", "failed", "canceled"))]


def status(
    job_id: Annotated[str, Parameter(name="ID", completer=jobs_in())], *, door: Door = DOOR, look: Look = LOOK
) -> int:
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
    processor: Annotated[str | None, Parameter(completer=processors)] = None,
    tag: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
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
            _tell_list(screen, found, "No job fits." if states or processor or tag else "There are no jobs.")
    return Exit.OK


def cancel(*ids: Unended, choice: Choice = NO_CHOICE, door: Door = DOOR, look: Look = LOOK) -> int:
    """Cancel jobs. A waiting job ends at once; a running job is stopped within seconds.

    Args:
        ids: The jobs.
        choice: Jobs that wait or run, chosen by what they are.
        door: The daemon to talk to.
        look: The format of the output.
    """
    verb = Verb("Cancel", ("queued", "running"), lambda client, one: client.call("POST", f"/v1/jobs/{one}/cancel"))
    return _each(ids, choice, door, look, verb)


def suspend(*ids: Unended, choice: Choice = NO_CHOICE, door: Door = DOOR, look: Look = LOOK) -> int:
    """Stop the processes of running jobs, until `vidqueue resume ID`. They keep their lanes and their memory.

    Args:
        ids: The jobs.
        choice: Filters that select running jobs.
        door: The daemon to talk to.
        look: The format of the output.
    """
    verb = Verb("Suspend", ("running",), lambda client, one: client.call("POST", f"/v1/jobs/{one}/suspend"))
    return _each(ids, choice, door, look, verb)


def resume(ids: Sequence[str], door: Door, look: Look) -> int:
    """Resume suspended jobs."""
    verb = Verb("Resume", ("running",), lambda client, one: client.call("POST", f"/v1/jobs/{one}/resume"))
    return _each(ids, NO_CHOICE, door, look, verb)


def retry(*ids: Unsuccessful, choice: Choice = NO_CHOICE, door: Door = DOOR, look: Look = LOOK) -> int:
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
    *words: Annotated[str, Parameter(name="ID... N", allow_leading_hyphen=True, completer=jobs_in("queued"))],
    first: Annotated[bool, Parameter(name="--next", negative="", show_default=False)] = False,
    choice: Choice = NO_CHOICE,
    door: Door = DOOR,
    look: Look = LOOK,
) -> int:
    """Change the priority of jobs, or have them run next.

    Args:
        words: The jobs, and at the end the priority from -1000 to 1000; higher goes first, and one point outweighs a
            minute of waiting.
        first: Move the jobs to the front of the queue; no priority is given then.
        choice: Filters that select waiting jobs, instead of ids.
        door: The daemon to talk to.
        look: The format of the output.
    """
    ids = words if first else words[:-1]
    for word in ids:
        if word.startswith("-"):
            hint = did_you_mean(word, ("--all", "--state", "--tag", "--processor", "--batch", "--yes", "--next"))
            raise CommandError(f"Unknown flag {word}.", exit=Exit.USAGE, hint=hint)
    if first:
        verb = Verb("Change", ("queued",), lambda client, one: client.call("POST", f"/v1/jobs/{one}/run-next"))
        return _each(ids, choice, door, look, verb)
    body = {"priority": _level(words)}
    verb = Verb("Change", ("queued",), lambda client, one: client.call("PATCH", f"/v1/jobs/{one}", json=body))
    return _each(ids, choice, door, look, verb)


def _level(words: Sequence[str]) -> int:
    hint = "Give the ids first, then the priority: vidqueue priority ID 10. --next runs them next."
    if not words:
        raise CommandError("No priority was given.", exit=Exit.USAGE, hint=hint)
    try:
        return int(words[-1])
    except ValueError:
        message = f"{words[-1]!r} is not a priority, a number from -1000 to 1000."
        raise CommandError(message, exit=Exit.USAGE, hint=hint) from None


def delete(
    *ids: Ended,
    with_uploads: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    choice: Choice = NO_CHOICE,
    door: Door = DOOR,
    look: Look = LOOK,
) -> int:
    """Delete finished jobs with their logs and files.

    Args:
        ids: The jobs.
        with_uploads: Delete the files too that were uploaded for them, once no other job names them.
        choice: Filters that select finished jobs.
        door: The daemon to talk to.
        look: The format of the output.
    """
    ended: tuple[StateName, ...] = ("succeeded", "failed", "canceled")
    query = "?uploads=true" if with_uploads else ""
    verb = Verb("Delete", ended, lambda client, one: client.call("DELETE", f"/v1/jobs/{one}{query}"))
    return _each(ids, choice, door, look, verb)


def show(screen: Screen, job: Job) -> None:
    """Print one job."""
    screen.write(f"{job['id']}  {job['processor']}  {job['title'] or ''}".rstrip())
    if job["source"] and job["source"] != job["title"]:
        screen.write(f"source {job['source']}")
    screen.write(state_of(job), situation(job) if job["state"] != "failed" else ran_text(job))
    screen.write(f"created {age_text(job['created_at'])}, attempt {job['attempt']} of {job['max_attempts']}")
    if advice := ADVICE.get(job.get("wait_reason") or ""):
        screen.write(f"  {advice}")
    if error := job.get("error"):
        screen.write(f"{error['code']}: {error['message']}")
        screen.write(f"  {error.get('hint') or ''}".rstrip())
    for output in job.get("outputs") or ():
        facts = output.get("facts") or {}
        by = f", encoded by {facts['encoder']}" if facts.get("encoder") else ""
        screen.write(f"output {output['name']}: {output['media_type']}, {size_text(output['size'])}{by}")
        for warning in facts.get("warnings") or ():
            screen.write(f"  warning: {warning}")


def _tell_list(screen: Screen, jobs: Iterable[Job], empty: str) -> None:
    """Print a table of jobs. On a terminal it begins with the state and the name, in a pipe with the id."""
    columns = {
        "ID": lambda job: job["id"],
        "PROCESSOR": lambda job: job["processor"],
        "STATE": state_of,
        "CREATED": lambda job: age_text(job["created_at"]),
        "NAME": _called,
        "": situation,
    }
    order = ("STATE", "NAME", "PROCESSOR", "CREATED", "ID", "") if screen.width else tuple(columns)
    screen.table(order, ([columns[name](job) for name in order] for job in jobs), empty=empty)


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
        named = chosen(client, screen, ids, choice, act=verb.name, states=verb.states)
        for job_id in named:
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
                name = named[job_id] or _called(job or {})
                screen.write("  ".join(filter(None, [job_id, _now(job) if job else "deleted", name])))
    if refusals:
        raise refusals[0]
    return Exit.OK


def _called(job: Job) -> str:
    """The name of a job; empty where it has none beside its id."""
    return name_of(job) if job.get("title") or job.get("source") else ""


def _now(job: Job) -> str:
    if job["state"] == "queued":
        return f"queued, priority {job['priority']}"
    if job["state"] == "running" and job.get("cancel_requested_at"):
        return "running, is being canceled"
    return "suspended" if job.get("suspended_at") else str(job["state"])
