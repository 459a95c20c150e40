"""`vidqueue submit PROCESSOR`: a command for each processor, with flags made from its parameter model."""

from __future__ import annotations

import inspect
from dataclasses import fields, replace
from typing import Annotated, Any, get_args

from cyclopts import App, Parameter

from vidqueue.cli import containers, many
from vidqueue.cli.client import Client, Job
from vidqueue.cli.doubts import doubts
from vidqueue.cli.error_messages import describe_fault
from vidqueue.cli.exits import CommandError, Exit
from vidqueue.cli.flags import Flag, flags_of, source_of
from vidqueue.cli.growing import GROWN, has_grown, size_of
from vidqueue.cli.hanging import require_response
from vidqueue.cli.inputs import PERHAPS_SENT, Inputs, media_of_input, protecting, put, storable
from vidqueue.cli.job_flags import JobFlags
from vidqueue.cli.many import ManyFlags
from vidqueue.cli.offered import offered
from vidqueue.cli.options import Door, Look
from vidqueue.cli.outcomes import tell
from vidqueue.cli.render import warnings_of
from vidqueue.cli.result import command_for, deliver
from vidqueue.cli.selection import known_id
from vidqueue.cli.sources import expand, listed, refuse_flag, title_of, told_apart
from vidqueue.cli.target import Target
from vidqueue.cli.terminal import Screen, count_text, told_when_interrupted, warn
from vidqueue.cli.watch import verdict, wait_for
from vidqueue.errors import VidqueueError
from vidqueue.processors import registry
from vidqueue.processors.base import Processor
from vidqueue.processors.media import MediaField


class SubmitCommand:
    """The command of one processor. The parser reads `__signature__` as it would that of a function."""

    def __init__(self, processor: Processor) -> None:
        self._processor = processor
        self._flags = flags_of(processor.Params, _taken())
        self._source = source_of(self._flags)
        shared = [_shared(name, kind) for name, kind in _SHARED.items()]
        arguments = [*map(self._argument, self._flags), *shared]
        if self._source is not None:
            arguments.append(_SOURCES)
        # Positional arguments first, as a signature wants it.
        arguments.sort(key=lambda argument: argument.kind)
        self.__signature__ = inspect.Signature(arguments, return_annotation=int)
        self.__annotations__ = {argument.name: argument.annotation for argument in arguments}
        self.__name__ = processor.name
        self.__doc__ = inspect.getdoc(processor)

    def _argument(self, flag: Flag) -> inspect.Parameter:
        """The flag as an argument; the sources are positional and may be many, so their flag is never required."""
        if flag is not self._source:
            return flag.argument
        shape, *marks = get_args(flag.argument.annotation)
        return flag.argument.replace(
            kind=inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[(shape | None, *marks)]
        )

    def __call__(self, *positional: Any, **given: Any) -> int:
        """Submit a job for each source, and wait for them if requested."""
        bound = self.__signature__.bind(*positional, **given).arguments
        job_flags, many_flags, door, look = (bound.pop(name, kind()) for name, kind in _SHARED.items())
        sources = list(bound.pop(SOURCES, ()))
        if self._source is not None:
            if (named := bound.pop(self._source.argument.name, None)) is not None:
                sources.append(named)
            require_response(filter(None, [*sources, job_flags.output]))
            for source in sources:
                refuse_flag(source, self._known_flags())
            if not sources and many_flags.source_list is None and self._needs_source:
                hint = f"Name one, such as: vidqueue submit {self._processor.name} in.mp4"
                raise CommandError("No file was given.", exit=Exit.USAGE, hint=hint, code="invalid_params")
            if many.are_many(sources, many_flags, job_flags.output):
                return self._submit_many(sources, bound, job_flags, many_flags, door, Screen(look))
            if sources:
                bound[self._source.argument.name] = sources[0]
                # What people call the job, and what tells thirty of them apart.
                job_flags = replace(job_flags, title=job_flags.title or title_of(sources[0]))
        if many_flags.skip_existing and many.is_there(job_flags, Screen(look)):
            return Exit.OK
        values = self._input(bound, job_flags.output)
        request = {"processor": self._processor.name, "input": values, **job_flags.request()}
        media = media_of_input(self._processor, values)
        return _submit(request, media, job_flags, door, Screen(look), strict=many_flags.strict)

    @property
    def _needs_source(self) -> bool:
        assert self._source is not None
        return self._processor.Params.model_fields[self._source.field].is_required()

    def _known_flags(self) -> list[str]:
        names = [*(flag.argument.name for flag in self._flags), *_taken()]
        return [f"--{name.replace('_', '-')}" for name in names]

    def _submit_many(
        self,
        sources: list[str],
        bound: dict[str, Any],
        flags: JobFlags,
        many_flags: ManyFlags,
        door: Door,
        screen: Screen,
    ) -> int:
        assert self._source is not None
        entries = expand(sources, many_flags.choice)
        if many_flags.source_list is not None:
            entries += listed(many_flags.source_list, self._source.field)
        entries = told_apart(entries)
        if not entries:
            raise CommandError("There is no file to submit.", exit=Exit.USAGE, code="input_not_found")
        values = {flag.field: flag.read(bound[flag.argument.name]) for flag in self._flags if _is_given(flag, bound)}
        checked = [{**values, **entry.parameters, self._source.field: entry.value} for entry in entries]
        for remark in sorted({*map(self._check, checked)} - {""}):
            warn(remark)
        inputs = Inputs(may_upload=flags.upload)
        named = inputs.check((entry.value for entry in entries), may_skip=True)
        places = many.places(self._processor.name, flags, many_flags, named)
        lines = many.lines_of(entries, places, self._extension(values))
        request = {"processor": self._processor.name, **flags.request()}
        batch = many.Batch(request, values, self._source.field, self._source.kind or "any")
        with Client(door.url, owner=flags.owner) as client:
            _name_jobs(client, request)
            many.submit(client, screen, batch, list(zip(lines, entries, strict=True)), inputs, flags.idempotency_key)
            if flags.wait or places is not None:
                screen.say(f"submitted {count_text(sum(line.job is not None for line in lines), 'job')}")
                many.follow(client, screen, lines, places)
        waited = flags.wait or places is not None
        return tell(screen, lines, strict=many_flags.strict, waited=waited)

    def _extension(self, values: dict[str, Any]) -> str:
        """The extension that results will have, with its dot; empty where the parameters do not say."""
        field = self._processor.Params.model_fields.get("container")
        container = values.get("container", field.default if field is not None else None)
        return f".{container}" if isinstance(container, str) else ""

    def _input(self, bound: dict[str, Any], output: str | None) -> dict[str, Any]:
        values = {flag.field: flag.read(bound[flag.argument.name]) for flag in self._flags if _is_given(flag, bound)}
        for remark in filter(None, [containers.fit(self._processor, values, output), self._check(values)]):
            warn(remark)
        return values

    def _check(self, values: dict[str, Any]) -> str:
        """Check the parameters before a file is uploaded, and return warnings about them."""
        try:
            return self._processor.remark(registry.parse(self._processor, storable(self._processor, values)))
        except VidqueueError as error:
            faults = [describe_fault(fault["pointer"], fault["detail"]) for fault in error.errors]
            refused = error.code == "invalid_params"
            see = f"`vidqueue submit {self._processor.name} --help` lists all parameters."
            raise CommandError(
                f"{self._processor.name} does not accept these parameters." if faults or refused else error.message,
                exit=Exit.USAGE,
                hint=see if refused else error.hint,
                code=error.code,
                details=faults,
            ) from None


