"""Error messages of the configuration: the origin of the value, the error, and a suggestion for unknown keys."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from vidqueue.errors import fault_text


def suggestion(word: str, known: Iterable[str], renamed: Mapping[str, str] | None = None) -> str:
    """Return the end of a message about an unknown word: its new name, or the most similar known word."""
    if renamed and word in renamed:
        return f"; it is now {renamed[word]!r}, with the same value"
    close = nearest(word, known)
    return f"; did you mean {close!r}?" if close else ""


def nearest(word: str, known: Iterable[str]) -> str:
    """Return the known word that is most similar; empty if none is."""
    return next(iter(difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)), "")


def messages(error: ValidationError, model: type[BaseModel], origins: Mapping[str, str]) -> list[str]:
    """Return a message for each error, without the value, which may be a secret."""
    schema = model.model_json_schema()
    return [_message(fault["loc"], fault["type"], fault_text(fault), schema, origins) for fault in error.errors()]


def _message(
    loc: tuple[int | str, ...], kind: str, text: str, schema: dict[str, Any], origins: Mapping[str, str]
) -> str:
    words = [str(word) for word in loc]
    origin = origins.get(".".join(words[:2])) or origins.get(".".join(words[:1]))
    place = ".".join(words) or "settings"
    if kind == "extra_forbidden":
        text = f"unknown key {words[-1]!r}{suggestion(words[-1], _names_at(schema, words[:-1]))}"
    return f"{origin}: {place}: {text}" if origin else f"{place}: {text}"


def _names_at(schema: dict[str, Any], words: list[str]) -> list[str]:
    """The names of the properties of a nested object of a JSON schema."""
    nodes = _resolved(schema, schema)
    for word in words:
        nodes = [inner for node in nodes for inner in _below(node, word, schema)]
    return [name for node in nodes for name in node.get("properties", ())]


def _below(node: dict[str, Any], word: str, schema: dict[str, Any]) -> list[dict[str, Any]]:
    inner = node.get("properties", {}).get(word) or node.get("additionalProperties") or node.get("items")
    # Entries whose names have to fit a pattern.
    inner = inner or next(iter(node.get("patternProperties", {}).values()), None)
    return _resolved(inner, schema) if isinstance(inner, dict) else []


def _resolved(node: dict[str, Any], schema: dict[str, Any]) -> list[dict[str, Any]]:
    """The node with references and alternatives replaced by what they stand for."""
    if "$ref" in node:
        return _resolved(schema["$defs"][node["$ref"].rpartition("/")[2]], schema)
    return [node, *(one for branch in node.get("anyOf", ()) for one in _resolved(branch, schema))]
