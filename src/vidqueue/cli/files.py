"""`vidqueue files`: lists, shows and deletes uploads, and shows storage usage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

from cyclopts import App, Parameter

from vidqueue.cli.client import Client
from vidqueue.cli.completers import uploads
from vidqueue.cli.exits import CommandError, Exit
from vidqueue.cli.options import DOOR, LOOK, Door, Look
from vidqueue.cli.selection import NEWEST, confirm, full_file_id
from vidqueue.cli.terminal import Screen, age_text, count_text, duration_text, size_text

PAGE = 200
FileId = Annotated[str, Parameter(name="ID", completer=uploads)]

app = App(name="files", help="List, show and delete uploads; show storage usage.")


@app.command(name="list")
def list_files(
    *,
    limit: int = 20,
    every: Annotated[bool, Parameter(name="--all", negative="", show_default=False)] = False,
    door: Door = DOOR,
    look: Look = LOOK,
) -> int:
    """List uploads, newest first. Outputs belong to their jobs and are not listed.

    Args:
        limit: Largest number of files.
        every: List all uploads.
        door: The daemon to talk to.
        look: The format of the output.
    """
    screen = Screen(look)
    with Client(door.url) as client:
        found = _uploads(client, None if every else limit)
        if screen.json:
            for file in found:
                screen.object(file)
        else:
            lines = [(f["name"], size_text(f["size"]), _facts(f), age_text(f["created_at"]), f["id"]) for f in found]
            screen.table(("NAME", "SIZE", "MEDIA", "UPLOADED", "ID"), lines, empty="There are no files.")
    return Exit.OK


@app.command
def show(file_id: FileId, *, door: Door = DOOR, look: Look = LOOK) -> int:
    """Show one file: its name, size, sha256, and media facts.

    Args:
        file_id: The file, by its id or a piece of it.
        door: The daemon to talk to.
        look: The format of the output.
    """
    screen = Screen(look)
    with Client(door.url) as client:
        file = client.get(f"/v1/files/{full_file_id(file_id, _uploads(client, NEWEST))}")
    if screen.json:
        screen.object(file)
        return Exit.OK
    screen.write(f"{file['id']}  {file['name']}")
    screen.write(f"{file['media_type']}, {size_text(file['size'])}, uploaded {age_text(file['created_at'])}")
    screen.write(f"sha256 {file['sha256']}")
    screen.write(_facts(file) or "no readable media, or not probed yet")
    return Exit.OK


@app.command
def delete(
    *ids: FileId,
    unused: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    yes: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    door: Door = DOOR,
    look: Look = LOOK,
) -> int:
    """Delete uploads. One that an unfinished job or a schedule needs is kept.

    Args:
        ids: The files, by their ids or pieces of them.
        unused: All uploads that no unfinished job and no schedule needs.
        yes: Do not ask before deleting many files.
        door: The daemon to talk to.
        look: The format of the output.
    """
    screen = Screen(look)
    if bool(ids) == unused:
        raise CommandError(
            "Give ids of files, or --unused.", exit=Exit.USAGE, hint="`vidqueue files list` shows the ids."
        )
    with Client(door.url) as client:
        wanted = [full_file_id(one, _uploads(client, NEWEST)) for one in ids]
        if unused:
            found = list(_uploads(client, None))
            wanted = [str(file["id"]) for file in found]
            if wanted and not yes:
                total = size_text(sum(file["size"] for file in found))
                confirm(
                    screen,
                    f"Delete those of {count_text(len(wanted), 'upload')} ({total}) that no unfinished job needs?",
                )
        return _delete(client, screen, wanted, keep_quietly=unused)


@app.command
def du(*, door: Door = DOOR, look: Look = LOOK) -> int:
    """Show how many files and bytes are stored, by owner: uploads, and outputs of jobs.

    Args:
        door: The daemon to talk to.
        look: The format of the output.
    """
    screen = Screen(look)
    with Client(door.url) as client:
        stored = client.get("/v1/files/usage")["stored"]
    if screen.json:
        for one in stored:
            screen.object(one)
        return Exit.OK
    lines = [(size_text(one["bytes"]), str(one["files"]), one["kind"], one["owner"]) for one in stored]
    total = size_text(sum(one["bytes"] for one in stored))
    screen.table(
        ("SIZE", "FILES", "KIND", "OWNER"), [*lines, (total, str(sum(one["files"] for one in stored)), "total", "")]
    )
    return Exit.OK


def _delete(client: Client, screen: Screen, ids: Sequence[str], *, keep_quietly: bool) -> int:
    """Delete each file, even after a refusal, and raise the first refusal at the end."""
    refusals: list[CommandError] = []
    for file_id in ids:
        try:
            client.call("DELETE", f"/v1/files/{file_id}")
        except CommandError as refusal:
            if not (keep_quietly and refusal.code in ("conflict", "not_found")):
                refusals.append(refusal)
                if len(ids) != 1:
                    screen.say(f"{file_id}  {refusal.message}")
            continue
        if screen.json:
            screen.object({"id": file_id, "deleted": True})
        else:
            screen.write(f"{file_id}  deleted")
    if refusals:
        raise refusals[0]
    return Exit.OK


def _uploads(client: Client, limit: int | None) -> Iterator[dict[str, Any]]:
    """Uploads, newest first, read page by page; all of them where the limit is None."""
    left = limit
    page = client.get("/v1/files", limit=PAGE if left is None else min(left, PAGE))
    while True:
        shown = page["files"][:left]
        yield from shown
        left = None if left is None else left - len(shown)
        if not page["next"] or left == 0:
            return
        page = client.get(page["next"])


def _facts(file: dict[str, Any]) -> str:
    """Return the facts of a probe as one line."""
    facts = file["facts"] or {}
    video, audio = facts.get("video") or {}, facts.get("audio") or {}
    picture = f"{video['width']}x{video['height']}" if video.get("width") and video.get("height") else ""
    codecs = " ".join(filter(None, (video.get("codec"), audio.get("codec"))))
    return ", ".join(filter(None, (picture, codecs, duration_text(facts.get("duration_s")))))
