"""The catalogue of processors: our own and those other packages offer through `vidqueue.processors`."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import structlog
from pydantic import BaseModel, ValidationError

import vidqueue
from vidqueue.errors import VidqueueError, fault_text
from vidqueue.processors import modules
from vidqueue.processors.base import Parameters, Processor
from vidqueue.processors.checking import checked
from vidqueue.processors.media import json_pointer
from vidqueue.processors.tracebacks import traceback_of
from vidqueue.sanitize import Redactor
from vidqueue.settings.schema import Settings
from vidqueue.settings.secrets import secret_values

GROUP = "vidqueue.processors"
# Our own, by name. They are not read from the metadata of the installed package: an editable checkout moves on, and its
# metadata stays as old as the install.
OURS = {
    "transcode": "vidqueue.processors.transcode:Transcode",
    "enhance": "vidqueue.processors.enhance:Enhance",
    "comfyui": "vidqueue.processors.comfyui:Comfyui",
    "extract-audio": "vidqueue.processors.extract_audio:ExtractAudio",
    "sonic": "vidqueue.processors.sonic:Sonic",
    "package": "vidqueue.processors.package:Package",
    "verify": "vidqueue.processors.verify:Verify",
    "thumbnails": "vidqueue.processors.thumbnails:Thumbnails",
    "cog": "vidqueue.processors.cog:Cog",
    "videos": "vidqueue.processors.videos:Videos",
    "replicate": "vidqueue.processors.replicate:Replicate",
    "export": "vidqueue.processors.export:Export",
    "compose": "vidqueue.processors.compose:Compose",
    "generate": "vidqueue.processors.generate:Generate",
    "facefusion": "vidqueue.processors.facefusion:Facefusion",
}
log = structlog.get_logger(__name__)

FAULTS_TOLD = 50
FAULTS_LISTED = 5000
# The most characters of a processor's exception in an error message.
SAID = 500


@dataclass(frozen=True, slots=True)
class Unloaded:
    """An entry point that could not be made a processor, and why."""

    name: str
    package: str
    error: str
    traceback: str


@dataclass(frozen=True, slots=True)
class _Catalogue:
    processors: Mapping[str, Processor] = field(default_factory=dict)
    unloaded: tuple[Unloaded, ...] = ()


class _Current:
    """The catalogue of this process. It is made at the first use, and replaced as a whole."""

    catalogue: _Catalogue | None = None


def catalogue() -> Mapping[str, Processor]:
    """Every installed processor by name, sorted."""
    return _current().processors


def unloaded() -> tuple[Unloaded, ...]:
    """The entry points whose processors could not be loaded."""
    return _current().unloaded


def sections(*, of_package: str = "") -> dict[str, type[BaseModel]]:
    """The section of the configuration that each processor names, with its model; those of one package if given."""
    return _sections(catalogue(), of_package)


def configure(settings: Settings) -> None:
    """Give each processor of this process the values of its section."""
    _Current.catalogue = _configured(_current(), settings)


class ReloadError(Exception):
    """The processors could not be loaded anew, so that the earlier ones stay."""


# Reads the configuration with these sections; True if one may be missing, because a processor could not be loaded.
ReadSettings = Callable[[Mapping[str, type[BaseModel]], bool], Settings]


def reload(read_settings: ReadSettings) -> str:
    """Load the processors of all other packages anew, with the values of their sections, and say what is different.

    It blocks while they are imported. Everything stays as it is if one cannot be loaded that could be loaded before.

    Raises:
        ReloadError: with the name of that processor, or with a fault of the configuration.
    """
    before = _current()
    modules.follow_path_files()
    known = {f"{type(one).__module__}:{type(one).__qualname__}" for one in before.processors.values()}
    packages = {place.partition(":")[0].partition(".")[0] for place in [*known, *(one.value for one in _points())]}
    with modules.imported_anew(packages - {"vidqueue"}):
        found = _load_all()
        if lost := [one for one in found.unloaded if _was_loaded(one, known, before, found)]:
            raise ReloadError(f"{lost[0].name} cannot be loaded any more: {lost[0].error}\n{lost[0].traceback}")
        try:
            settings = read_settings(_sections(found.processors), bool(found.unloaded))
        except ValueError as error:
            raise ReloadError(str(error)) from None
        _Current.catalogue = _configured(found, settings)
    return _difference(before, found)


def _was_loaded(one: Unloaded, known: Collection[str], before: _Catalogue, after: _Catalogue) -> bool:
    """True if an entry point that cannot be loaded offered a processor before; not if another one has its name."""
    return one.package in known or (one.name in before.processors and one.name not in after.processors)


def _difference(before: _Catalogue, after: _Catalogue) -> str:
    """A sentence about what has come and gone."""
    came = sorted({*after.processors} - {*before.processors})
    went = sorted({*before.processors} - {*after.processors})
    parts = [f"{len(after.processors)} processors"]
    parts += [f"new: {', '.join(came)}"] if came else []
    parts += [f"gone: {', '.join(went)}"] if went else []
    parts += [f"not loaded: {one.name} ({one.error})" for one in after.unloaded]
    return "; ".join(parts)


def _sections(processors: Mapping[str, Processor], of_package: str = "") -> dict[str, type[BaseModel]]:
    return {
        one.settings: one.Settings
        for one in processors.values()
        if one.settings and type(one).__module__.startswith(of_package)
    }


def _configured(found: _Catalogue, settings: Settings) -> _Catalogue:
    ready = {name: type(one)(getattr(settings, one.settings, None)) for name, one in found.processors.items()}
    return _Catalogue(ready, found.unloaded)


def _current() -> _Catalogue:
    if _Current.catalogue is None:
        _Current.catalogue = _load_all()
    return _Current.catalogue


def _load_all() -> _Catalogue:
    found, unloaded = dict[str, Processor](), list[Unloaded]()
    for point in _points():
        one = _load(point, found)
        if isinstance(one, Unloaded):
            unloaded.append(one)
        else:
            found[one.name] = one
    return _Catalogue({name: found[name] for name in sorted(found)}, tuple(unloaded))


def _points() -> list[EntryPoint]:
    ours = [EntryPoint(name, value, GROUP) for name, value in OURS.items()]
    others = [point for point in entry_points(group=GROUP) if point.value not in OURS.values()]
    return ours + sorted(others, key=lambda one: (one.name, one.value))


def _load(point: EntryPoint, earlier: Mapping[str, Processor]) -> Processor | Unloaded:
    """One package that cannot be imported must not take the others with it."""
    try:
        # Standard output is for data; what a module prints while it is imported is none.
        with contextlib.redirect_stdout(sys.stderr):
            return checked(point.load()(), earlier)
    except (Exception, SystemExit) as error:
        return Unloaded(point.name, point.value, f"{type(error).__name__}: {error}", traceback_of(error))


def versions() -> dict[str, str]:
    """Version of the package of every installed processor, by the processor's name."""
    packages = {point.value: point.dist.version for point in _points() if point.dist is not None}
    packages |= dict.fromkeys(OURS.values(), vidqueue.__version__)
    return {
        name: packages.get(f"{type(one).__module__}:{type(one).__qualname__}", "") for name, one in catalogue().items()
    }


