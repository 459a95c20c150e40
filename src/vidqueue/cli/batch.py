"""`vidqueue batch`: submit many jobs at once, from a list or for many files; read, cancel and retry a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any

from cyclopts import App, Parameter

from vidqueue.cli import job_list
from vidqueue.cli.client import Client
from vidqueue.cli.completers import lanes, processors
from vidqueue.cli.durations import seconds_of
from vidqueue.cli.exits import CommandError, Exit
from vidqueue.cli.inputs import Inputs, put
from vidqueue.cli.members import check, flags_on
from vidqueue.cli.options import DOOR, LOOK, Door, Look
from vidqueue.cli.selection import full_batch_id
from vidqueue.cli.sources import is_flag
from vidqueue.cli.terminal import Screen, count_text, warn
from vidqueue.cli.times import moment_of
from vidqueue.cli.watch import verdict, wait_for
from vidqueue.sanitize import sanitize_text

LARGEST = 1000

app = App(name="batch", help="Submit many jobs at once; show, cancel or retry a batch.")


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class BatchFlags:
    """What holds for the whole batch, and for each job whose list does not say otherwise."""

    processor: Annotated[str | None, Parameter(completer=processors)] = None
    """The processor of every file, or of listed jobs that name none. Its own flags may follow, as with `submit`."""
    title: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None
    """A label of the batch for people."""
    tag: Annotated[tuple[str, ...] | None, Parameter(allow_leading_hyphen=True)] = None
    """A label of each job to filter by; may be given more than once."""
    priority: Annotated[int | None, Parameter(allow_leading_hyphen=True)] = None
    """From -1000 to 1000; higher goes first, and one point outweighs a minute of waiting."""
    run_at: str | None = None
    """Not before this time: 2027-01-31T22:00, 23:00 (the next), +2h, or tonight (22:00 today, or now if later)."""
    max_attempts: int | None = None
    """Failed attempts after which a job fails."""
    timeout: str | None = None
    """Longest time one attempt may run, such as 90s, 30m or 2h; a number alone is seconds."""
    lane: Annotated[str | None, Parameter(completer=lanes)] = None
    """Run on this lane only."""
    webhook: str | None = None
    """A URL that is told of each job by POST requests."""
    owner: str | None = None
    """Submit for this owner; where keys are used, with one of the role operate. The default is the owner of the key."""
    idempotency_key: str | None = None
    """A key of your choice. Sending the same request with the same key again does not create a second batch."""
    wait: Annotated[bool, Parameter(negative="", show_default=False)] = False
    """Watch the jobs until they end. The exit code is 3 if any failed. Ctrl-C stops watching; the jobs continue."""
    forget_uploads: Annotated[bool, Parameter(negative="", show_default=False)] = False
    """Let the daemon remove the uploaded copies once every job that names them has succeeded or is deleted."""
    upload: bool | None = None
    """Send local files to the daemon, each once. With --no-upload it opens them itself, by path. The default is to send
    what is smaller than 64 MiB, and larger files where a daemon on this machine cannot read them in place."""

    def of_each_job(self) -> dict[str, Any]:
        """The part of each job that flags give."""
        given = {
            "processor": self.processor,
            "tags": list(self.tag or ()) or None,
            "priority": self.priority,
            "run_at": moment_of(self.run_at).isoformat() if self.run_at else None,
            "max_attempts": self.max_attempts,
            "timeout_s": seconds_of(self.timeout) if self.timeout else None,
            "lane": self.lane,
            "webhook": self.webhook,
            "forget_uploads": self.forget_uploads or None,
        }
        return {name: value for name, value in given.items() if value is not None}


NO_FLAGS = BatchFlags()
# Names that mean something else on this command line.
_TAKEN = frozenset({"files"}).union(field.name for kind in (BatchFlags, Door, Look) for field in fields(kind))


@app.default
def submit(
    *sources: Annotated[str, Parameter(allow_leading_hyphen=True)],
    flags: BatchFlags = NO_FLAGS,
    door: Door = DOOR,
    look: Look = LOOK,
) -> int:
    """Submit up to 1,000 jobs at once: all of them are queued, or none.

    Args:
        sources: Lists of jobs (.json, .ndjson, .jsonl, .csv, or `-` for JSON on standard input); or with --processor
            media files and patterns such as '*.mp4', one job for each file.
        flags: What holds for the batch and its jobs.
        door: The daemon to talk to.
        look: The format of the output.
    """
    screen = Screen(look)
    title, jobs = _jobs(sources, flags)
    if not 1 <= len(jobs) <= LARGEST:
        raise CommandError(f"A batch has 1 to {LARGEST} jobs; this one has {len(jobs)}.", exit=Exit.USAGE)
    members = check(jobs)
    for remark in sorted({member.remark for member in members} - {""}):
        warn(remark)
    inputs = Inputs(may_upload=flags.upload)
    inputs.check(one.reference for member in members for one in member.media)
    with Client(door.url, owner=flags.owner) as client:
        with inputs.before_jobs(client, screen):
            for member in members:
                for one in member.media:
                    put(member.input, one.path, inputs.reference(client, screen, one.reference))
        headers = {"Idempotency-Key": flags.idempotency_key} if flags.idempotency_key else {}
        body = {"jobs": jobs} | ({"title": title} if title else {})
        batch = client.call("POST", "/v1/batches", json=body, headers=headers)
        if flags.wait:
            screen.say(f"submitted {batch['id']}")
            return _wait(client, screen, batch["id"], batch["jobs"])
    _tell(screen, batch, brief=True)
    return Exit.OK


@app.command
def status(
    batch_id: Annotated[str, Parameter(name="ID")],
    *,
    wait: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    door: Door = DOOR,
    look: Look = LOOK,
) -> int:
    """Show a batch: how many jobs are in each state, and which have failed.

    Args:
        batch_id: The batch.
        wait: Watch its jobs until they end. Ends with 3 if any failed, 5 if any was canceled.
        door: The daemon to talk to.
        look: The format of the output.
    """
    screen = Screen(look)
    with Client(door.url) as client:
        batch_id = full_batch_id(client, batch_id)
        batch = client.get(f"/v1/batches/{batch_id}")
        if wait:
            return _wait(client, screen, batch_id)
    _tell(screen, batch)
    return Exit.OK


@app.command
def cancel(batch_id: Annotated[str, Parameter(name="ID")], *, door: Door = DOOR, look: Look = LOOK) -> int:
    """Cancel every job of a batch that has not ended.

    Args:
        batch_id: The batch.
        door: The daemon to talk to.
        look: The format of the output.
    """
    with Client(door.url) as client:
        _tell(Screen(look), client.call("POST", f"/v1/batches/{full_batch_id(client, batch_id)}/cancel"))
    return Exit.OK


@app.command
def retry(
    batch_id: Annotated[str, Parameter(name="ID")],
    *,
    wait: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    door: Door = DOOR,
    look: Look = LOOK,
) -> int:
    """Run the failed jobs of a batch once more.

    Args:
        batch_id: The batch.
        wait: Watch its jobs until they end. Ends with 3 if any failed, 5 if any was canceled.
        door: The daemon to talk to.
        look: The format of the output.
    """
    screen = Screen(look)
    with Client(door.url) as client:
        batch_id = full_batch_id(client, batch_id)
        batch = client.call("POST", f"/v1/batches/{batch_id}/retry")
        if wait:
            return _wait(client, screen, batch_id)
    _tell(screen, batch)
    return Exit.OK


def _jobs(sources: Sequence[str], flags: BatchFlags) -> tuple[str | None, list[dict[str, Any]]]:
    """The jobs as the daemon takes them, apart from local files; a title of the flags goes before that of a list."""
    files: list[str] = list(sources)
    given: dict[str, Any] = {}
    media: str | None = None
    if flags.processor is not None:
        files, given, media = flags_on(flags.processor, sources, _TAKEN)
    if stray := [one for one in files if is_flag(one)]:
        hint = "" if flags.processor else "The flags of a processor need --processor."
        raise CommandError(f"Unknown flag {stray[0]}.", exit=Exit.USAGE, hint=hint)
    title, jobs = flags.title, list[dict[str, Any]]()
    for source in files:
        if job_list.is_list(source):
            listed, found = job_list.read(source)
            title = title or listed
            jobs += found
        elif media is not None:
            jobs += [
                {"title": sanitize_text(name.rpartition("/")[2]), "input": {media: name}}
                for name in job_list.files_of(source)
            ]
        else:
            hint = "Name a processor with --processor, or a list of jobs (.json, .ndjson, .jsonl, .csv)."
            raise CommandError(f"{source} is not a list of jobs.", exit=Exit.USAGE, hint=hint)
    return title, [{**flags.of_each_job(), **job, "input": {**given, **job.get("input", {})}} for job in jobs]


def _wait(client: Client, screen: Screen, batch_id: str, ids: list[str] | None = None) -> int:
    if ids is None:
        ids = [job["id"] for job in client.jobs(limit=None, batch=batch_id)]
    jobs = wait_for(client, screen, ids)
    _tell(screen, client.get(f"/v1/batches/{batch_id}"))
    return verdict(list(jobs.values()))


def _tell(screen: Screen, batch: dict[str, Any], *, brief: bool = False) -> None:
    if screen.json:
        screen.object(batch)
        return
    if brief:
        screen.write(batch["id"])
        if screen.out.is_terminal:
            screen.say(f"Watch it with: vidqueue batch status {batch['id']} --wait")
        return
    counts = ", ".join(f"{count} {state}" for state, count in batch["counts"].items() if count)
    screen.write(f"{batch['id']}  {batch['state']}  {batch['progress']:.0%}  {batch['title'] or ''}".rstrip())
    screen.write(f"{count_text(batch['size'], 'job')}: {counts or 'all deleted'}")
    for job_id in batch["failed_jobs"]:
        screen.write(f"failed {job_id}")
