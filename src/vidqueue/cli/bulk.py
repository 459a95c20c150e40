"""`vidqueue bulk`: bulk actions on all matching jobs, which the daemon runs; they can be undone before they begin."""

from __future__ import annotations

import time
from typing import Annotated, Any

from cyclopts import App, Parameter

from vidqueue.cli.client import Client
from vidqueue.cli.durations import seconds_of
from vidqueue.cli.exits import CommandError, Exit
from vidqueue.cli.options import DOOR, LOOK, Door, Look
from vidqueue.cli.selection import NO_CHOICE, Choice, confirm
from vidqueue.cli.terminal import Screen, age_text

app = App(name="bulk", help="Change all matching jobs in the background; can be undone before it begins.")

Delay = Annotated[str, Parameter(name="--delay")]
LOOKS_EVERY_S = 0.5
OPEN = ("pending", "running")


@app.command
def cancel(*, choice: Choice = NO_CHOICE, delay: Delay = "10s", door: Door = DOOR, look: Look = LOOK) -> int:
    """Cancel all waiting and running jobs that match.

    Args:
        choice: Which jobs.
        delay: Begin after this time; `vidqueue bulk undo` undoes it until then.
        door: The daemon to talk to.
        look: The format of the output.
    """
    return _act({"verb": "cancel"}, choice, delay, door, look)


@app.command
def retry(*, choice: Choice = NO_CHOICE, delay: Delay = "10s", door: Door = DOOR, look: Look = LOOK) -> int:
    """Queue all failed and canceled jobs that match again.

    Args:
        choice: Which jobs.
        delay: Begin after this time; `vidqueue bulk undo` undoes it until then.
        door: The daemon to talk to.
        look: The format of the output.
    """
    return _act({"verb": "retry"}, choice, delay, door, look)


@app.command
def priority(
    level: Annotated[int, Parameter(name="N", allow_leading_hyphen=True)],
    *,
    choice: Choice = NO_CHOICE,
    delay: Delay = "10s",
    door: Door = DOOR,
    look: Look = LOOK,
) -> int:
    """Change the priority of all waiting jobs that match.

    Args:
        level: From -1000 to 1000; higher goes first.
        choice: Which jobs.
        delay: Begin after this time; `vidqueue bulk undo` undoes it until then.
        door: The daemon to talk to.
        look: The format of the output.
    """
    return _act({"verb": "priority", "priority": level}, choice, delay, door, look)


@app.command
def delete(*, choice: Choice = NO_CHOICE, delay: Delay = "10s", door: Door = DOOR, look: Look = LOOK) -> int:
    """Delete all finished jobs that match, with their logs and files.

    Args:
        choice: Which jobs.
        delay: Begin after this time; `vidqueue bulk undo` undoes it until then.
        door: The daemon to talk to.
        look: The format of the output.
    """
    return _act({"verb": "delete"}, choice, delay, door, look)


@app.command(name="list")
def list_actions(*, door: Door = DOOR, look: Look = LOOK) -> int:
    """List the newest bulk actions.

    Args:
        door: The daemon to talk to.
        look: The format of the output.
    """
    screen = Screen(look)
    with Client(door.url) as client:
        found = client.get("/v1/bulk-actions")["bulk_actions"]
    if screen.json:
        for one in found:
            screen.object(one)
        return Exit.OK
    lines = [(one["id"], one["verb"], one["state"], _done(one), age_text(one["created_at"])) for one in found]
    screen.table(("ID", "VERB", "STATE", "CHANGED", "CREATED"), lines, empty="There are no bulk actions.")
    return Exit.OK


@app.command
def undo(action_id: Annotated[str, Parameter(name="ID")], *, door: Door = DOOR, look: Look = LOOK) -> int:
    """Undo a bulk action that has not begun, or stop one that runs.

    Args:
        action_id: The bulk action.
        door: The daemon to talk to.
        look: The format of the output.
    """
    with Client(door.url) as client:
        _tell(Screen(look), client.call("POST", f"/v1/bulk-actions/{action_id}/undo"))
    return Exit.OK


def _act(asked: dict[str, Any], choice: Choice, delay: str, door: Door, look: Look) -> int:
    if not choice.is_given:
        raise CommandError("No jobs were chosen.", exit=Exit.USAGE, hint="Use --all, --state, --tag or --batch.")
    seconds = seconds_of(delay, may_be_zero=True)
    screen = Screen(look)
    chosen = {
        "tag": choice.tag,
        "processor": choice.processor,
        "batch": choice.batch,
        "state": list(choice.state or ()),
    }
    if not choice.yes:
        confirm(screen, f"{asked['verb'].capitalize()} all jobs that match?")
    body = {**asked, "jobs": {name: value for name, value in chosen.items() if value}, "delay_s": seconds}
    with Client(door.url) as client:
        action = client.call("POST", "/v1/bulk-actions", json=body)
        if action["state"] == "pending":
            screen.say(f"It begins {age_text(action['begins_at'])}. Undo it with: vidqueue bulk undo {action['id']}")
        action = _followed(client, screen, action)
    _tell(screen, action)
    return Exit.OK if action["state"] == "done" else Exit.ERROR


def _followed(client: Client, screen: Screen, action: dict[str, Any]) -> dict[str, Any]:
    """Wait until a bulk action has ended."""
    try:
        while action["state"] in OPEN:
            time.sleep(LOOKS_EVERY_S)
            action = client.get(f"/v1/bulk-actions/{action['id']}")
    except KeyboardInterrupt:
        screen.say(f"Detached; the bulk action continues. Stop it with: vidqueue bulk undo {action['id']}")
        raise
    return action


def _tell(screen: Screen, action: dict[str, Any]) -> None:
    if screen.json:
        screen.object(action)
    else:
        error = f": {action['error']}" if action["error"] else ""
        screen.write(f"{action['id']}  {action['verb']}  {action['state']}, {_done(action)} changed{error}")


def _done(action: dict[str, Any]) -> str:
    of = f" of {action['matched']}" if action["matched"] is not None else ""
    return f"{action['changed']}{of}"
