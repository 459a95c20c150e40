"""`vidqueue submit PROCESSOR`: a command for each processor, with flags made from its parameter model."""

from __future__ import annotations

import inspect
import json
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Annotated, Any

from cyclopts import App, Group, Parameter

from vidqueue.cli.client import Client, Job
from vidqueue.cli.exits import CommandError, Exit
from vidqueue.cli.flags import Flag, flags_of
from vidqueue.cli.inputs import Inputs, protecting
from vidqueue.cli.options import DASH, Door, Look
from vidqueue.cli.result import deliver
from vidqueue.cli.target import Target
from vidqueue.cli.terminal import Screen
from vidqueue.cli.watch import verdict, wait_for
from vidqueue.errors import VidqueueError
from vidqueue.processors import registry
from vidqueue.processors.base import Processor

JOB = Group("The job", sort_key=20)
WAITING = Group("Files and waiting", sort_key=30)


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class JobFlags:
    """Flags that every job can have."""

    title: Annotated[str | None, Parameter(group=JOB)] = None
    """A label for people."""
    tag: Annotated[tuple[str, ...] | None, Parameter(group=JOB)] = None
    """A label to filter by; may be given more than once."""
    priority: Annotated[int | None, Parameter(group=JOB, allow_leading_hyphen=True)] = None
    """From -1000 to 1000; higher goes first, and one point outweighs a minute of waiting."""
    run_at: Annotated[datetime | None, Parameter(group=JOB)] = None
    """Not before this time, such as 2027-01-31T22:00; local unless it names a zone."""
    expires_at: Annotated[datetime | None, Parameter(group=JOB)] = None
    """Fail if it has not started by this time; local unless it names a zone."""
    max_attempts: Annotated[int | None, Parameter(group=JOB)] = None
    """Number of failed attempts after which the job fails."""
    timeout: Annotated[float | None, Parameter(group=JOB)] = None
    """Longest time one attempt may run, in seconds."""
    stall_timeout: Annotated[float | None, Parameter(group=JOB)] = None
    """Longest time without progress, in seconds."""
    lane: Annotated[str | None, Parameter(group=JOB)] = None
    """Run on this lane only."""
    webhook: Annotated[str | None, Parameter(group=JOB)] = None
    """A URL that is told of the job by POST requests."""
    webhook_event: Annotated[tuple[str, ...] | None, Parameter(group=JOB)] = None
    """Tell only started, progress, output or completed; may be given more than once."""
    idempotency_key: Annotated[str | None, Parameter(group=JOB)] = None
    """A key of your choice. Sending the same request with the same key again does not create a second job."""
    wait: Annotated[bool, Parameter(group=WAITING, negative="", show_default=False)] = False
    """Watch the job until it ends. Ctrl-C stops watching; the job continues."""
    output: Annotated[str | None, DASH, Parameter(group=WAITING, alias="-o")] = None
    """Wait, and download the result to this file or folder, or `-` for standard output."""
    force: Annotated[bool, Parameter(group=WAITING, negative="", show_default=False)] = False
    """Replace an existing file with the result. An input is never replaced."""
    upload: Annotated[bool, Parameter(group=WAITING)] = True
    """Upload local files. With --no-upload the daemon opens them itself by path, under its inputs.roots."""

    def request(self) -> dict[str, Any]:
        """The part of the request that says how to run the job; what was not given is left to the daemon."""
        given = {
            "title": self.title,
            "tags": list(self.tag or ()) or None,
            "priority": self.priority,
            "run_at": _zoned(self.run_at),
            "expires_at": _zoned(self.expires_at),
            "max_attempts": self.max_attempts,
            "timeout_s": self.timeout,
            "stall_timeout_s": self.stall_timeout,
            "lane": self.lane,
            "webhook": receiver(self.webhook, self.webhook_event),
        }
        return {name: value for name, value in given.items() if value is not None}


def receiver(url: str | None, events: tuple[str, ...] | None) -> dict[str, Any] | None:
    """Return whom to tell of a job, as a request names it.

    Raises:
        CommandError: there are events without a URL.
    """
    if url is None:
        if events:
            raise CommandError("--webhook-event needs --webhook.", exit=Exit.USAGE)
        return None
    return {"url": url, "events": list(events)} if events else {"url": url}


def _zoned(moment: datetime | None) -> str | None:
    return moment.astimezone().isoformat() if moment else None


