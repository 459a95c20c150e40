"""`vidqueue processors`: lists the daemon's processors, and shows the parameters of one."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from cyclopts import App, Parameter

from vidqueue.cli import completers, shapes
from vidqueue.cli.client import Client
from vidqueue.cli.exits import CommandError, Exit
from vidqueue.cli.flags import bounds_text
from vidqueue.cli.options import DOOR, LOOK, Door, Look
from vidqueue.cli.terminal import Screen, warn

# How many alternatives and lists inside of each other are told.
DEEPEST = 4

processors_app = App(name="processors", help="List the processors, show the parameters of one, or begin one.")
processors_app.command("vidqueue.cli.scaffold:new", name="new", help="Write a package with a new processor and a test.")


@processors_app.default
def processors(
    name: Annotated[str | None, Parameter(name="NAME", completer=completers.processors)] = None,
    *,
    door: Door = DOOR,
    look: Look = LOOK,
) -> int:
    """List the processors of the daemon, or show the parameters of one.

    Args:
        name: The processor to show.
        door: The daemon to talk to.
        look: The format of the output.
    """
    screen = Screen(look)
    with Client(door.url) as client:
        listed = client.get("/v1/processors")
        found = listed["processors"]
        one = _choose(name, found) if name else None
        if one is not None:
            one = client.get(f"/v1/processors/{one['name']}")
    if screen.json:
        for processor in [one] if one else found:
            screen.object(processor)
    elif one:
        screen.write(f"{one['name']}: {_about(one)}")
        screen.table(("PARAMETER", "TYPE", "DEFAULT", "MEANING"), _parameters(one["input_schema"]))
    else:
        screen.table(("NAME", "LANE", ""), [(one["name"], one["device"], _about(one)) for one in found])
        for faulty in listed["not_loaded"]:
            warn(f"{faulty['name']} of {faulty['package']} cannot be loaded: {faulty['error']}")
    return Exit.OK


def _about(processor: dict[str, Any]) -> str:
    reason = processor.get("reason")
    if reason:
        return f"{processor['description']} (unavailable: {reason})"
    peers = ", ".join(map(_peer, processor.get("peers", ())))
    return f"{processor['description']} ({peers})" if peers else str(processor["description"])


def _peer(peer: dict[str, Any]) -> str:
    problem = f": {peer['problem']}" if peer["problem"] else ""
    return f"{peer['name']} is {peer['kind']}{problem}"


def _choose(name: str, found: list[dict[str, Any]]) -> dict[str, Any]:
    by_name = {processor["name"]: processor for processor in found}
    if name in by_name:
        return by_name[name]
    close = difflib.get_close_matches(name, by_name, n=1)
    hint = f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(by_name)}."
    raise CommandError(f"There is no processor {name!r}.", exit=Exit.NOT_FOUND, hint=hint, code="unknown_processor")


def _parameters(schema: dict[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    required = schema.get("required", [])
    for name, field in schema.get("properties", {}).items():
        default = "required" if name in required else shapes.value_text(field.get("default"))
        yield name, type_text(field, schema), default, field.get("description", "")


def type_text(field: Mapping[str, Any], root: Mapping[str, Any], depth: int = 0) -> str:
    """The type that a JSON schema gives a field, in a few words; `root` is the schema with the definitions."""
    field = shapes.resolved(field, root)
    options = [option for option in shapes.options_of(field) if option.get("type") != "null"]
    if options and depth < DEEPEST:
        return " | ".join(dict.fromkeys(type_text(option, root, depth + 1) for option in options))
    if "enum" in field:
        return " | ".join(map(str, field["enum"]))
    if "const" in field:
        return str(field["const"])
    if field.get("type") == "array" and field.get("items") and depth < DEEPEST:
        inner = type_text(field["items"], root, depth + 1)
        return f"array of ({inner})" if " | " in inner else f"array of {inner}"
    bounds = bounds_text(*map(field.get, ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")))
    return f"{field.get('type', 'any')} {bounds}".rstrip()
