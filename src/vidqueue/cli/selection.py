"""Which jobs a command is about: short ids, and jobs chosen by state, tag, processor or batch, after a confirmation."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal
from uuid import UUID

from cyclopts import Group, Parameter

from vidqueue.cli.client import Client, Job
from vidqueue.cli.completers import processors
from vidqueue.cli.exits import CommandError, Exit
from vidqueue.cli.render import name_of
from vidqueue.cli.terminal import Screen, count_text

StateName = Literal["queued", "running", "succeeded", "failed", "canceled"]

CHOICE = Group("Many jobs", sort_key=15)
# Short ids are looked for among so many of the newest jobs.
NEWEST = 2000
_SHORT = re.compile(r"[0-9a-f-]{4,36}", re.ASCII)
SHOWN = 5


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class Filters:
    """Filters by tag, processor and batch."""

    tag: Annotated[str | None, Parameter(group=CHOICE, allow_leading_hyphen=True)] = None
    """Only jobs with this tag."""
    processor: Annotated[str | None, Parameter(group=CHOICE, completer=processors)] = None
    """Only jobs of this processor."""
    batch: Annotated[str | None, Parameter(group=CHOICE)] = None
    """Only jobs of this batch."""

    @property
    def query(self) -> dict[str, str]:
        """The filters that were given, as the daemon's list of jobs takes them."""
        given = {"tag": self.tag, "processor": self.processor, "batch": self.batch}
        return {name: value for name, value in given.items() if value is not None}

    def completed(self, client: Client) -> dict[str, str]:
        """The same, with the id of the batch in full."""
        return self.query | ({"batch": full_batch_id(client, self.batch)} if self.batch is not None else {})


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class Choice(Filters):
    """Jobs that are chosen by what they are, instead of by their ids."""

    every: Annotated[bool, Parameter(name="--all", group=CHOICE, negative="", show_default=False)] = False
    """All jobs for which the command makes sense."""
    state: Annotated[tuple[StateName, ...] | None, Parameter(group=CHOICE)] = None
    """Only jobs in this state; may be given more than once."""
    yes: Annotated[bool, Parameter(group=CHOICE, negative="", show_default=False)] = False
    """Do not ask before acting on many jobs."""

    @property
    def is_given(self) -> bool:
        """True if jobs are chosen by what they are."""
        return self.every or self.state is not None or bool(self.query)


# Beside its base: cyclopts reads the inherited hints with the names of the module in which a class is written.
@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class ManyJobs(Filters):
    """Filters that select jobs that succeeded."""

    every: Annotated[bool, Parameter(name="--all", group=CHOICE, negative="", show_default=False)] = False
    """All jobs that succeeded."""


NO_CHOICE, NO_FILTERS = Choice(), Filters()


def chosen(
    client: Client, screen: Screen, ids: Sequence[str], choice: Choice, *, act: str, states: Sequence[StateName]
) -> dict[str, str]:
    """Return the jobs that a command is about by id, with their names, and ask first where ids were not given.

    Args:
        client: the daemon.
        screen: where the question goes.
        ids: ids that were given, which may be short.
        choice: what the jobs are.
        act: what will be done, for the question.
        states: the states in which that makes sense.

    Raises:
        CommandError: nothing was given, an id fits no job or several, or the answer was no.
    """
    if ids and choice.is_given:
        raise CommandError("Give ids or a choice such as --tag, not both.", exit=Exit.USAGE)
    if ids:
        # The answer to the action has the name.
        return dict.fromkeys((full_id(client, one) for one in ids), "")
    if not choice.is_given:
        raise CommandError(
            "No job was given.", exit=Exit.USAGE, hint="Give ids, or choose jobs with --all, --state, --tag or --batch."
        )
    if choice.state and not set(choice.state) & set(states):
        given, fit = " or ".join(choice.state), " or ".join(states)
        raise CommandError(f"{act} applies to jobs that are {fit}, not to jobs that are {given}.", exit=Exit.USAGE)
    wanted = ",".join(choice.state or states)
    found = list(client.jobs(limit=None, state=wanted, **choice.completed(client)))
    if not found:
        screen.say("No job fits.")
        return {}
    if not choice.yes:
        _confirm(screen, found, act)
    return {str(job["id"]): name_of(job) if job["title"] or job["source"] else "" for job in found}


def full_id(client: Client, given: str) -> str:
    """Return the id of a job from its beginning or its end, as the screens show it.

    Raises:
        CommandError: no job, or several of the newest ones, have it.
    """
    return _found(given, client.jobs(limit=NEWEST), "jobs", name_of, "list")


