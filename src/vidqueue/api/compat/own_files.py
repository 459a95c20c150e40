"""Replaces URLs of this daemon's files by media references; clients of other systems send such URLs as inputs."""

from __future__ import annotations

import re
from typing import Any

_OWN_FILE = re.compile(r"/v1/files/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(?:/content)?")


def with_references(value: Any, own: str) -> Any:
    """The value with a reference in place of each address of a file of ours; `own` is the daemon's host and port."""
    if isinstance(value, str):
        scheme, _, rest = value.partition("://")
        host, slash, path = rest.partition("/")
        named = _OWN_FILE.fullmatch(slash + path) if scheme in ("http", "https") and host == own else None
        return f"vq:files/{named[1]}" if named else value
    if isinstance(value, dict):
        return {key: with_references(inner, own) for key, inner in value.items()}
    return [with_references(inner, own) for inner in value] if isinstance(value, list) else value
