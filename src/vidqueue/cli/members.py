"""The jobs of a batch before they are sent: their parameters are checked, and their local files are found."""

from __future__ import annotations

import inspect
from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from cyclopts import App, Parameter

from vidqueue.cli.exits import CommandError, Exit
from vidqueue.cli.flags import Flag, flags_of, source_of
from vidqueue.cli.inputs import media_of_input, storable
from vidqueue.cli.offered import offered
from vidqueue.errors import VidqueueError
from vidqueue.processors import registry
from vidqueue.processors.media import MediaField

FAULTS_TOLD = 20


@dataclass(frozen=True, slots=True)
class Member:
    """One job of a batch: its parameters, which of them name media, and remarks about them."""

    input: dict[str, Any]
    media: tuple[MediaField, ...]
    remark: str = ""


def check(jobs: Sequence[dict[str, Any]]) -> list[Member]:
    """Check every job against the model of its processor, before anything is sent.

    The parameters of a processor that the daemon does not know are sent as they are; its answer says what is wrong.

    Raises:
        CommandError: with the faults of all jobs.
    """
    members, faults = [], []
    for index, job in enumerate(jobs):
        name = job.get("processor")
        if not isinstance(name, str):
            faults.append(f"/jobs/{index}: names no processor")
            continue
        processor = offered().processors.get(name)
        if processor is None:
            members.append(Member(job["input"], ()))
            continue
        remark = ""
        try:
            remark = processor.remark(registry.parse(processor, storable(processor, job["input"])))
        except VidqueueError as error:
            faults += [f"/jobs/{index}{fault['pointer']}: {fault['detail']}" for fault in error.errors]
        members.append(Member(job["input"], tuple(media_of_input(processor, job["input"])), remark))
    if faults:
        more = [f"and {len(faults) - FAULTS_TOLD} more"] if len(faults) > FAULTS_TOLD else []
        raise CommandError(
            "Nothing of the batch was sent.",
            exit=Exit.USAGE,
            code="invalid_params",
            details=[*faults[:FAULTS_TOLD], *more],
        )
    return members


def flags_on(name: str, words: Sequence[str], taken: Container[str]) -> tuple[list[str], dict[str, Any], str | None]:
    """Parse the part of a command line that belongs to a processor: files, parameters, and the field for a file.

    Raises:
        CommandError: there is no such processor here, or a value is not JSON where it must be.
        CycloptsError: a flag is unknown or has a wrong value.
    """
    known = offered().processors
    if name not in known:
        message = f"There is no processor {name!r}. Known: {', '.join(known)}."
        raise CommandError(message, exit=Exit.USAGE, code="unknown_processor")
    processor = known[name]
    flags = flags_of(processor.Params, taken)
    media = source_of(flags)
    rest = [flag for flag in flags if flag is not media]
    files, given = _parse(f"vidqueue batch --processor {name}", rest, words)
    values = {flag.field: flag.read(given[flag.argument.name]) for flag in rest if flag.argument.name in given}
    return files, values, media.field if media else None


def _parse(name: str, flags: Sequence[Flag], words: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    caught: dict[str, Any] = {}

    def command(*files: str, **given: Any) -> None:
        caught.update(files=files, **{key: value for key, value in given.items() if value is not None})

    # `-` is standard input, so a hyphen may begin a word; what no flag has taken is told by the caller.
    shape = Annotated[str, Parameter(allow_leading_hyphen=True)]
    variadic = inspect.Parameter("files", inspect.Parameter.VAR_POSITIONAL, annotation=shape)
    # A parameter that must be given may come from the list instead; the model sees to it.
    named = [flag.argument.replace(kind=inspect.Parameter.KEYWORD_ONLY, default=None) for flag in flags]
    vars(command)["__signature__"] = inspect.Signature([variadic, *named])
    command.__annotations__ = {"files": shape} | {one.name: one.annotation for one in named}
    parser = App(name=name, help_flags=[], version_flags=[])
    parser.default(command)
    parser(list(words), exit_on_error=False, print_error=False, result_action="return_value")
    return list(caught.pop("files", ())), caught
