"""`vidqueue result`: downloads an output of a job."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from cyclopts import Parameter

from vidqueue.cli.client import Client, Job
from vidqueue.cli.exits import CommandError, Exit
from vidqueue.cli.inputs import protecting
from vidqueue.cli.options import DASH, DEFAULT_URL, DOOR, LOOK, Door, Look
from vidqueue.cli.places import USUAL, Places
from vidqueue.cli.selection import full_id
from vidqueue.cli.target import Target
from vidqueue.cli.terminal import Screen, size_text, warn
from vidqueue.cli.transfer import Source, download, fetch_to_stdout

HERE = "."


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class ManyJobs:
    """Which jobs a command is about, where it is not one."""

    batch: str | None = None
    """All jobs of this batch that succeeded."""
    tag: str | None = None
    """All jobs with this tag that succeeded."""
    every: Annotated[bool, Parameter(name="--all", negative="", show_default=False)] = False
    """All jobs that succeeded."""


NO_MANY = ManyJobs()


def result(
    job_id: Annotated[str | None, Parameter(name="ID")] = None,
    *,
    output: Annotated[str, DASH, Parameter(alias="-o", show_default=False)] = HERE,
    force: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    name: str | None = None,
    many: ManyJobs = NO_MANY,
    door: Door = DOOR,
    look: Look = LOOK,
) -> int:
    """Download the outputs of a job, or of many, and check their sha256.

    Args:
        job_id: The job.
        output: File or folder to write to, or `-` for standard output. The default is a file in the current folder,
            named after the job and the output.
        force: Replace an existing file. An input of the job is never replaced.
        name: Name of the output, if the job has several. Of many jobs all outputs come without it.
        many: The jobs whose outputs are downloaded; -o names a folder then, and results are named after the jobs.
        door: The daemon to talk to.
        look: The format of the output.
    """
    screen = Screen(look)
    if sum((job_id is not None, many.batch is not None, many.tag is not None, many.every)) != 1:
        raise CommandError("Name a job, or --batch, --tag or --all.", exit=Exit.USAGE)
    with Client(door.url) as client:
        if job_id is None:
            found = client.jobs(limit=None, state="succeeded", batch=many.batch, tag=many.tag)
            places = Places(Path(output), force=force, only=(name,) if name else ())
            return _save_many(client, screen, found, places)
        job = client.job(full_id(client, job_id))
        target = protecting(client, job["input"], Target(output, force=force))
        target.check()
        chosen, path = save(client, screen, job, target, name=name)
    if path is None:
        return Exit.OK
    if screen.json:
        screen.object({**chosen, "path": str(path)})
    else:
        screen.write(f"{path}  {size_text(chosen['size'])}  sha256 {chosen['sha256']}")
    return Exit.OK


def _save_many(client: Client, screen: Screen, jobs: Iterable[Job], places: Places) -> int:
    """Download the outputs of jobs, each named after its job; one that cannot be written does not end the others."""
    saved, faults = 0, 0
    for job in jobs:
        try:
            paths = places.save(client, screen, job, PurePosixPath(job["title"] or job["id"][-12:]))
        except CommandError as error:
            if error.exit in (Exit.UNAVAILABLE, Exit.BUSY):
                raise
            faults += 1
            warn(f"{job['id']}: {error.message}")
            continue
        for path in paths:
            saved += 1
            if screen.json:
                screen.object({"job": job["id"], "path": str(path)})
            else:
                screen.write(str(path))
    screen.say(f"{saved} files written" + (f", {faults} jobs could not be saved" if faults else ""))
    return Exit.ERROR if faults else Exit.OK


def save(
    client: Client, screen: Screen, job: Job, target: Target, *, name: str | None = None
) -> tuple[dict[str, Any], Path | None]:
    """Download an output of a job; what it is and where it lies now, None where it went to standard output.

    Raises:
        CommandError: there is no such output, or the file cannot be written.
    """
    chosen = choose(job, name)
    source = Source(f"/v1/jobs/{job['id']}/outputs/{chosen['name']}", chosen["size"], chosen["sha256"])
    if target.is_stdout:
        fetch_to_stdout(client, screen, source, label=chosen["name"])
        return chosen, None
    path = target.file(file_name(job, chosen))
    download(client, screen, source, target, path)
    return chosen, path


def deliver(client: Client, screen: Screen, job: Job, target: Target, door: Door) -> None:
    """Download the result of a job that a command has waited for. Whatever goes wrong now, the result is not lost.

    Raises:
        CommandError: says what went wrong, and how to get the result.
    """
    try:
        chosen, path = save(client, screen, job, target)
    except CommandError as error:
        if error.exit is Exit.NOT_FOUND:
            raise
        kept = _kept(job, door, target)
        raise CommandError(error.message, exit=error.exit, hint=kept, code=error.code, details=error.details) from None
    except KeyboardInterrupt:
        screen.say(_kept(job, door, target))
        raise
    screen.say(f"{path or 'written'}  {size_text(chosen['size'])}  sha256 {chosen['sha256']}")


def _kept(job: Job, door: Door, target: Target) -> str:
    command = command_for(job, door, target.given)
    return f"The job succeeded and the daemon keeps its result. Get it with: {command}"


def command_for(job: Job, door: Door, output: str) -> str:
    """The command line that fetches the result of a job once more, for a person to copy."""
    words = ["vidqueue", "result", str(job["id"])]
    outputs = [str(one["name"]) for one in job.get("outputs") or ()]
    if len(outputs) > 1 and USUAL not in outputs:
        words += ["--name", outputs[0]]
    # A file that stands in the way stays there; the command without -o takes a name of its own.
    if not os.path.lexists(output) or Path(output).is_dir():
        words += ["-o", output]
    if door.url != os.environ.get("VIDQUEUE_URL", DEFAULT_URL):
        words += ["--url", door.url]
    return shlex.join(words)


def choose(job: Job, name: str | None) -> dict[str, Any]:
    """The output that was asked for: the one of that name, the only one, or the usual one.

    Raises:
        CommandError: there is none, with the reason.
    """
    outputs: dict[str, dict[str, Any]] = {output["name"]: output for output in job.get("outputs") or ()}
    if not outputs:
        raise CommandError(
            f"The job is {job['state']} and has no outputs.",
            exit=Exit.BUSY if job["state"] in ("queued", "running") else Exit.NOT_FOUND,
            hint=f"`vidqueue status {job['id']}` shows the job.",
        )
    wanted = name or (USUAL if USUAL in outputs or len(outputs) > 1 else next(iter(outputs)))
    if wanted not in outputs:
        raise CommandError(
            f"The job has no output {wanted!r}." if name else "The job has several outputs.",
            exit=Exit.NOT_FOUND if name else Exit.USAGE,
            hint=f"Choose one with --name: {', '.join(outputs)}.",
        )
    return outputs[wanted]


def file_name(job: Job, chosen: dict[str, Any]) -> str:
    """A name that tells job and output apart from others: `1f2e3d4c5b6a-video.mp4`."""
    suffix = Path(chosen["filename"]).suffix
    return f"{job['id'][-12:]}-{chosen['name']}{suffix}"
