"""Many jobs from one command line: a job for each source, in one batch, and a table of what became of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from cyclopts import Group, Parameter

from vidqueue.cli.client import FINAL, Client
from vidqueue.cli.destinations import Places
from vidqueue.cli.exits import CommandError, Exit
from vidqueue.cli.follow import changes
from vidqueue.cli.growing import GROWN, has_grown, size_of
from vidqueue.cli.inputs import PERHAPS_SENT, Inputs
from vidqueue.cli.job_flags import JobFlags
from vidqueue.cli.options import DASH
from vidqueue.cli.outcomes import Line, how_to_fetch
from vidqueue.cli.render import board
from vidqueue.cli.sources import Choice, Entry, is_pattern
from vidqueue.cli.target import Identity, Target
from vidqueue.cli.terminal import Screen, told_when_interrupted
from vidqueue.processors.media import Kind
from vidqueue.sanitize import sanitize_text

MANY = Group("Many files", sort_key=25)
LARGEST_BATCH = 1000


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class ManyFlags:
    """Flags for more than one source."""

    recursive: Annotated[bool, Parameter(group=MANY, alias="-r", negative="", show_default=False)] = False
    """Take the files of folders below too, and keep their tree with -o."""
    include: Annotated[tuple[str, ...] | None, Parameter(group=MANY)] = None
    """Take only files whose name fits this pattern; may be given more than once."""
    exclude: Annotated[tuple[str, ...] | None, Parameter(group=MANY)] = None
    """Leave out files whose name fits this pattern; may be given more than once."""
    source_list: Annotated[str | None, DASH, Parameter(name="--from", group=MANY)] = None
    """Read sources from this file or `-`: a name, or a JSON object of parameters, on each line."""
    beside: Annotated[bool, Parameter(group=MANY, negative="", show_default=False)] = False
    """Wait, and write each result beside its source, with --suffix in its name."""
    suffix: Annotated[str | None, Parameter(group=MANY, allow_leading_hyphen=True)] = None
    """What is added to the name of a result: with --beside the name of the processor, otherwise nothing."""
    skip_existing: Annotated[bool, Parameter(group=MANY, negative="", show_default=False)] = False
    """Skip sources whose result is in its place already, as it is when the same command ran before."""
    name: Annotated[tuple[str, ...] | None, Parameter(group=MANY)] = None
    """Download only the output of this name; may be given more than once."""
    strict: Annotated[bool, Parameter(group=MANY, negative="", show_default=False)] = False
    """End with status 3 also if a job succeeded with warnings."""

    @property
    def choice(self) -> Choice:
        """Which files of folders are taken."""
        return Choice(self.recursive, self.include or (), self.exclude or ())


@dataclass(frozen=True, slots=True)
class Batch:
    """The request that all jobs of a command line share.

    Attributes:
        request: the part of each job's request that the flags give, with its processor.
        parameters: the parameters that the flags give.
        media: the parameter that names the source.
        kind: what media it takes.
    """

    request: dict[str, Any]
    parameters: dict[str, Any]
    media: str
    kind: Kind


def are_many(sources: Sequence[str], flags: ManyFlags, output: str | None) -> bool:
    """True if the command line may mean several jobs, or results go to a folder under the names of their sources."""
    if len(sources) > 1 or flags.beside or flags.source_list is not None:
        return True
    if not sources:
        return False
    is_folder = output is not None and Target(output).is_folder and not Path(output).is_file()
    return (is_folder and Path(sources[0]).is_file()) or Path(sources[0]).is_dir() or is_pattern(sources[0])


def places(
    processor: str, flags: JobFlags, many_flags: ManyFlags, inputs: frozenset[Identity] = frozenset()
) -> Places | None:
    """Return where results go; None where nobody waits for them.

    Raises:
        CommandError: flags contradict each other.
    """
    if many_flags.beside and flags.output is not None:
        raise CommandError("Give --beside or --output, not both.", exit=Exit.USAGE)
    _require_place(flags, many_flags)
    found = Places(None, force=flags.force, skip=many_flags.skip_existing, inputs=inputs, only=many_flags.name or ())
    if many_flags.beside:
        return replace(found, suffix=f"-{processor}" if many_flags.suffix is None else many_flags.suffix)
    if flags.output is None:
        return None
    if flags.output == "-" or Path(flags.output).is_file():
        raise CommandError("The results of several jobs need a folder.", exit=Exit.USAGE, hint="Write -o FOLDER/.")
    return replace(found, folder=Path(flags.output), suffix=many_flags.suffix or "")


def is_there(flags: JobFlags, screen: Screen) -> bool:
    """True if the result of a single job is in its place already, which is said then."""
    _require_place(flags, ManyFlags(skip_existing=True))
    if flags.output is None or not Path(flags.output).is_file():
        return False
    screen.say(f"skipped: {flags.output} is there already")
    return True


def _require_place(flags: JobFlags, many_flags: ManyFlags) -> None:
    if not many_flags.skip_existing:
        return
    if flags.force:
        raise CommandError("Give --skip-existing or --force, not both.", exit=Exit.USAGE)
    if not many_flags.beside and flags.output in (None, "-"):
        hint = "Give -o FOLDER/ or --beside with it."
        raise CommandError("--skip-existing needs a place where results are.", exit=Exit.USAGE, hint=hint)


def lines_of(entries: Sequence[Entry], places: Places | None, extension: str) -> list[Line]:
    """Return a line for each source, after a check of the files that will be written.

    Args:
        entries: the sources.
        places: where results go.
        extension: the extension that results will probably have; empty if that is not known.

    Raises:
        CommandError: a result cannot be written, or is there already and must not be skipped.
    """
    lines = [Line(entry.name, entry.value, size_of(entry.value)) for entry in entries]
    if places is None:
        return lines
    names = [entry.name if places.folder else PurePosixPath(entry.value) for entry in entries]
    for line, found in zip(lines, places.check(names, extension), strict=True):
        if found is not None:
            line.paths, line.is_there = [found], True
    return lines


def submit(
    client: Client,
    screen: Screen,
    batch: Batch,
    sources: Sequence[tuple[Line, Entry]],
    inputs: Inputs,
    key: str | None,
) -> None:
    """Upload each source and submit its job; sources that cannot be read are skipped with a message.

    Raises:
        CommandError: the daemon refused a job for another reason than its source.
    """
    members: list[tuple[Line, dict[str, Any]]] = []
    for line, entry in sources:
        if line.is_there:
            screen.say(f"skipped {line.name}: {line.paths[0]} is there already")
            continue
        try:
            with inputs.before_jobs(client, screen):
                reference = inputs.reference(client, screen, entry.value, kind=batch.kind)
        except CommandError as error:
            if error.exit in (Exit.UNAVAILABLE, Exit.BUSY, Exit.NOT_PERMITTED):
                raise
            _skip(screen, line, error.message)
            continue
        parameters = {**batch.parameters, **entry.parameters, batch.media: reference}
        members.append((line, {"title": sanitize_text(str(line.name))[:500], **batch.request, "input": parameters}))
    parts = [members[at : at + LARGEST_BATCH] for at in range(0, len(members), LARGEST_BATCH)]
    for number, part in enumerate(parts):
        headers = {"Idempotency-Key": f"{key}-{number}" if number else key} if key else {}
        with told_when_interrupted(screen, PERHAPS_SENT):
            _send(client, screen, part, batch.media, headers)


def _send(
    client: Client, screen: Screen, part: list[tuple[Line, dict[str, Any]]], media: str, headers: dict[str, str]
) -> None:
    """Queue jobs as one batch, without those whose sources the daemon refuses: it is queued whole or not at all."""
    while part:
        try:
            made = client.call("POST", "/v1/batches", json={"jobs": [job for _, job in part]}, headers=headers)
        except CommandError as error:
            refused = {index: error.faults.get(f"/jobs/{index}/input/{media}") for index in range(len(part))}
            if not any(refused.values()) or len(error.faults) > sum(map(bool, refused.values())):
                raise
            for index, (line, _) in enumerate(part):
                if why := refused[index]:
                    _skip(screen, line, why)
            part = [member for index, member in enumerate(part) if not refused[index]]
            continue
        for (line, member), job_id in zip(part, made["jobs"], strict=True):
            shown = {name: member[name] for name in ("title", "processor")}
            line.job = {"id": job_id, "state": "queued", "batch": made["id"], **shown}
        return


def _skip(screen: Screen, line: Line, why: str) -> None:
    line.skipped = why
    screen.say(f"skipped {line.name}: {why}")


def follow(client: Client, screen: Screen, lines: Sequence[Line], places: Places | None) -> None:
    """Show the jobs until they have ended; write each result as soon as it is there.

    Raises:
        KeyboardInterrupt: after a message that says how to continue.
    """
    by_id = {line.job["id"]: line for line in lines if line.job is not None}
    try:
        with board(screen) as shown:
            for job in changes(client, list(by_id), tell=screen.say, places=screen.live):
                line = by_id[job["id"]]
                first = line.job is None or line.job["state"] not in FINAL
                line.job = job
                shown.put(job)
                if places is not None and first and job["state"] == "succeeded":
                    _write(client, screen, line, places)
    except KeyboardInterrupt:
        screen.say(f"Detached; the jobs continue. {how_to_fetch(lines, places)}")
        raise


def _write(client: Client, screen: Screen, line: Line, places: Places) -> None:
    assert line.job is not None
    name = line.name if places.folder is not None else PurePosixPath(line.value)
    try:
        line.paths = places.save(client, screen, line.job, name)
        line.result_size = sum(path.stat().st_size for path in line.paths) if len(line.paths) == 1 else None
        if has_grown(line.value, line.size):
            line.remark = GROWN
            screen.say(f"warning: {line.name}: {GROWN}")
    except CommandError as error:
        line.unwritten = error.message