def known_id(client: Client, given: str) -> str:
    """Return the id of a job as `full_id` does, where the daemon's own answer would not name it.

    Raises:
        CommandError: it cannot be the id of a job.
    """
    found = full_id(client, given)
    if not _is_uuid(found):
        hint = "`vidqueue list --all` shows all ids."
        raise CommandError(f"There is no job {given!r}.", exit=Exit.NOT_FOUND, code="not_found", hint=hint)
    return found


def full_batch_id(client: Client, given: str) -> str:
    """Return the id of a batch from its beginning or its end; it is looked for among the newest jobs.

    Raises:
        CommandError: no batch, or several, have it.
    """
    short = given.strip().lstrip("…").lower()
    if _is_uuid(short):
        return short
    batches = {str(job["batch"]): job for job in client.jobs(limit=NEWEST) if job.get("batch")}
    fitting = [one for one in batches if _fits(one, short)] if _SHORT.fullmatch(short) else []
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        details = [f"{one}  {name_of(batches[one])}" for one in fitting[:SHOWN]]
        raise CommandError(
            f"{len(fitting)} batches have an id that begins or ends with {short!r}.",
            exit=Exit.USAGE, details=details, hint="Give more of the id.",
        )  # fmt: skip
    hint = "`vidqueue status JOB --json` names the batch of a job."
    raise CommandError(f"There is no batch {given!r}.", exit=Exit.NOT_FOUND, code="not_found", hint=hint)


def full_file_id(given: str, newest: Iterable[Mapping[str, Any]]) -> str:
    """Return the id of an upload from its beginning or its end; `newest` are the files among which it is looked for.

    Raises:
        CommandError: no file, or several of the newest ones, have it.
    """
    bare = given.strip().removeprefix("vq:files/")
    return _found(bare, newest, "uploads", lambda file: str(file["name"]), "files list")


def _found(
    given: str, newest: Iterable[Mapping[str, Any]], things: str, name: Callable[[Any], str], listing: str
) -> str:
    short = given.strip().lstrip("…").lower()
    if _is_uuid(short) or not _SHORT.fullmatch(short):
        return given
    found = [one for one in newest if _fits(str(one["id"]), short)]
    if len(found) == 1:
        return str(found[0]["id"])
    if not found:
        raise CommandError(
            f"None of the newest {NEWEST} {things} has an id that begins or ends with {short!r}.",
            exit=Exit.NOT_FOUND,
            code="not_found",
            hint=f"`vidqueue {listing} --all` shows all ids.",
        )
    raise CommandError(
        f"{len(found)} {things} have an id that begins or ends with {short!r}.",
        exit=Exit.USAGE,
        details=[f"{one['id']}  {name(one)}" for one in found[:SHOWN]],
        hint="Give more of the id.",
    )


def reference_to_output(client: Client, given: str) -> str:
    """Return `vq:jobs/<id>/<output>` in full: the id may be short, and the output may be left out if there is just one.

    Raises:
        CommandError: the job or its output cannot be told.
    """
    short, _, name = given.removeprefix("vq:jobs/").partition("/")
    job_id = full_id(client, short)
    if name:
        return f"vq:jobs/{job_id}/{name}"
    job = client.get(f"/v1/jobs/{job_id}")
    names = [str(output["name"]) for output in job["outputs"]]
    if len(names) == 1:
        return f"vq:jobs/{job_id}/{names[0]}"
    known = f"It has {', '.join(names)}." if names else f"It is {job['state']} and has none yet."
    raise CommandError(
        f"{given} names no output of the job. {known}", exit=Exit.USAGE, hint=f"Write vq:jobs/{short}/OUTPUT."
    )


def _fits(job_id: str, short: str) -> bool:
    return job_id.startswith(short) or job_id.endswith(short)


def _is_uuid(text: str) -> bool:
    try:
        return len(text) == len(str(UUID(text)))
    except ValueError:
        return False


def _confirm(screen: Screen, found: Sequence[Job], act: str) -> None:
    for job in found[:SHOWN]:
        screen.say(f"  {job['id'][-6:]}  {name_of(job)}  {job['state']}")
    if len(found) > SHOWN:
        screen.say(f"  and {len(found) - SHOWN} more")
    confirm(screen, f"{act} {count_text(len(found), 'job')}?")


def confirm(screen: Screen, question: str) -> None:
    """Ask for confirmation.

    Raises:
        CommandError: the answer was no, or nobody can be asked.
    """
    if not sys.stdin.isatty():
        raise CommandError(f"{question} Nobody can be asked here.", exit=Exit.USAGE, hint="--yes answers it.")
    screen.say(f"{question} [y/N]")
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise CommandError("Nothing was done.", exit=Exit.INTERRUPTED)
