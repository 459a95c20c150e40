"""`vidqueue result`: downloads the outputs of jobs."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Iterator
from operator import itemgetter
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from cyclopts import Parameter

from vidqueue.cli.client import Client, Job
from vidqueue.cli.completers import jobs_in
from vidqueue.cli.destinations import USUAL, Places, with_extension
from vidqueue.cli.exits import CommandError, Exit
from vidqueue.cli.inputs import has_content, protecting
from vidqueue.cli.options import DASH, DEFAULT_URL, DOOR, LOOK, Door, Look
from vidqueue.cli.selection import ManyJobs, full_id
from vidqueue.cli.target import Target
from vidqueue.cli.terminal import Screen, count_text, size_text, warn
from vidqueue.cli.transfer import Source, download, fetch_to_stdout

HERE = "."


NO_MANY = ManyJobs()


def result(
    job_id: Annotated[str | None, Parameter(name="ID", completer=jobs_in("succeeded"))] = None,
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
        output: File or folder to write to, or `-` for standard output. A folder gets all outputs, named after the
            source, or after the job where a file has that name; the default is the current folder.
        force: Replace an existing file. An input of the job is never replaced.
        name: Name of the output, if the job has several.
        many: The jobs whose outputs are downloaded; -o names a folder then, and results are named after the jobs.
        door: The daemon to talk to.
        look: The format of the output.
    """
    screen = Screen(look)
    if (job_id is not None) + (many.every or bool(many.query)) != 1:
        raise CommandError("Name a job, or --batch, --tag, --processor or --all.", exit=Exit.USAGE)
    with Client(door.url) as client:
        if job_id is None:
            found = client.jobs(limit=None, state="succeeded", **many.completed(client))
            places = Places(Path(output), force=force, only=(name,) if name else ())
            return _save_many(client, screen, found, places)
        job = client.job(full_id(client, job_id))
        target = protecting(client, job["input"], Target(output, force=force))
        target.check()
        for chosen, path in save(client, screen, job, target, name=name):
            if path is None:
                continue
            if screen.json:
                screen.object({**chosen, "path": str(path)})
            else:
                screen.write(f"{path}  {size_text(chosen['size'])}  sha256 {chosen['sha256']}")
    return Exit.OK


def _save_many(client: Client, screen: Screen, jobs: Iterable[Job], places: Places) -> int:
    """Download the outputs of jobs, each named after its job; one that cannot be written does not end the others."""
    saved, faults = 0, 0
    # In the order of their submission, so that two jobs of one name get the same names each time.
    named = [(job, _name_of(job)) for job in sorted(jobs, key=itemgetter("id"))]
    places.tell_apart([name for _, name in named])
    for job, name in named:
        try:
            paths = places.save(client, screen, job, name)
        except CommandError as error:
            if error.exit in (Exit.UNAVAILABLE, Exit.BUSY):
                raise
            faults += 1
            warn(f"{job['id']}: {error.message}")
            continue
        for path in paths:
            saved += path not in places.there
            if screen.json:
                screen.object({"job": job["id"], "path": str(path)})
            else:
                screen.write(str(path))
    there = f", {len(places.there)} already there" if places.there else ""
    lost = f", {count_text(faults, 'job')} could not be saved" if faults else ""
    screen.say(f"{count_text(saved, 'file')} written{there}{lost}")
    return Exit.ERROR if faults else Exit.OK


def _name_of(job: Job) -> PurePosixPath:
    """The name of a job's source; with the folders that its title has, where the title is that name."""
    title, source = PurePosixPath(job["title"] or ""), job.get("source") or ""
    is_title = not source or "".join(filter(str.isprintable, title.name)).strip() == source
    return title if is_title and title.name else PurePosixPath(source or job["id"][-12:])


def save(
    client: Client, screen: Screen, job: Job, target: Target, *, name: str | None = None
) -> Iterator[tuple[dict[str, Any], Path | None]]:
    """Download an output of a job, or all of them into a folder. Yield each with its path, None for standard output.

    Raises:
        CommandError: there is no such output, or a file cannot be written.
    """
    chosen = job["outputs"] if target.is_folder and not name and job.get("outputs") else [choose(job, name)]
    # Each name is tried before the first one is written.
    paths = [None if target.is_stdout else _place(job, one, target) for one in chosen]
    for one, path in zip(chosen, paths, strict=True):
        source = Source(f"/v1/jobs/{job['id']}/outputs/{one['name']}", one["size"], one["sha256"])
        if path is None:
            fetch_to_stdout(client, screen, source, label=one["name"])
        elif not has_content(path, one["size"], one["sha256"]):
            download(client, screen, source, target, path)
        yield one, path


def _place(job: Job, chosen: dict[str, Any], target: Target) -> Path:
    """Where an output is written, or lies already in the folder under the name of its source.

    Raises:
        CommandError: a file is in the way.
    """
    folder, named = Path(target.given), source_name(job, chosen)
    if named and target.is_folder:
        there = has_content(folder / named, chosen["size"], chosen["sha256"])
        if there or not os.path.lexists(folder / named):
            return folder / named
    return target.file(file_name(job, chosen))


def deliver(client: Client, screen: Screen, job: Job, target: Target, door: Door) -> None:
    """Download the result of a job that a command has waited for. Whatever goes wrong now, the result is not lost.

    Raises:
        CommandError: says what went wrong, and how to get the result.
    """
    try:
        for chosen, path in save(client, screen, job, target):
            screen.say(f"{path or 'written'}  {size_text(chosen['size'])}  sha256 {chosen['sha256']}")
    except CommandError as error:
        if error.exit is Exit.NOT_FOUND:
            raise
        kept = _kept(job, door, target)
        raise CommandError(error.message, exit=error.exit, hint=kept, code=error.code, details=error.details) from None
    except KeyboardInterrupt:
        screen.say(_kept(job, door, target))
        raise


def _kept(job: Job, door: Door, target: Target) -> str:
    command = command_for(job, door, target.given)
    return f"The job succeeded and the daemon keeps its result. Get it with: {command}"


def command_for(job: Job, door: Door, output: str = HERE) -> str:
    """The command line that fetches the result of a job, for a person to copy."""
    words = ["vidqueue", "result", str(job["id"])]
    outputs = [str(one["name"]) for one in job.get("outputs") or ()]
    if len(outputs) > 1 and USUAL not in outputs and not Path(output).is_dir():
        words += ["--name", outputs[0]]
    # A file that stands in the way stays there; the command without -o takes a name of its own.
    if output != HERE and (not os.path.lexists(output) or Path(output).is_dir()):
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


def source_name(job: Job, chosen: dict[str, Any]) -> str:
    """The name of the source for a result, `in.mp4` or `in-poster.jpg`; empty for a job without a source."""
    if not job.get("source"):
        return ""
    which = "" if chosen["name"] == USUAL or len(job["outputs"]) == 1 else f"-{chosen['name']}"
    return with_extension(f"{PurePosixPath(job['source']).stem}{which}", chosen["filename"] or "")


def file_name(job: Job, chosen: dict[str, Any]) -> str:
    """A name that tells job and output apart from others: `1f2e3d4c5b6a-video.mp4`."""
    return f"{job['id'][-12:]}-{with_extension(chosen['name'], chosen['filename'])}"
