"""`vidqueue processors new NAME`: writes an installable package with a processor and a test that passes."""

from __future__ import annotations

import re
import shlex
import sys
from importlib.resources import files
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from vidqueue.cli.exits import CommandError, Exit
from vidqueue.cli.options import LOOK, Look
from vidqueue.cli.terminal import Screen
from vidqueue.processors import registry

_NAME = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")


def new(
    name: Annotated[str, Parameter(name="NAME")],
    *,
    folder: Annotated[Path | None, Parameter(name="--folder")] = None,
    look: Look = LOOK,
) -> int:
    """Create an installable package with a processor and a test.

    Args:
        name: The name of the processor, such as blur-faces.
        folder: The folder to create; ./NAME if not given.
        look: The format of the output.
    """
    screen = Screen(look)
    if not _NAME.fullmatch(name) or len(name) > 60:
        hint = "Small letters, digits, and single hyphens between them, such as blur-faces."
        raise CommandError(f"{name!r} is not a valid name for a processor.", exit=Exit.USAGE, hint=hint)
    if name in registry.catalogue():
        raise CommandError(f"A processor {name} exists already.", exit=Exit.USAGE, hint="Choose another name.")
    place = folder or Path(name)
    paths = _write(place, name)
    if screen.json:
        screen.object({"name": name, "folder": str(place), "files": [str(path) for path in paths]})
        return Exit.OK
    for path in paths:
        screen.write(str(path))
    pip = f"{shlex.quote(sys.executable)} -m pip install -e {shlex.quote(f'{place}[test]')}"
    screen.say(f"Install it where vidqueue is:  {pip}")
    screen.say(f"Run its tests:                 {shlex.quote(sys.executable)} -m pytest {shlex.quote(str(place))}")
    screen.say(f"Run it on a file:              vidqueue try {name} FILE")
    screen.say("Load it into a daemon:         vidqueue reload")
    return Exit.OK


def _write(place: Path, name: str) -> list[Path]:
    module = f"vidqueue_{name.replace('-', '_')}"
    words = {
        "name": name,
        "module": module,
        "project": f"vidqueue-{name}",
        "kind": "".join(part.capitalize() for part in name.split("-")),
    }
    targets = {
        "pyproject.toml.txt": place / "pyproject.toml",
        "processor.py.txt": place / f"{module}.py",
        "test.py.txt": place / "tests" / f"test_{module}.py",
    }
    try:
        if place.exists() and (not place.is_dir() or any(place.iterdir())):
            raise CommandError(f"{place} already exists.", hint="Use --folder for another place.")
        for template, path in targets.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            text = files("vidqueue.cli").joinpath("template", template).read_text(encoding="utf-8")
            path.write_text(text.format(**words), encoding="utf-8")
    except OSError as error:
        raise CommandError(f"{place} cannot be written: {error.strerror}.") from None
    return list(targets.values())
