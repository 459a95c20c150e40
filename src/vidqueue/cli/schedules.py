"""`vidqueue schedules`: jobs at the times of a cron expression."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter

from vidqueue.cli.client import Client
from vidqueue.cli.exits import CommandError, Exit
from vidqueue.cli.options import DOOR, LOOK, Door, Look
from vidqueue.cli.terminal import Screen

app = App(name="schedules", help="Submit jobs at the times of a cron expression; show their history.")


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class NewFlags:
    """The job of a schedule, and the rules for its times."""

    processor: str
    """The processor of the job."""
    parameters: Annotated[str, Parameter(name="--input")] = "{}"
    """Its parameters as JSON."""
    title: str | None = None
    """A label of each job for people."""
    tag: tuple[str, ...] | None = None
    """A label of each job to filter by; may be given more than once."""
    priority: Annotated[int | None, Parameter(allow_leading_hyphen=True)] = None
    """From -1000 to 1000; higher goes first."""
    timezone: str = "UTC"
    """Time zone of the cron expression, such as Europe/Berlin."""
    missed: Literal["skip", "once", "all"] = "once"
    """What to do after times at which no daemon ran: skip them, submit one job for all of them, or one for each."""
    one_at_a_time: Annotated[bool, Parameter(negative="", show_default=False)] = False
    """Skip a time while the job of an earlier one has not ended."""

    def request(self) -> dict[str, Any]:
        """Return these flags as a request names them."""
        try:
            job = {"processor": self.processor, "input": json.loads(self.parameters)}
        except json.JSONDecodeError as error:
            raise CommandError(f"--input takes JSON: {error}.", exit=Exit.USAGE) from None
        labels = {"title": self.title, "tags": list(self.tag or ()) or None, "priority": self.priority}
        job |= {key: value for key, value in labels.items() if value is not None}
        return {"timezone": self.timezone, "job": job, "missed": self.missed, "one_at_a_time": self.one_at_a_time}


@app.command
def add(
    name: Annotated[str, Parameter(name="NAME")],
    cron: Annotated[str, Parameter(name="CRON")],
    *,
    flags: NewFlags,
    door: Door = DOOR,
    look: Look = LOOK,
) -> int:
    """Create a schedule.

    Args:
        name: A name of your choice.
        cron: Minute, hour, day, month and weekday in one argument, such as "0 3 * * 1-5"; or @daily and the like.
        flags: The job, and the rules for its times.
        door: The daemon to talk to.
        look: The format of the output.
    """
    body = {"name": name, "cron": cron, **flags.request()}
    with Client(door.url) as client:
        _show(Screen(look), [client.call("POST", "/v1/schedules", json=body)])
    return Exit.OK


@app.command(name="list")
def list_schedules(*, door: Door = DOOR, look: Look = LOOK) -> int:
    """List the schedules."""
    with Client(door.url) as client:
        _show(Screen(look), client.get("/v1/schedules")["schedules"])
    return Exit.OK


@app.command
def pause(name: Annotated[str, Parameter(name="NAME")], *, door: Door = DOOR, look: Look = LOOK) -> int:
    """Pause a schedule: submit nothing until it is resumed."""
    return _change(name, {"paused": True}, door, look)


@app.command
def resume(name: Annotated[str, Parameter(name="NAME")], *, door: Door = DOOR, look: Look = LOOK) -> int:
    """Resume a schedule, from its next time on."""
    return _change(name, {"paused": False}, door, look)


@app.command
def remove(name: Annotated[str, Parameter(name="NAME")], *, door: Door = DOOR) -> int:
    """Delete a schedule with its history; its jobs stay."""
    with Client(door.url) as client:
        client.call("DELETE", f"/v1/schedules/{_find(client, name)}")
    return Exit.OK


@app.command
def runs(name: Annotated[str, Parameter(name="NAME")], *, door: Door = DOOR, look: Look = LOOK) -> int:
    """Show the history of a schedule, newest first."""
    screen = Screen(look)
    with Client(door.url) as client:
        found = client.get(f"/v1/schedules/{_find(client, name)}/runs")["runs"]
    if screen.json:
        for one in found:
            screen.object(one)
    else:
        lines = [
            (one["due_at"][:19] + "Z", one["outcome"], one["job_id"] or "", one["state"] or "", one["error"] or "")
            for one in found
        ]
        screen.table(("DUE", "OUTCOME", "JOB", "STATE", "ERROR"), lines, empty="The schedule has not run yet.")
    return Exit.OK


def _change(name: str, changes: dict[str, Any], door: Door, look: Look) -> int:
    with Client(door.url) as client:
        _show(Screen(look), [client.call("PATCH", f"/v1/schedules/{_find(client, name)}", json=changes)])
    return Exit.OK


def _find(client: Client, name: str) -> str:
    for one in client.get("/v1/schedules")["schedules"]:
        if name in (one["name"], one["id"]):
            return str(one["id"])
    raise CommandError(f"There is no schedule {name!r}.", exit=Exit.NOT_FOUND, code="not_found")


def _show(screen: Screen, found: list[dict[str, Any]]) -> None:
    if screen.json:
        for one in found:
            screen.object(one)
        return
    lines = [
        (one["name"], one["cron"], one["timezone"], one["job"]["processor"], (one["next_at"] or "paused")[:19])
        for one in found
    ]
    screen.table(("NAME", "CRON", "ZONE", "PROCESSOR", "NEXT (UTC)"), lines, empty="There are no schedules.")
