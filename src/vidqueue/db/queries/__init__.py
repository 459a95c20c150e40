"""Named SQL, one `.sql` file per table family; a query is introduced by `-- name: word` and may open with comments.

What several queries of a file share is introduced by `-- part: word`, and a line `-- include: word` stands for it.
Nothing else lives here. A test PREPAREs every query against the migrated schema.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

_BEGINNING = re.compile(r"^-- (name|part): (\w+)\n", re.MULTILINE)
_INCLUDE = re.compile(r"^-- include: (\w+)$", re.MULTILINE)


@cache
def load(family: str) -> dict[str, str]:
    """All queries of `family`.sql by name."""
    text = files(__name__).joinpath(f"{family}.sql").read_text(encoding="utf-8")
    _, *found = _BEGINNING.split(text)
    pieces = list(zip(found[::3], found[1::3], map(str.strip, found[2::3]), strict=True))
    parts = {name: body for kind, name, body in pieces if kind == "part"}
    return {name: _whole(body, parts) for kind, name, body in pieces if kind == "name"}


def _whole(body: str, parts: dict[str, str]) -> str:
    """The text with everything included; a part may include others."""
    return _INCLUDE.sub(lambda line: _whole(parts[line[1]], parts), body)


def families() -> list[str]:
    """Names of the `.sql` files."""
    return sorted(entry.name.removesuffix(".sql") for entry in files(__name__).iterdir() if entry.name.endswith(".sql"))
