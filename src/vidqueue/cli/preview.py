"""`vidqueue preview`: downloads the newest picture that a running job shows of its work."""

from __future__ import annotations

import sys
from typing import Annotated

from cyclopts import Parameter

from vidqueue.cli.client import Client
from vidqueue.cli.completers import jobs_in
from vidqueue.cli.exits import Exit
from vidqueue.cli.options import DASH, DOOR, LOOK, Door, Look
from vidqueue.cli.selection import full_id
from vidqueue.cli.target import Target
from vidqueue.cli.terminal import Screen, writing_stdout


def preview(
    job_id: Annotated[str, Parameter(name="ID", completer=jobs_in("running"))],
    *,
    output: Annotated[str, DASH, Parameter(alias="-o", show_default=False)] = ".",
    force: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    door: Door = DOOR,
    look: Look = LOOK,
) -> int:
    """Download the newest preview of a running job, a JPEG. Only some processors make previews.

    Args:
        job_id: The job.
        output: File or folder to write to, or `-` for standard output. The default is a file in the current folder,
            named after the job.
        force: Replace an existing file.
        door: The daemon to talk to.
        look: The format of the output.
    """
    screen, target = Screen(look), Target(output, force=force)
    target.check()
    with Client(door.url) as client:
        job_id = full_id(client, job_id)
        with client.download(f"/v1/jobs/{job_id}/preview") as response:
            picture = b"".join(response.iter_bytes())
    if target.is_stdout:
        with writing_stdout():
            sys.stdout.buffer.write(picture)
            sys.stdout.buffer.flush()
        return Exit.OK
    path = target.file(f"{job_id[-12:]}-preview.jpg")
    with target.writing(path) as file:
        file.write(picture)
    if screen.json:
        screen.object({"path": str(path), "size": len(picture)})
    else:
        screen.write(str(path))
    return Exit.OK
