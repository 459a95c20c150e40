"""`vidqueue try PROCESSOR`: runs a processor in this terminal, without daemon and database."""

from __future__ import annotations

import asyncio
import difflib
import inspect
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Group, Parameter
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from vidqueue.cli.error_messages import describe_fault
from vidqueue.cli.exits import CommandError, Exit
from vidqueue.cli.flags import flags_of
from vidqueue.cli.inputs import is_reference
from vidqueue.cli.options import DASH, Look, Source
from vidqueue.cli.settings import load_beside_daemon
from vidqueue.cli.terminal import Screen
from vidqueue.errors import VidqueueError
from vidqueue.job import Canceled, Failed, Outcome, OutputDraft, Succeeded, Waiting
from vidqueue.processors import registry
from vidqueue.processors.base import Processor
from vidqueue.processors.tracebacks import traceback_of
from vidqueue.progress import LogLine, Progress
from vidqueue.sanitize import visible

if TYPE_CHECKING:
    from vidqueue.settings.schema import Settings
    from vidqueue.worker.executor.parent import Heard

TRYING = Group("Trying", sort_key=20)


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class TryFlags:
    """Flags of a trial."""

    output: Annotated[str | None, DASH, Parameter(group=TRYING, alias="-o")] = None
    """Folder for the outputs, created if missing; PROCESSOR-out if not given. No file in it is overwritten."""


_SHARED: dict[str, type] = {"trying": TryFlags, "source": Source, "look": Look}


class TryCommand:
    """The command of one processor. The parser reads `__signature__` as it would that of a function."""

    def __init__(self, processor: Processor) -> None:
        self._processor = processor
        self._flags = flags_of(processor.Params, {"output", "config", "data_dir", "json", "no_color"})
        shared = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=kind(), annotation=kind)
            for name, kind in _SHARED.items()
        ]
        arguments = sorted([*(flag.argument for flag in self._flags), *shared], key=lambda one: one.kind)
        self.__signature__ = inspect.Signature(arguments, return_annotation=int)
        self.__annotations__ = {argument.name: argument.annotation for argument in arguments}
        self.__name__ = processor.name
        self.__doc__ = inspect.getdoc(processor)

    def __call__(self, *positional: Any, **given: Any) -> int:
        """Run the processor on this machine, and keep its outputs."""
        bound = self.__signature__.bind(*positional, **given).arguments
        trying, source, look = (bound.pop(name, kind()) for name, kind in _SHARED.items())
        values = {
            flag.field: flag.read(bound[flag.argument.name])
            for flag in self._flags
            if bound.get(flag.argument.name) is not None
        }
        settings = load_beside_daemon(source).settings
        registry.configure(settings)
        processor = registry.find(self._processor.name)
        inputs = _inputs(processor, values)
        with (
            _folder(trying.output or f"{processor.name}-out") as folder,
            tempfile.TemporaryDirectory(prefix=".vidqueue-try-", dir=folder) as workspace,
        ):
            return _try(processor, values, inputs, Path(workspace).resolve(), folder, settings, Screen(look))


def _try(
    processor: Processor,
    values: dict[str, Any],
    inputs: dict[str, Path],
    workspace: Path,
    folder: Path,
    settings: Settings,
    screen: Screen,
) -> int:
    from vidqueue.ops import logs
    from vidqueue.worker import gpus, trial

    logs.configure("error")
    on_gpu = processor.device_for(registry.parse(processor, values)) == "gpu"
    found = gpus.discover() if on_gpu else []
    if on_gpu and not found:
        screen.say("No GPU was found; the processor runs on the CPU.")
    with _shown(screen) as hear:
        tried = trial.Trial(processor, values, inputs, workspace, found[0] if found else None)
        outcome, outputs = asyncio.run(trial.run(tried, settings, hear))
    _require_success(outcome)
    stem = next(iter(inputs.values())).stem if inputs else processor.name
    kept = [(draft, _keep(draft, folder, stem)) for draft in outputs]
    for draft, path in kept:
        for warning in draft.facts.get("warnings") or ():
            screen.say(f"warning: {warning}")
        if not screen.json:
            screen.write(str(path))
    if screen.json:
        told = [{"name": one.name, "path": str(path), "media_type": one.media_type, "facts": one.facts}
                for one, path in kept]  # fmt: skip
        screen.object({"processor": processor.name, "outputs": told})
    return Exit.OK


def _inputs(processor: Processor, values: dict[str, Any]) -> dict[str, Path]:
    """The local file of each media reference, by its place.

    Raises:
        CommandError: the parameters are invalid, or a file is not there.
    """
    try:
        media = list(processor.media(registry.parse(processor, values)))
    except VidqueueError as error:
        faults = [describe_fault(fault["pointer"], fault["detail"]) for fault in error.errors]
        if error.code == "processor_fault":
            # No address is guarded, because the user of `try` is the processor's author.
            raise CommandError(
                error.message, exit=Exit.ERROR, code=error.code,
                details=traceback_of(error.__cause__).splitlines(),
            ) from None  # fmt: skip
        hint = f"`vidqueue try {processor.name} --help` lists all parameters."
        raise CommandError(
            f"{processor.name} does not accept these parameters.",
            exit=Exit.USAGE, hint=hint, code=error.code, details=faults,
        ) from None  # fmt: skip
    return {one.name: _file(one.reference) for one in media}


