"""Secrets in a section of the configuration: find them, and reveal them for the process that has to use them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, SecretBytes, SecretStr, TypeAdapter

_ANYTHING: TypeAdapter[Any] = TypeAdapter(Any)


def secret_values(value: Any) -> Iterator[str]:
    """Every secret in a model, at any depth, in clear text."""
    match value:
        case SecretStr():
            yield value.get_secret_value()
            yield from _password_in(value.get_secret_value())
        case SecretBytes():
            yield value.get_secret_value().decode(errors="replace")
        case BaseModel():
            yield from secret_values({name: getattr(value, name) for name in type(value).model_fields})
        case Mapping():
            for inner in value.values():
                yield from secret_values(inner)
        case list() | tuple() | set() | frozenset():
            for inner in value:
                yield from secret_values(inner)


def _password_in(url: str) -> Iterator[str]:
    """The password of a URL, as it stands there and as it is sent: messages may have it without the rest."""
    with suppress(ValueError):
        if password := urlsplit(url).password:
            yield password
            yield unquote(password)


def revealed(section: BaseModel) -> dict[str, Any]:
    """The section as JSON values with its secrets in clear text, for the executor and for nobody else."""
    values: dict[str, Any] = _ANYTHING.dump_python(_without_covers(section.model_dump(mode="python")), mode="json")
    return values


def _without_covers(value: Any) -> Any:
    match value:
        case SecretStr() | SecretBytes():
            return value.get_secret_value()
        case Mapping():
            return {key: _without_covers(inner) for key, inner in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_without_covers(inner) for inner in value]
    return value
