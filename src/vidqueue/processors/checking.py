"""Checks a processor before it is offered: what is wrong with one of another package must not trouble the others."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, get_args

from vidqueue.job import Device
from vidqueue.processors.base import Parameters, Processor
from vidqueue.processors.media import schema_of
from vidqueue.settings.schema import Settings

# A cancel takes effect within half a minute (invariant I12), the kill included.
LONGEST_GRACE_S = 20

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_SECTION = re.compile(r"[a-z][a-z0-9_]{0,31}")


def checked(processor: Any, earlier: Mapping[str, Processor]) -> Processor:
    """The processor, if it can be offered beside the earlier ones.

    Raises:
        TypeError, ValueError: with what is wrong; or what pydantic raises for parameters that have no schema.
    """
    if not isinstance(processor, Processor):
        raise TypeError(f"{type(processor).__name__} is no subclass of Processor")
    _check_name(processor, earlier)
    _check_parameters(processor)
    _check_section(processor, earlier)
    if processor.device not in get_args(Device):
        raise ValueError(f"device is {processor.device!r}; {' or '.join(get_args(Device))} is possible")
    if not 0 <= processor.cancel_grace_s <= LONGEST_GRACE_S:
        raise ValueError(f"cancel_grace_s is {processor.cancel_grace_s}; 0 to {LONGEST_GRACE_S} is possible")
    return processor


def _check_name(processor: Processor, earlier: Mapping[str, Processor]) -> None:
    name = getattr(processor, "name", None)
    if not isinstance(name, str):
        raise TypeError(f"{type(processor).__name__} has no name")
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} cannot be the name of a processor; use small letters, digits and hyphens")
    if name in earlier and type(earlier[name]) is not type(processor):
        # The registry loads entry points in the order of their names and modules, so this does not change by itself.
        owner = type(earlier[name]).__module__
        raise ValueError(f"there is a processor {name!r} already, of {owner}, which comes first and is used")


def _check_parameters(processor: Processor) -> None:
    params = getattr(processor, "Params", None)
    if not isinstance(params, type) or not issubclass(params, Parameters):
        raise TypeError(f"{type(processor).__name__}.Params is no subclass of Parameters")
    if not type(processor).__module__.startswith("vidqueue."):  # ours are tested
        schema_of(params)


def _check_section(processor: Processor, earlier: Mapping[str, Processor]) -> None:
    """Refuse a section that would take the place of another one, or that keeps a daemon from starting."""
    name = processor.settings
    if not name:
        return
    core = Settings.model_fields.get(name)
    if core is not None and isinstance(core.annotation, type) and issubclass(processor.Settings, core.annotation):
        # The section of a compatible API, to which the processor of the same name adds its servers.
        core = None if type(processor).__module__.startswith("vidqueue.") else core
    if not _SECTION.fullmatch(name) or core is not None:
        raise ValueError(f"{name!r} cannot be the name of a processor's section of the configuration")
    if any(one.settings == name and one.Settings is not processor.Settings for one in earlier.values()):
        raise ValueError(f"the section {name!r} belongs to another processor, with another model")
