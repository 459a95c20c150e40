"""`vidqueue limits`: what owners may have at most."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

from cyclopts import App, Parameter

from vidqueue.cli.client import Client
from vidqueue.cli.exits import Exit
from vidqueue.cli.options import DOOR, LOOK, Door, Look
from vidqueue.cli.terminal import Screen, size_text

app = App(name="limits", help="Show or set how many jobs and bytes each owner may have.")

GIBIBYTE = 1 << 30


@app.command(name="list")
def list_limits(*, door: Door = DOOR, look: Look = LOOK) -> int:
    """List what owners may have at most; `*` is everybody who has no limits of his own."""
    screen = Screen(look)
    with Client(door.url) as client:
        found = client.get("/v1/limits")["limits"]
    if screen.json:
        for one in found:
            screen.object(one)
    else:
        screen.table(("OWNER", "QUEUED", "RUNNING", "PER MINUTE", "STORED"), map(_line, found))
    return Exit.OK


@app.command(name="set")
def set_limits(
    owner: Annotated[str, Parameter(name="OWNER")],
    *,
    queued: int | None = None,
    running: int | None = None,
    per_minute: int | None = None,
    stored_gib: float | None = None,
    door: Door = DOOR,
    look: Look = LOOK,
) -> int:
    """Set what an owner may have at most, in place of what was set before. What is left out is not limited.

    Args:
        owner: The owner, or `*` for everybody who has no limits of his own.
        queued: Jobs that wait; more are refused with exit code 75.
        running: Jobs that run at the same time; others wait.
        per_minute: Jobs submitted within a minute.
        stored_gib: Uploads and outputs, in GiB.
        door: The daemon to talk to.
        look: The format of the output.
    """
    body = {
        "max_queued": queued,
        "max_running": running,
        "max_per_minute": per_minute,
        "max_stored_bytes": None if stored_gib is None else round(stored_gib * GIBIBYTE),
    }
    screen = Screen(look)
    with Client(door.url) as client:
        written = client.call("PUT", f"/v1/limits/{quote(owner, safe='')}", json=body)
    if screen.json:
        screen.object(written)
    return Exit.OK


@app.command
def remove(owner: Annotated[str, Parameter(name="OWNER")], *, door: Door = DOOR) -> int:
    """Delete the limits of an owner; those of `*` hold then, if there are any.

    Args:
        owner: The owner, or `*`.
        door: The daemon to talk to.
    """
    with Client(door.url) as client:
        client.call("DELETE", f"/v1/limits/{quote(owner, safe='')}")
    return Exit.OK


def _line(one: dict[str, Any]) -> tuple[str, ...]:
    counts = (one["max_queued"], one["max_running"], one["max_per_minute"])
    stored = one["max_stored_bytes"]
    shown = ["-" if count is None else str(count) for count in counts]
    return (one["owner"], *shown, "-" if stored is None else size_text(stored))