def _file(reference: str) -> Path:
    if is_reference(reference):
        raise CommandError(
            f"{reference} is not a file.", exit=Exit.USAGE, hint="`vidqueue try` reads files of this machine only."
        )
    path = Path(reference).expanduser()
    if not path.is_file():
        what = "is not a file" if path.exists() else "does not exist"
        raise CommandError(f"{reference} {what}.", code="input_not_found")
    return path.resolve()


@contextmanager
def _folder(given: str) -> Iterator[Path]:
    """Create a folder for results, which is removed again if the block fails and leaves nothing in it."""
    folder = Path(given)
    made = [one for one in (folder, *folder.parents) if not os.path.lexists(one)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CommandError(f"Cannot create the folder {folder}: {error.strerror}.") from None
    try:
        yield folder
    except BaseException:
        with suppress(OSError):
            for one in made:
                one.rmdir()
        raise


@contextmanager
def _shown(screen: Screen) -> Iterator[Any]:
    """Show lines of the log, and progress: a bar on a terminal, otherwise a line for each stage."""
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Bar(*columns, console=screen.err, disable=not screen.live, transient=True) as bar:
        task = bar.add_task("starts", total=1.0)
        stages: list[str] = []

        def hear(heard: Heard) -> None:
            if isinstance(heard, LogLine):
                screen.say(f"{heard.level:<7}  {heard.text}")
            elif isinstance(heard, Progress):
                words = heard.message or heard.stage
                bar.update(task, completed=heard.fraction, description=visible(words) or "runs")
                if not screen.live and heard.stage not in stages[-1:]:
                    stages.append(heard.stage)
                    screen.say(f"{heard.fraction:4.0%}  {words}".rstrip())

        yield hear


def _require_success(outcome: Outcome) -> None:
    match outcome:
        case Succeeded():
            return
        case Failed(failure):
            hint = failure.hint.replace("the attempt's log", "the log above")
            raise CommandError(
                failure.message, exit=Exit.JOB_FAILED, hint=hint, code=failure.code,
                details=failure.detail.splitlines() if failure.code in _WITH_DETAIL else [],
            )  # fmt: skip
        case Waiting(reason, message):
            raise CommandError(f"A job would wait ({reason}): {message}", exit=Exit.BUSY)
        case Canceled():
            raise CommandError("It was canceled.", exit=Exit.INTERRUPTED)
        case _:
            raise CommandError(f"It was interrupted: {outcome.reason}.")


# The codes of failures that the detail explains: a traceback, or the last output of a process. `processor_error`
# was shown among the lines of the log.
_WITH_DETAIL = frozenset({"executor_crashed", "no_result", "bad_output"})


def _keep(draft: OutputDraft, folder: Path, stem: str) -> Path:
    """Move an output into the folder under a name that no file has yet; return its path."""
    suffix = draft.path.suffix
    name = f"{stem}-{draft.name.removesuffix(suffix)}"
    for number in range(1, 10_000):
        path = folder / f"{name}{f'-{number}' if number > 1 else ''}{suffix}"
        try:
            os.link(draft.path, path)
        except FileExistsError:
            continue
        path.chmod(0o666 & ~_umask())
        return path
    raise CommandError(f"{folder} is full of results of this name.")


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _of_another_name(
    name: Annotated[str, Parameter(name="PROCESSOR")],
    *rest: Annotated[str, Parameter(name="FILE", allow_leading_hyphen=True)],
) -> int:
    """Run a processor in this terminal, without a daemon; each has its own flags.

    Args:
        name: The processor.
        rest: A file, and the flags that `vidqueue try PROCESSOR --help` shows.
    """
    del rest
    for one in registry.unloaded():
        if name in (one.name, one.package):
            message = f"The processor {name} cannot be loaded: {one.error}"
            raise CommandError(message, exit=Exit.ERROR, details=one.traceback.splitlines())
    close = difflib.get_close_matches(name, registry.catalogue(), n=1)
    hint = f"Did you mean {close[0]!r}?" if close else f"Installed: {', '.join(registry.catalogue())}."
    raise CommandError(
        f"There is no processor {name!r}.",
        exit=Exit.USAGE,
        hint=hint,
        code="unknown_processor",
        details=["A processor of your own is found after its package is installed: pip install -e FOLDER"],
    )


def _with_every_processor() -> App:
    found = App(name="try", help="Run a processor in this terminal, without a daemon: vidqueue try PROCESSOR FILE ...")
    found.default(_of_another_name)
    for name, processor in registry.catalogue().items():
        found.command(TryCommand(processor), name=name)
    return found


app = _with_every_processor()
