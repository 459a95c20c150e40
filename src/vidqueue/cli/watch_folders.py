"""`vidqueue watch-folders`: shows the watch folders of a daemon, and the jobs of their files."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from vidqueue.cli.client import Client
from vidqueue.cli.exits import Exit
from vidqueue.cli.options import DOOR, LOOK, Door, Look
from vidqueue.cli.terminal import Screen


def watch_folders(
    name: Annotated[str | None, Parameter(name="NAME")] = None, *, door: Door = DOOR, look: Look = LOOK
) -> int:
    """Show the watch folders of the daemon, or the files of one with their jobs.

    Args:
        name: The folder whose files are shown, newest first.
        door: The daemon to talk to.
        look: The format of the output.
    """
    screen = Screen(look)
    with Client(door.url) as client:
        if name is None:
            found = client.get("/v1/watch-folders")["watch_folders"]
        else:
            found = client.get(f"/v1/watch-folders/{name}/files")["files"]
    if screen.json:
        for one in found:
            screen.object(one)
    elif name is None:
        lines = [(one["name"], one["path"], one["processor"], one["outputs"] or "") for one in found]
        screen.table(("NAME", "FOLDER", "PROCESSOR", "OUTPUTS"), lines, empty="The daemon has no watch folders.")
    else:
        lines = [(one["path"], one["state"] or "", one["job_id"] or "", one["error"] or "") for one in found]
        screen.table(("FILE", "STATE", "JOB", "ERROR"), lines, empty="No file was taken yet.")
    return Exit.OK
