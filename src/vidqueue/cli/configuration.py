"""`vidqueue config`: check the configuration, or show each value and its origin. Passwords are masked."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from vidqueue.cli.exits import CommandError, Exit
from vidqueue.cli.options import LOOK, SOURCE, Look, Source
from vidqueue.cli.settings import load
from vidqueue.cli.terminal import Screen
from vidqueue.errors import VidqueueError

if TYPE_CHECKING:
    from vidqueue.settings.schema import Settings

app = App(name="config", help="Check or show the daemon's configuration.")


@app.command
def check(*, source: Source = SOURCE, look: Look = LOOK) -> int:
    """Check the configuration, with the jobs of its watch folders and schedules, and report every error.

    The exit code is 78 if there is one.
    """
    if faults := _faults_of_jobs(load(source).settings):
        raise CommandError("The configuration is invalid.", exit=Exit.CONFIG, details=faults)
    screen = Screen(look)
    if screen.json:
        screen.object({"ok": True})
    else:
        screen.write("The configuration is valid.")
    return Exit.OK


@app.command
def show(
    *,
    origin: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    source: Source = SOURCE,
    look: Look = LOOK,
) -> int:
    """Show every key with its value.

    Args:
        origin: Show for each key where its value comes from.
        source: The configuration to read.
        look: The format of the output.
    """
    from vidqueue.settings.schema import keys

    loaded, screen = load(source), Screen(look)
    values = loaded.settings.model_dump(mode="json")
    origins = {key: loaded.origins.get(key, "default") for key, _ in keys(type(loaded.settings))}
    if screen.json:
        screen.object({key: {"value": _value(values, key), "origin": origins[key]} if origin else _value(values, key)
                       for key in origins})  # fmt: skip
        return Exit.OK
    for key, place in origins.items():
        value = _value(values, key)
        line = f"{key} = {json.dumps(value, ensure_ascii=False) if value is not None else '(not set)'}"
        screen.write(f"{line}  # {place}" if origin else line)
    return Exit.OK


@app.command
def example() -> int:
    """Print config.example.toml: every key with its default, commented out."""
    Screen(LOOK).lines(_example().read_text(encoding="utf-8"))
    return Exit.OK


def _faults_of_jobs(settings: Settings) -> list[str]:
    """What a daemon would refuse of the jobs that the configuration has."""
    from vidqueue.jobs import schedules, watch_folders
    from vidqueue.processors import registry

    registry.configure(settings)
    checks: list[Callable[[], object]] = [
        *(partial(schedules.from_settings, one) for one in settings.schedules),
        *(partial(watch_folders.check, one) for one in settings.watch_folders),
    ]
    faults = list[str]()
    for checked in checks:
        try:
            checked()
        except VidqueueError as error:
            faults.append(error.message)
    return faults


def _example() -> Traversable:
    carried = files("vidqueue").joinpath("_config.example.toml")
    # In a checkout it stands beside src/; in a wheel it was put inside the package.
    return carried if carried.is_file() else Path(__file__).parents[3] / "config.example.toml"


def _value(values: dict[str, Any], key: str) -> Any:
    section, _, name = key.partition(".")
    return values[section][name] if name else values[section]