def find(name: str) -> Processor:
    """The processor of this name.

    Raises:
        VidqueueError: `unknown_processor`.
    """
    try:
        return catalogue()[name]
    except KeyError:
        known = ", ".join(catalogue())
        raise VidqueueError("unknown_processor", f"There is no processor {name!r}. Known: {known}.") from None


def accept(processor: Processor, raw: dict[str, Any]) -> Parameters:
    """Check raw parameters as at submission: by their model, and by the processor's `check`, which may use peers.

    Raises:
        VidqueueError: `invalid_params`, `processor_fault`, or another code with which the job would fail.
    """
    params = parse(processor, raw)
    with blaming(processor):
        processor.check(params)
    return params


@contextlib.contextmanager
def blaming(processor: Processor) -> Iterator[None]:
    """Convert unexpected exceptions of a processor's own code in the block to `processor_fault`.

    A bug in an installed processor package must not look like one of the daemon.
    """
    try:
        yield
    except (VidqueueError, ValidationError):
        raise
    except (Exception, SystemExit) as error:
        if structlog.is_configured():  # not on the command line, which has no log
            log.exception("processor_fault", processor=processor.name)
        said = Redactor(secret_values(processor.config)).text(f"{type(error).__name__}: {error}")
        raise VidqueueError(
            "processor_fault", f"The processor {processor.name} could not check this job: {said[:SAID]}"
        ) from error


def parse(processor: Processor, raw: dict[str, Any]) -> Parameters:
    """Check raw parameters against the processor's model, with the values of its section as context.

    Raises:
        VidqueueError: `invalid_params`, with one entry in `errors` per fault; `processor_fault`.
    """
    try:
        with blaming(processor):
            return processor.Params.model_validate(raw, context=processor.validation_context)
    except ValidationError as error:
        if error.error_count() > FAULTS_LISTED:
            # To list them would take the time of everybody.
            message = f"{processor.name} does not accept these parameters. They have {error.error_count()} faults."
            raise VidqueueError("invalid_params", message) from None
        told = Redactor(secret_values(processor.config))
        faults = [
            {"pointer": "/input" + json_pointer(fault["loc"]), "detail": told.text(fault_text(fault))}
            for fault in error.errors(include_url=False, include_context=False, include_input=False)[:FAULTS_TOLD]
        ]
        first = f"{faults[0]['pointer']}: {faults[0]['detail']}"
        raise VidqueueError(
            "invalid_params", f"{processor.name} does not accept these parameters. {first}", errors=faults
        ) from None
