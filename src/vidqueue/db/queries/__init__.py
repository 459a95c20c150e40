"""Named SQL, one `.sql` file per table family; a query is introduced by `-- name: word` and may open with comments.

Nothing else lives here. A test PREPAREs every query against the migrated schema.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


@cache
def load(family: str) -> dict[str, str]:
    """All queries of `family`.sql by name."""
    text = files(__name__).joinpath(f"{family}.sql").read_text(encoding="utf-8")
    _, *parts = _NAME.split(text)
    return {name: body.strip() for name, body in zip(parts[::2], parts[1::2], strict=True)}


def families() -> list[str]:
    """Names of the `.sql` files."""
    return sorted(entry.name.removesuffix(".sql") for entry in files(__name__).iterdir() if entry.name.endswith(".sql"))
