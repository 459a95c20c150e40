"""`vidqueue result`: an output of a job, as a file on this machine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from vidqueue.cli.client import Client, Job
from vidqueue.cli.exits import CommandError, Exit
from vidqueue.cli.options import DASH, DOOR, LOOK, Door, Look
from vidqueue.cli.terminal import Screen, size_text
from vidqueue.cli.transfer import Source, download, fetch

USUAL = "video"


def result(
    job_id: Annotated[str, Parameter(name="ID")],
    *,
    output: Annotated[Path | None, DASH, Parameter(alias="-o")] = None,
    name: str | None = None,
    door: Door = DOOR,
    look: Look = LOOK,
) -> int:
    """Download an output of a job and check its sha256.

    Args:
        job_id: The job.
        output: File or folder to write to, `-` for standard output; without it the output's own name in this folder.
        name: Which output, where the job has several.
        door: Which daemon is asked.
        look: How the answer is written.
    """
    screen = Screen(look)
    with Client(door.url) as client:
        job = client.job(job_id)
        chosen, target = save(client, screen, job, output, name=name)
    if target is None:
        return Exit.OK
    if screen.json:
        screen.object({**chosen, "path": str(target)})
    else:
        screen.write(f"{target}  {size_text(chosen['size'])}  sha256 {chosen['sha256']}")
    return Exit.OK


def save(
    client: Client, screen: Screen, job: Job, output: Path | None, *, name: str | None = None
) -> tuple[dict[str, Any], Path | None]:
    """Download an output of a job; what it is and where it lies now, None where it went to standard output.

    Raises:
        CommandError: there is no such output, or the file cannot be written.
    """
    chosen = choose(job, name)
    source = Source(f"/v1/jobs/{job['id']}/outputs/{chosen['name']}", chosen["size"], chosen["sha256"])
    if str(output) == "-":
        fetch(client, screen, source, sys.stdout.buffer, label=chosen["name"])
        return chosen, None
    target = _target(job, chosen, output)
    download(client, screen, source, target)
    return chosen, target


def choose(job: Job, name: str | None) -> dict[str, Any]:
    """The output that was asked for: the one of that name, the only one, or the usual one.

    Raises:
        CommandError: there is none, with the reason.
    """
    outputs: dict[str, dict[str, Any]] = {output["name"]: output for output in job.get("outputs") or ()}
    if not outputs:
        raise CommandError(
            f"The job is {job['state']} and has no outputs.",
            exit=Exit.BUSY if job["state"] in ("queued", "running") else Exit.NOT_FOUND,
            hint=f"`vidqueue status {job['id']}` tells more.",
        )
    wanted = name or (USUAL if USUAL in outputs or len(outputs) > 1 else next(iter(outputs)))
    if wanted not in outputs:
        raise CommandError(
            f"The job has no output {wanted!r}." if name else "The job has several outputs.",
            exit=Exit.NOT_FOUND if name else Exit.USAGE,
            hint=f"Choose one with --name: {', '.join(outputs)}.",
        )
    return outputs[wanted]


def _target(job: Job, chosen: dict[str, Any], output: Path | None) -> Path:
    if output is not None and not output.is_dir():
        return output
    target = (output or Path()) / file_name(job, chosen)
    if target.exists():
        raise CommandError(f"{target} exists.", hint="Name a file with -o to replace it.")
    return target


def file_name(job: Job, chosen: dict[str, Any]) -> str:
    """A name that tells job and output apart from others: `1f2e3d4c5b6a-video.mp4`."""
    suffix = Path(chosen["filename"]).suffix
    return f"{job['id'][-12:]}-{chosen['name']}{suffix}"
