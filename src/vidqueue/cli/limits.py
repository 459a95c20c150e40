"""`vidqueue limits`: limits of owners and processors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import quote

from cyclopts import App, Parameter

from vidqueue.cli.client import Client
from vidqueue.cli.completers import processors
from vidqueue.cli.exits import CommandError, Exit
from vidqueue.cli.options import DOOR, LOOK, Door, Look
from vidqueue.cli.terminal import Screen, size_text

app = App(name="limits", help="Show, set or remove the limits of owners and processors.")

GIBIBYTE = 1 << 30

Owner = Annotated[str | None, Parameter(name="OWNER")]
Processor = Annotated[str | None, Parameter(name="--processor", completer=processors)]


@app.command(name="list")
def list_limits(*, door: Door = DOOR, look: Look = LOOK) -> int:
    """List the limits of owners and processors; `*` applies to owners without limits of their own."""
    screen = Screen(look)
    with Client(door.url) as client:
        found = client.get("/v1/limits")
    if screen.json:
        for one in [*found["limits"], *found["processors"]]:
            screen.object(one)
        return Exit.OK
    if found["limits"] or not found["processors"]:
        screen.table(
            ("OWNER", "QUEUED", "RUNNING", "PER MINUTE", "STORED", "GPU A DAY", "WEIGHT"),
            map(_line, found["limits"]),
            empty="There are no limits.",
        )
    if found["processors"]:
        screen.table(("PROCESSOR", "QUEUED", "RUNNING", "PER MINUTE", "GPU A DAY"), map(_short, found["processors"]))
    return Exit.OK


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class Most:
    """The limits of an owner, or of all jobs of a processor together."""

    queued: int | None = None
    """Jobs that wait; more are refused with exit code 75."""
    running: int | None = None
    """Jobs that run at the same time; others wait."""
    per_minute: int | None = None
    """Jobs submitted within a minute."""
    stored_gib: float | None = None
    """Uploads and outputs of an owner, in GiB."""
    gpu_hours: float | None = None
    """Hours of GPU lanes within 24 hours; then jobs for a GPU wait."""
    weight: float | None = None
    """Weight of an owner when lanes are shared with other owners; 1 by default."""


NOTHING = Most()


@app.command(name="set")
def set_limits(
    owner: Owner = None,
    /,
    *,
    processor: Processor = None,
    most: Most = NOTHING,
    door: Door = DOOR,
    look: Look = LOOK,
) -> int:
    """Set the limits of an owner or a processor, replacing earlier ones.

    Limits that are not given are removed.

    Args:
        owner: The owner, or `*` for all owners without limits of their own.
        processor: All jobs of this processor together, instead of those of an owner.
        most: The limits.
        door: The daemon to talk to.
        look: The format of the output.
    """
    body: dict[str, float | None] = {
        "max_queued": most.queued,
        "max_running": most.running,
        "max_per_minute": most.per_minute,
        "max_gpu_s_per_day": None if most.gpu_hours is None else round(most.gpu_hours * 3600),
    }
    of_owners = {
        "max_stored_bytes": None if most.stored_gib is None else round(most.stored_gib * GIBIBYTE),
        "weight": most.weight,
    }
    address = _address(owner, processor)
    if owner is not None:
        body |= of_owners
    elif any(value is not None for value in of_owners.values()):
        raise CommandError("--weight and --stored apply to owners, not to processors.", exit=Exit.USAGE)
    screen = Screen(look)
    with Client(door.url) as client:
        written = client.call("PUT", address, json=body)
    if screen.json:
        screen.object(written)
    return Exit.OK


@app.command
def remove(owner: Owner = None, /, *, processor: Processor = None, door: Door = DOOR) -> int:
    """Remove the limits of an owner, to whom those of `*` apply then, or of a processor.

    Args:
        owner: The owner, or `*`.
        processor: The processor, instead of an owner.
        door: The daemon to talk to.
    """
    address = _address(owner, processor)
    with Client(door.url) as client:
        client.call("DELETE", address)
    return Exit.OK


def _address(owner: str | None, processor: str | None) -> str:
    if owner is not None and processor is None:
        return f"/v1/limits/{quote(owner, safe='')}"
    if processor is not None and owner is None:
        return f"/v1/processors/{quote(processor, safe='')}/limits"
    raise CommandError("Name an owner, or a processor with --processor.", exit=Exit.USAGE)


def _line(one: dict[str, Any]) -> tuple[str, ...]:
    *counts, gpu = _short(one)
    stored, weight = one["max_stored_bytes"], one["weight"]
    return (*counts, "-" if stored is None else size_text(stored), gpu, "1" if weight is None else f"{weight:g}")


def _short(one: dict[str, Any]) -> tuple[str, ...]:
    shown = ["-" if one[name] is None else str(one[name]) for name in ("max_queued", "max_running", "max_per_minute")]
    gpu_s = one["max_gpu_s_per_day"]
    return (one.get("owner") or one["processor"], *shown, "-" if gpu_s is None else f"{gpu_s / 3600:g} h")
