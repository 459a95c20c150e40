"""The catalogue of processors: our own and those other packages offer through `vidqueue.processors`."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import structlog
from pydantic import ValidationError

from vidqueue.errors import VidqueueError
from vidqueue.processors.base import MediaRef, Parameters, Processor

GROUP = "vidqueue.processors"
FAULTS_TOLD = 50

log = structlog.get_logger(__name__)


@cache
def catalogue() -> dict[str, Processor]:
    """Every installed processor by name, sorted."""
    found = [loaded for point in entry_points(group=GROUP) if (loaded := _load(point)) is not None]
    return {processor.name: processor for processor in sorted(found, key=lambda one: str(one.name))}


def _load(point: EntryPoint) -> Processor | None:
    """One package that cannot be imported must not take the others with it."""
    try:
        processor: Processor = point.load()()
    except Exception as error:
        log.warning("processor_not_loaded", name=point.name, package=point.value, error=repr(error))
        return None
    return processor


def versions() -> dict[str, str]:
    """Version of the package of every installed processor, by the processor's name."""
    packages = {point.value: point.dist.version for point in entry_points(group=GROUP) if point.dist is not None}
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


def parse(processor: Processor, raw: dict[str, Any]) -> Parameters:
    """Check raw parameters against the processor's model.

    Raises:
        VidqueueError: `invalid_params`, with one entry in `errors` per fault.
    """
    try:
        return processor.Params.model_validate(raw)
    except ValidationError as error:
        faults = [
            {"pointer": "/input/" + "/".join(map(str, fault["loc"])), "detail": fault["msg"]}
            for fault in error.errors(include_url=False, include_context=False, include_input=False)[:FAULTS_TOLD]
        ]
        first = f"{faults[0]['pointer']}: {faults[0]['detail']}"
        raise VidqueueError(
            "invalid_params", f"{processor.name} does not accept these parameters. {first}", errors=faults
        ) from None


def media_inputs(params: Parameters) -> Iterator[tuple[str, str, MediaRef]]:
    """Each media reference in the parameters: its field name, its value, its mark."""
    for name, info in type(params).model_fields.items():
        mark = next((mark for mark in info.metadata if isinstance(mark, MediaRef)), None)
        value = getattr(params, name)
        if mark is not None and value is not None:
            yield name, value, mark
