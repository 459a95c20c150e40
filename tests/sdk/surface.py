"""Describes a public module as text: every name, and the signature of everything that can be called."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from types import ModuleType
from typing import Any

# What only vidqueue itself calls.
_OURS = {"Context": {"__init__", "report", "write_log", "published", "limits"}}


def described(module: ModuleType) -> str:
    """One line for each name and each public member of a class, sorted."""
    return "\n".join(line for name in sorted(module.__all__) for line in _lines(name, getattr(module, name))) + "\n"


def _lines(name: str, value: Any) -> Iterator[str]:
    if inspect.isclass(value):
        yield f"class {name}({', '.join(base.__name__ for base in value.__bases__)})"
        for member in sorted(_members(value)):
            yield f"    {name}.{_member(value, member)}"
    elif inspect.isfunction(value):
        yield f"def {name}{inspect.signature(value)}"
    else:
        yield f"{name}: {value.__metadata__[0]}"


def _members(kind: type) -> set[str]:
    ours = [one for one in kind.__mro__ if one.__module__.startswith("vidqueue")]
    names = {name for one in ours for name in [*vars(one), *inspect.get_annotations(one)]}
    public = {name for name in names if not name.startswith("_")} | {"__init__"} & set(vars(kind))
    return public - {"model_config"} - _OURS.get(kind.__name__, set())


def _member(kind: type, name: str) -> str:
    found = inspect.getattr_static(kind, name, None)
    if inspect.isfunction(found):
        return f"{name}{inspect.signature(found)}"
    if isinstance(found, property):
        return f"{name} -> {inspect.signature(found.fget).return_annotation}"  # type: ignore[arg-type]
    told = [inspect.get_annotations(one) for one in kind.__mro__]
    return f"{name}: {next((one[name] for one in told if name in one), '')}"