class SubmitCommand:
    """The command of one processor. The parser reads `__signature__` as it would that of a function."""

    def __init__(self, processor: Processor) -> None:
        self._processor = processor
        self._flags = flags_of(processor.Params, _taken())
        shared = [_shared("job", JobFlags), _shared("door", Door), _shared("look", Look)]
        arguments = [*(flag.argument for flag in self._flags), *shared]
        # Positional arguments first, as a signature wants it.
        arguments.sort(key=lambda argument: argument.kind)
        self.__signature__ = inspect.Signature(arguments, return_annotation=int)
        self.__annotations__ = {argument.name: argument.annotation for argument in arguments}
        self.__name__ = processor.name
        self.__doc__ = inspect.getdoc(processor)

    def __call__(self, *positional: Any, **given: Any) -> int:
        """Submit a job, and wait for it if requested."""
        bound = self.__signature__.bind(*positional, **given).arguments
        job_flags, door, look = (bound.pop(name, kind()) for name, kind in _SHARED.items())
        request = {"processor": self._processor.name, "input": self._input(bound), **job_flags.request()}
        return _submit(request, self._media(bound), job_flags, door, Screen(look))

    def _input(self, bound: dict[str, Any]) -> dict[str, Any]:
        values = {flag.field: _read(flag, bound[flag.argument.name]) for flag in self._flags if _is_given(flag, bound)}
        self._check(values)
        return values

    def _media(self, bound: dict[str, Any]) -> list[str]:
        return [flag.field for flag in self._flags if flag.media and _is_given(flag, bound)]

    def _check(self, values: dict[str, Any]) -> None:
        """Check the parameters before a file is uploaded."""
        try:
            registry.parse(self._processor, values)
        except VidqueueError as error:
            faults = [f"{fault['pointer'].removeprefix('/input/')}: {fault['detail']}" for fault in error.errors]
            raise CommandError(
                f"{self._processor.name} does not accept these parameters.",
                exit=Exit.USAGE,
                hint=f"`vidqueue submit {self._processor.name} --help` shows them all.",
                code=error.code,
                details=faults,
            ) from None


_SHARED: dict[str, type] = {"job": JobFlags, "door": Door, "look": Look}


def _taken() -> frozenset[str]:
    return frozenset(field.name for kind in _SHARED.values() for field in fields(kind)) | set(_SHARED)


def _shared(name: str, kind: type) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=kind(), annotation=kind)


def _is_given(flag: Flag, bound: dict[str, Any]) -> bool:
    return bound.get(flag.argument.name) is not None


def _read(flag: Flag, value: Any) -> Any:
    try:
        return flag.read(value)
    except json.JSONDecodeError as error:
        raise CommandError(f"--{flag.argument.name} takes JSON: {error}.", exit=Exit.USAGE) from None


def _submit(request: dict[str, Any], media: list[str], flags: JobFlags, door: Door, screen: Screen) -> int:
    inputs = Inputs(may_upload=flags.upload)
    named = inputs.check(request["input"][field] for field in media)
    target = None if flags.output is None else Target(flags.output, force=flags.force, inputs=named)
    if target is not None:
        target.check()
    with Client(door.url) as client:
        if target is not None and target.replaces:
            target = protecting(client, request["input"], target)
            target.check()
        for field in media:
            request["input"][field] = inputs.reference(client, screen, request["input"][field])
        headers = {"Idempotency-Key": flags.idempotency_key} if flags.idempotency_key else {}
        job: Job = client.call("POST", "/v1/jobs", json=request, headers=headers)
        if not flags.wait and target is None:
            _tell_accepted(screen, job)
            return Exit.OK
        screen.say(f"submitted {job['id']}")
        job = wait_for(client, screen, [job["id"]]).get(job["id"], job)
        _require_success(job)
        if target is not None:
            deliver(client, screen, job, target, door)
        elif not screen.json:
            screen.write(job["id"])
        return Exit.OK


def _tell_accepted(screen: Screen, job: Job) -> None:
    if screen.json:
        screen.object(job)
        return
    screen.write(job["id"])
    if screen.out.is_terminal:
        screen.say(f"Watch it with: vidqueue watch {job['id']}")


def _require_success(job: Job) -> None:
    if job["state"] == "succeeded":
        return
    error = job.get("error") or {}
    raise CommandError(
        error.get("message") or f"The job was {job['state']}.",
        exit=verdict([job]),
        hint=error.get("hint") or "",
        code=error.get("code") or "",
        details=[f"`vidqueue logs {job['id']}` shows its log."] if error else [],
    )


def _with_every_processor() -> App:
    found = App(name="submit", help="Submit a job. Each processor has its own flags: vidqueue submit PROCESSOR --help")
    for name, processor in registry.catalogue().items():
        found.command(SubmitCommand(processor), name=name)
    return found


app = _with_every_processor()
