"""Command line flags made from the parameter model of a processor."""

from __future__ import annotations

import enum
import json
import types
from collections.abc import Container
from dataclasses import dataclass
from inspect import Parameter as Argument
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from cyclopts import Group, Parameter
from pydantic.fields import FieldInfo

from vidqueue.cli.options import DASH
from vidqueue.processors.base import MediaRef, Parameters

PARAMETERS = Group("Parameters of the processor", sort_key=10)
_SCALARS = (bool, int, float, str)


@dataclass(frozen=True, slots=True)
class Flag:
    """One parameter of a processor on the command line.

    Attributes:
        field: its name in the model.
        argument: the parser's description of it.
        media: whether its value names media.
        as_json: whether its value is written as JSON, for shapes that flags cannot have.
    """

    field: str
    argument: Argument
    media: bool = False
    as_json: bool = False

    def read(self, value: Any) -> Any:
        """The value of the parameter from the value that the parser returned."""
        if self.as_json and isinstance(value, str):
            return json.loads(value)
        return list(value) if isinstance(value, tuple) else value


def flags_of(model: type[Parameters], taken: Container[str]) -> list[Flag]:
    """A flag for each field; the first media field is the positional argument.

    Args:
        model: the parameters of a processor.
        taken: names that mean something else on this command line; such a field becomes `--param-NAME`.
    """
    flags: list[Flag] = []
    for name, info in model.model_fields.items():
        media = any(isinstance(mark, MediaRef) for mark in info.metadata)
        positional = media and not any(flag.media for flag in flags)
        flags.append(_flag(name, info, f"param_{name}" if name in taken else name, media=media, positional=positional))
    return flags


def _flag(field: str, info: FieldInfo, name: str, *, media: bool, positional: bool) -> Flag:
    shape = _flag_type(info.annotation)
    optional = not info.is_required()
    default = info.get_default(call_default_factory=False) if optional else None
    how = Parameter(
        name=f"--{name.replace('_', '-')}",
        help=info.description or "",
        group=PARAMETERS,
        show_default=str(_plain(default)) if default is not None else False,
    )
    argument = Argument(
        name,
        Argument.POSITIONAL_OR_KEYWORD if positional else Argument.KEYWORD_ONLY,
        # Only what was given is sent, so that the daemon's own defaults hold.
        default=None if optional else Argument.empty,
        annotation=Annotated[(shape or str) | None if optional else (shape or str), *([DASH] if media else []), how],
    )
    return Flag(field, argument, media=media, as_json=shape is None)


def _flag_type(annotation: Any) -> Any:
    """The type of the flag for this annotation; None if the value must be written as JSON."""
    if get_origin(annotation) is Annotated:
        return _flag_type(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        options = [option for option in get_args(annotation) if option is not type(None)]
        return _flag_type(options[0]) if len(options) == 1 else None
    if get_origin(annotation) is Literal or annotation in _SCALARS:
        return annotation
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return Literal[tuple(str(member.value) for member in annotation)]
    if get_origin(annotation) is list and (inner := _flag_type(get_args(annotation)[0])) is not None:
        several: Any = tuple
        return several[inner, ...]
    return None


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, enum.Enum) else value
