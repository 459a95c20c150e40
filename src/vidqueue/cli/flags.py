"""Command line flags made from the parameter model of a processor."""

from __future__ import annotations

import enum
import json
import types
from collections.abc import Container, Sequence
from dataclasses import dataclass
from inspect import Parameter as Argument
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from cyclopts import Group, Parameter
from pydantic.fields import FieldInfo

from vidqueue.cli import shapes
from vidqueue.cli.exits import CommandError, Exit
from vidqueue.cli.options import DASH
from vidqueue.processors.base import MediaRef, Parameters
from vidqueue.processors.media import WHERE, Kind

PARAMETERS = Group("Parameters of the processor", sort_key=10)
_SCALARS = (bool, int, float, str)
# The names of bounds in pydantic's metadata, and their signs.
_BOUNDS = ("ge", "le", "gt", "lt")


@dataclass(frozen=True, slots=True)
class Flag:
    """One parameter of a processor on the command line.

    Attributes:
        field: its name in the model.
        argument: the parser's description of it.
        kind: the kind of media that its value names, such as video or any; None if it names none.
        as_json: whether its value is written as JSON, for shapes that flags cannot have.
        kinds: what such a value may be in JSON, such as object; a text may be written without quotation marks.
    """

    field: str
    argument: Argument
    kind: Kind | None = None
    as_json: bool = False
    kinds: frozenset[str] = frozenset()

    @property
    def media(self) -> bool:
        """True if its value names media."""
        return self.kind is not None

    def read(self, value: Any) -> Any:
        """The value of the parameter from the value that the parser returned.

        Raises:
            CommandError: it takes JSON, and the value is not JSON.
        """
        if self.as_json and isinstance(value, str):
            return self._parsed(value)
        return list(value) if isinstance(value, tuple) else value

    def _parsed(self, value: str) -> Any:
        try:
            parsed = json.loads(value)
        except json.JSONDecodeError as error:
            if "string" in self.kinds:
                return value
            said = f"--{self.argument.name.replace('_', '-')} takes JSON: {error}."
            raise CommandError(said, exit=Exit.USAGE, hint=shapes.example_of(self.kinds)) from None
        return value if "string" in self.kinds and shapes.kind_of(parsed) not in self.kinds else parsed


def flags_of(model: type[Parameters], taken: Container[str]) -> list[Flag]:
    """A flag for each field; the first media field is the positional argument, a required one before others.

    Args:
        model: the parameters of a processor.
        taken: names that mean something else on this command line; such a field becomes `--param-NAME`.
    """
    kinds = {name: _media_kind(info) for name, info in model.model_fields.items()}
    media = sorted((name for name, kind in kinds.items() if kind), key=lambda name: not _required(model, name))
    return [
        _flag(
            name, info, f"param_{name}" if name in taken else name, kind=kinds[name], positional=name in media[:1]
        )
        for name, info in model.model_fields.items()
    ]  # fmt: skip


def _required(model: type[Parameters], name: str) -> bool:
    return model.model_fields[name].is_required()


def source_of(flags: Sequence[Flag]) -> Flag | None:
    """The flag that the files on the command line are for."""
    return next((flag for flag in flags if flag.argument.kind is Argument.POSITIONAL_OR_KEYWORD), None)


def _inner(info: FieldInfo) -> FieldInfo:
    """The field itself; of an optional one, such as `VideoInput | None`, what its type says, where the marks are."""
    optional = get_origin(info.annotation) in (Union, types.UnionType)
    inside = [one for one in get_args(info.annotation) if get_origin(one) is Annotated] if optional else []
    return FieldInfo.from_annotation(inside[0]) if len(inside) == 1 else info


def _media_kind(info: FieldInfo) -> Kind | None:
    return next((one.kind for one in [*info.metadata, *_inner(info).metadata] if isinstance(one, MediaRef)), None)


def _flag(field: str, info: FieldInfo, name: str, *, kind: Kind | None, positional: bool) -> Flag:
    shape = _flag_type(info.annotation)
    kinds = shapes.kinds_of(info.annotation) if shape is None else frozenset[str]()
    optional = not info.is_required()
    how = Parameter(
        name=f"--{name.replace('_', '-')}",
        help=_help(info, kind, kinds),
        group=PARAMETERS,
        show_default=shapes.default_text(info) or False,
    )
    argument = Argument(
        name,
        Argument.POSITIONAL_OR_KEYWORD if positional else Argument.KEYWORD_ONLY,
        # Only what was given is sent, so that the daemon's own defaults hold.
        default=None if optional else Argument.empty,
        annotation=Annotated[(shape or str) | None if optional else (shape or str), *([DASH] if kind else []), how],
    )
    return Flag(field, argument, kind=kind, as_json=shape is None, kinds=kinds)


def _flag_type(annotation: Any) -> Any:
    """The type of the flag for this annotation; None if the value must be written as JSON."""
    if get_origin(annotation) is Annotated:
        return _flag_type(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        options = [option for option in get_args(annotation) if option is not type(None)]
        return joined_choices([_flag_type(option) for option in options])
    if get_origin(annotation) is Literal or annotation in _SCALARS:
        return annotation
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return Literal[tuple(str(member.value) for member in annotation)]
    if get_origin(annotation) is list and (inner := _flag_type(get_args(annotation)[0])) is not None:
        several: Any = tuple
        return several[inner, ...]
    # A date, a path and so on are texts in JSON, and written as such.
    return str if shapes.kinds_of(annotation) == {"string"} else None


def joined_choices(options: Sequence[Any]) -> Any:
    """The type of a union: the only option, or one Literal of the choices of all; None if it has other options."""
    if len(options) == 1:
        return options[0]
    if options and all(get_origin(option) is Literal for option in options):
        return Literal[tuple(choice for option in options for choice in get_args(option))]
    return None


def _help(info: FieldInfo, kind: Kind | None, kinds: frozenset[str]) -> str:
    """Return the help of a flag, with its bounds. The default description of media is written for requests."""
    description = info.description or _inner(info).description or ""
    if kind is not None and description.endswith(WHERE):
        said = description.removesuffix(f": {WHERE}")
        return f"{said}: a file, or a reference or URL where a daemon runs it."
    found = {name: getattr(mark, name) for mark in info.metadata for name in _BOUNDS if hasattr(mark, name)}
    bounds = bounds_text(*map(found.get, _BOUNDS))
    as_json = "" if "JSON" in description else shapes.json_text(kinds)
    return " ".join(filter(None, (description, bounds and f"({bounds})", as_json)))


def bounds_text(low: Any, high: Any, above: Any, below: Any) -> str:
    """The bounds of a number, such as `0..1`, `> 0` or `> 0, <= 1`; the last two are not allowed themselves."""
    if above is None and below is None:
        return "" if (low, high) == (None, None) else f"{_number(low)}..{_number(high)}"
    words = ((">", above), (">=", low), ("<", below), ("<=", high))
    return ", ".join(f"{sign} {_number(bound)}" for sign, bound in words if bound is not None)


def _number(bound: Any) -> str:
    return "" if bound is None else f"{bound:g}" if isinstance(bound, int | float) else str(bound)
