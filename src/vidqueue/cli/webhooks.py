"""`vidqueue webhooks`: webhooks for all jobs, their secret, and their deliveries."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter

from vidqueue.cli.client import Client
from vidqueue.cli.exits import Exit
from vidqueue.cli.options import DOOR, LOOK, Door, Look
from vidqueue.cli.terminal import Screen

app = App(name="webhooks", help="Manage webhooks for all jobs; show and resend deliveries.")

Event = Literal["started", "progress", "output", "completed"]


@app.command
def add(
    receiver: Annotated[str, Parameter(name="RECEIVER")],
    *,
    event: tuple[Event, ...] | None = None,
    door: Door = DOOR,
    look: Look = LOOK,
) -> int:
    """Add a webhook for all jobs.

    Args:
        receiver: An https:// or http:// URL that takes POST requests.
        event: Send only this event; may be given more than once. The default is all.
        door: The daemon to talk to.
        look: The format of the output.
    """
    screen = Screen(look)
    request = {"url": receiver, "events": list(event)} if event else {"url": receiver}
    with Client(door.url) as client:
        added = client.call("POST", "/v1/webhooks", json=request)
    if screen.json:
        screen.object(added)
    else:
        screen.write(added["id"])
    return Exit.OK


@app.command(name="list")
def list_webhooks(*, door: Door = DOOR, look: Look = LOOK) -> int:
    """List the webhooks for all jobs."""
    screen = Screen(look)
    with Client(door.url) as client:
        found = client.get("/v1/webhooks")["webhooks"]
    if screen.json:
        for one in found:
            screen.object(one)
    else:
        lines = [(one["id"], one["url"], ", ".join(one["events"] or ["all"]), _gone(one)) for one in found]
        screen.table(("ID", "URL", "EVENTS", ""), lines, empty="There are no receivers.")
    return Exit.OK


@app.command
def remove(webhook_id: Annotated[str, Parameter(name="ID")], *, door: Door = DOOR) -> int:
    """Remove a webhook with its deliveries.

    Args:
        webhook_id: The webhook, as `webhooks list` shows it.
        door: The daemon to talk to.
    """
    with Client(door.url) as client:
        client.call("DELETE", f"/v1/webhooks/{webhook_id}")
    return Exit.OK


@app.command
def deliveries(
    job_id: Annotated[str | None, Parameter(name="JOB")] = None,
    *,
    state: Literal["pending", "delivered", "dead"] = "dead",
    door: Door = DOOR,
    look: Look = LOOK,
) -> int:
    """List the deliveries of a job, or the newest 500 deliveries in a state.

    Args:
        job_id: The job.
        state: Without a job: only deliveries in this state. `dead` ones will not be retried.
        door: The daemon to talk to.
        look: The format of the output.
    """
    screen = Screen(look)
    with Client(door.url) as client:
        if job_id is not None:
            found = client.get(f"/v1/jobs/{job_id}/deliveries")["deliveries"]
        else:
            found = client.get("/v1/webhooks/deliveries", state=state, limit=500)["deliveries"]
    _show(screen, found)
    return Exit.OK


@app.command
def resend(delivery_id: Annotated[str, Parameter(name="ID")], *, door: Door = DOOR, look: Look = LOOK) -> int:
    """Send a delivery again.

    Args:
        delivery_id: The delivery, as `webhooks deliveries` shows it.
        door: The daemon to talk to.
        look: The format of the output.
    """
    with Client(door.url) as client:
        _show(Screen(look), [client.call("POST", f"/v1/webhooks/deliveries/{delivery_id}/resend")])
    return Exit.OK


@app.command
def secret(
    *, rotate: Annotated[bool, Parameter(negative="", show_default=False)] = False, door: Door = DOOR, look: Look = LOOK
) -> int:
    """Print the secret with which deliveries are signed.

    Args:
        rotate: Create a new one first. Deliveries are signed with both until the next rotation.
        door: The daemon to talk to.
        look: The format of the output.
    """
    screen = Screen(look)
    with Client(door.url) as client:
        found = client.call("POST" if rotate else "GET", "/v1/webhooks/secret")
    if screen.json:
        screen.object(found)
    else:
        screen.write(found["secret"])
    return Exit.OK


def _gone(webhook: dict[str, Any]) -> str:
    return f"disabled {webhook['disabled_at'][:19]}Z" if webhook["disabled_at"] else ""


def _show(screen: Screen, found: Iterable[dict[str, Any]]) -> None:
    if screen.json:
        for one in found:
            screen.object(one)
        return
    lines = [
        (
            one["id"],
            one["kind"],
            one["state"],
            str(one["tries"]),
            str(one["status"] or ""),
            one["url"],
            one["error"] or "",
        )
        for one in found
    ]
    screen.table(("ID", "EVENT", "STATE", "TRIES", "STATUS", "URL", "ERROR"), lines, empty="Nothing was delivered.")