_SHARED: dict[str, type] = {"job": JobFlags, "many": ManyFlags, "door": Door, "look": Look}
SOURCES = "sources"
_SOURCES = inspect.Parameter(
    SOURCES,
    inspect.Parameter.VAR_POSITIONAL,
    # Not DASH: a file may be called -x.mp4, and `expand` tells it from a flag.
    annotation=Annotated[
        str,
        Parameter(allow_leading_hyphen=True, help="Files, folders, patterns, references or `-`."),
    ],
)


def _taken() -> frozenset[str]:
    return frozenset(field.name for kind in _SHARED.values() for field in fields(kind)) | {*_SHARED, SOURCES}


def _shared(name: str, kind: type) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=kind(), annotation=kind)


def _is_given(flag: Flag, bound: dict[str, Any]) -> bool:
    return bound.get(flag.argument.name) is not None


def _submit(
    request: dict[str, Any], media: list[MediaField], flags: JobFlags, door: Door, screen: Screen, *, strict: bool
) -> int:
    inputs = Inputs(may_upload=flags.upload)
    named = inputs.check(one.reference for one in media)
    sent = [(one.reference, size_of(one.reference)) for one in media]
    target = None if flags.output is None else Target(flags.output, force=flags.force, inputs=named)
    if target is not None:
        target.check()
    with Client(door.url, owner=flags.owner) as client:
        if target is not None and target.replaces:
            target = protecting(client, request["input"], target)
            target.check()
        with inputs.before_jobs(client, screen):
            for one in media:
                put(request["input"], one.path, inputs.reference(client, screen, one.reference, kind=one.kind))
        _name_jobs(client, request)
        headers = {"Idempotency-Key": flags.idempotency_key} if flags.idempotency_key else {}
        with told_when_interrupted(screen, PERHAPS_SENT):
            job: Job = client.call("POST", "/v1/jobs", json=request, headers=headers)
        if not flags.wait and target is None:
            _tell_accepted(screen, job)
            return Exit.OK
        job = wait_for(client, screen, [job["id"]], said_first=f"submitted {job['id']}").get(job["id"], job)
        _require_success(job)
        if any(has_grown(value, size) for value, size in sent):
            warn(GROWN)
        if target is not None:
            deliver(client, screen, job, target, door)
        elif not screen.json:
            screen.write(job["id"])
            screen.say(f"Get its result with: {command_for(job, door)}")
        if warnings := warnings_of(job):
            screen.say(f"succeeded with {count_text(warnings, 'warning')}; see: vidqueue status {job['id']}")
        return Exit.JOB_FAILED if strict and warnings else Exit.OK


def _name_jobs(client: Client, request: dict[str, Any]) -> None:
    """Put ids in full in place of pieces of them, and warn of what is probably a mistake."""
    for doubt in doubts(client, request):
        warn(doubt)
    if "after" in request:
        request["after"] = [known_id(client, one) for one in request["after"]]


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


class AbsentCommand(SubmitCommand):
    """The command of a processor that is installed here and that the daemon has not."""

    def __call__(self, *positional: Any, **given: Any) -> int:
        """Refuse, before anything is uploaded."""
        raise CommandError(
            f"The daemon at {offered().url} has no processor {self._processor.name}.",
            exit=Exit.NOT_FOUND,
            hint="Install it where the daemon runs; `vidqueue reload` lets the daemon take it.",
            code="unknown_processor",
        )


def _with_every_processor() -> App:
    found = App(name="submit", help="Submit a job. Each processor has its own flags: vidqueue submit PROCESSOR --help")
    for name, processor in offered().processors.items():
        found.command(SubmitCommand(processor), name=name)
    for name, processor in offered().absent.items():
        found.command(AbsentCommand(processor), name=name, show=False)
    return found


app = _with_every_processor()
