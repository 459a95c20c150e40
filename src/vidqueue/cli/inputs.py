"""Inputs on the command line: references are passed on, local files are checked first and then uploaded once each."""

from __future__ import annotations

import copy
import hashlib
import os
import re
import stat
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from vidqueue.cli import growing
from vidqueue.cli.client import Client
from vidqueue.cli.exits import CommandError, Exit
from vidqueue.cli.hanging import require_response
from vidqueue.cli.selection import SHOWN, reference_to_output
from vidqueue.cli.target import Identity, Target, identity_of
from vidqueue.cli.terminal import Screen, size_text
from vidqueue.cli.transfer import upload
from vidqueue.errors import VidqueueError
from vidqueue.media.kinds import check_kind
from vidqueue.processors.base import Processor
from vidqueue.processors.media import Kind, MediaField, media_in, schema_of
from vidqueue.processors.media import Path as Place
from vidqueue.sanitize import is_storable, sanitize_text

STDIN = "-"
# What Ctrl-C means before and while jobs are sent.
NOT_SENT = "Interrupted; no job was submitted."
PERHAPS_SENT = "Interrupted while jobs were submitted; `vidqueue list` shows which were accepted."
# Files of this size and more are read in place if the daemon can read them.
IN_PLACE_FROM = 64 << 20
# Problems of an upload that do not prevent a job: its probe is not finished.
_NOT_YET = frozenset({"probe_pending", "overloaded"})
# What the daemon resolves itself; anything else names a file of this machine.
_REFERENCE = re.compile(r"vq:|data:|[a-z][a-z0-9+.-]*://")


def is_reference(value: str) -> bool:
    """Whether the daemon resolves this input; otherwise it names a local file or standard input."""
    return _REFERENCE.match(value) is not None


def media_of_input(processor: Processor, values: dict[str, Any]) -> list[MediaField]:
    """Return all media references in the input of a job, such as those at `video` or `clips.0.media`."""
    return list(media_in(schema_of(processor.Params), values))


def storable(processor: Processor, values: dict[str, Any]) -> dict[str, Any]:
    """Return the input with UTF-8 in place of names of files that are none; what is sent instead of them is UTF-8."""
    odd = [one for one in media_of_input(processor, values) if not is_storable(one.reference)]
    if odd:
        values = copy.deepcopy(values)
    for one in odd:
        put(values, one.path, sanitize_text(one.reference))
    return values


def put(values: Any, path: Place, reference: str) -> None:
    """Put another reference in its place."""
    for step in path[:-1]:
        values = values[step]
    values[path[-1]] = reference


class Inputs:
    """The inputs of one command. Names of the same file, through links too, share one upload."""

    def __init__(self, *, may_upload: bool | None) -> None:
        """`may_upload` of None leaves large files in place where the daemon can read them there."""
        self._may_upload = may_upload
        self._hinted: set[Path] = set()
        self._uploaded: dict[Identity | str, str] = {}
        self._new: list[str] = []

    def check(self, values: Iterable[str], *, may_skip: bool = False) -> frozenset[Identity]:
        """Refuse files that cannot be uploaded, before anything is sent; the identities of the local files.

        With `may_skip`, only what is not there at all is refused: `reference` raises for a file that cannot be read.

        Raises:
            CommandError: a file is missing, a folder, or not readable; or standard input is named twice.
        """
        local = [value for value in values if not is_reference(value)]
        require_response(local)
        if local.count(STDIN) > 1:
            raise CommandError("Standard input can be read only once.", exit=Exit.USAGE)
        if STDIN in local and sys.stdin.isatty():
            hint = "Pipe a file into this command, or name one."
            raise CommandError("Standard input is a terminal, not a video.", exit=Exit.USAGE, hint=hint)
        if self._may_upload is not False:
            _require_all_readable(value for value in local if not (may_skip and os.path.lexists(value)))
        found = (identity_of(0 if value == STDIN else value) for value in local)
        return frozenset(one for one in found if one is not None)

    def reference(self, client: Client, screen: Screen, value: str, *, kind: Kind = "any") -> str:
        """Return the reference for a request: references stay as they are; local files are uploaded or named by path.

        Raises:
            CommandError: media of the `kind` is wanted, and the daemon's probe could not read the file.
        """
        if value.startswith("vq:jobs/"):
            return reference_to_output(client, value)
        if is_reference(value):
            return value
        if self._may_upload is not False:
            _require_readable(value)  # it may have changed since `check`
        if value != STDIN and (self._may_upload is False or self._lies_well(client, screen, value)):
            return _address(value)
        key = value if value == STDIN else identity_of(value) or value
        if key not in self._uploaded:
            uploaded = _upload_unchanged(client, screen, value, self._new)
            if kind != "any":
                _require_media(client, uploaded, kind, new=self._new)
            self._uploaded[key] = f"vq:files/{uploaded['id']}"
        return self._uploaded[key]

    @contextmanager
    def before_jobs(self, client: Client, screen: Screen) -> Iterator[None]:
        """Remove what was uploaded if Ctrl-C comes in the block, where no job was submitted yet, and say so."""
        try:
            yield
        except KeyboardInterrupt:
            screen.say(f"{NOT_SENT}{self._removed(client)}")
            raise

    def _removed(self, client: Client) -> str:
        kept = list[str]()
        for one in self._new:
            try:
                client.call("DELETE", f"/v1/files/{one}")
            except CommandError as error:
                # A job of another command may use it by now.
                if error.exit is not Exit.NOT_FOUND and error.code != "conflict":
                    kept.append(one)
        return f" Uploaded files were kept; remove them with: vidqueue files delete {' '.join(kept)}" if kept else ""

    def _lies_well(self, client: Client, screen: Screen, value: str) -> bool:
        """True if a file is large and a daemon on this machine can read it where it lies."""
        path = Path(value).resolve()
        facts = path.stat()
        if not is_storable(str(path)):
            return False
        if self._may_upload or not client.is_local or not stat.S_ISREG(facts.st_mode) or facts.st_size < IN_PLACE_FROM:
            return False
        seen = {"path": str(path), "size": facts.st_size, "inode": facts.st_ino, "modified_ns": facts.st_mtime_ns}
        try:
            found = client.call("POST", "/v1/inputs/check", json=seen)
        except CommandError:
            return False  # the upload reports the error
        if found["readable"]:
            screen.say(f"{path.name} is read in place; keep it until its job has ended, or use --upload to copy it.")
            return True
        if found["code"] == "input_forbidden" and path.parent not in self._hinted:
            self._hinted.add(path.parent)
            size = size_text(facts.st_size)
            screen.say(f"{path.name} ({size}) is uploaded. It is read in place if {path.parent} is in inputs.roots.")
        return False


def _address(value: str) -> str:
    """Return the absolute path of a file, as a request names it.

    Raises:
        CommandError: a request cannot hold it.
    """
    path = str(Path(value).expanduser().resolve())
    if not is_storable(path):
        raise CommandError(f"{path} can only be uploaded: the path is not valid UTF-8.", code="input_not_found")
    return path


def _upload_unchanged(client: Client, screen: Screen, value: str, new: list[str]) -> dict[str, Any]:
    """Upload a file, and leave nothing of it if it changes meanwhile.

    Raises:
        CommandError: it is still being written.
    """
    before = growing.state_of(value)
    try:
        uploaded = upload(client, screen, Path(value), new=new)
    except CommandError:
        if growing.state_of(value) == before:
            raise
        uploaded = None
    if uploaded is not None and growing.state_of(value) == before:
        return uploaded
    if uploaded is not None:
        with suppress(CommandError):
            client.call("DELETE", f"/v1/files/{uploaded['id']}")
    why = f"{value} changed while it was sent; it is still being written."
    raise CommandError(why, code="input_changed", hint="Submit it again when it is complete.")


def _require_media(client: Client, uploaded: dict[str, Any], kind: Kind, *, new: list[str]) -> None:
    """Refuse an upload that the daemon's probe could not read, or found to be of another kind.

    Nothing of it is left if it is among `new`; what the daemon had before stays.

    Raises:
        CommandError: with the message of the probe.
    """
    problem = uploaded.get("problem")
    if problem and problem["code"] not in _NOT_YET:
        refused = CommandError(problem["message"], code=problem["code"], hint=problem["hint"])
    else:
        try:
            check_kind(kind, uploaded.get("facts"), b"")
            return
        except VidqueueError as error:
            refused = CommandError(error.message, code=error.code, hint=error.hint)
    if uploaded["id"] in new:
        with suppress(CommandError):
            client.call("DELETE", f"/v1/files/{uploaded['id']}")
    raise refused


def _require_all_readable(values: Iterable[str]) -> None:
    """Check files before anything is sent, and name all that cannot be read at once."""
    faults = list[CommandError]()
    for value in values:
        try:
            _require_readable(value)
        except CommandError as error:
            faults.append(error)
    if len(faults) == 1:
        raise faults[0]
    if faults:
        shown = [fault.message for fault in faults[:SHOWN]]
        more = [f"and {len(faults) - SHOWN} more"] if len(faults) > SHOWN else []
        raise CommandError(f"{len(faults)} files cannot be read.", code=faults[0].code, details=[*shown, *more])


def _require_readable(value: str) -> None:
    if value == STDIN:
        return
    try:
        facts = Path(value).stat()
    except OSError as error:
        raise CommandError(f"{value} cannot be read: {error.strerror}.", code="input_not_found") from None
    except ValueError:  # a NUL character, from a list; the shell gives none
        raise CommandError(f"{value!r} cannot be the name of a file.", code="input_not_found") from None
    if not os.access(value, os.R_OK):
        raise CommandError(f"{value} cannot be read: Permission denied.", code="input_not_found")
    if stat.S_ISDIR(facts.st_mode):
        raise CommandError(f"{value} is a folder.", code="input_not_found")
    if stat.S_ISCHR(facts.st_mode) or stat.S_ISBLK(facts.st_mode):
        # A device may have no end. Pipes are taken: the shell makes one for <(command).
        raise CommandError(f"{value} is a device, not a file.", code="input_not_a_file")


def protecting(client: Client, value: Any, target: Target) -> Target:
    """The target with the inputs that `value`, the input of a job, names: by path, or as uploads.

    An upload has no path, so a file that would be replaced is compared by size and sha256.
    """
    references = list(_strings(value))
    named = (identity_of(one) for one in references if one.startswith("/"))
    protected = {one for one in named if one is not None}
    existing = target.replaces
    if existing is not None and any(_is_upload(client, one, existing) for one in references):
        protected |= {one for one in [identity_of(existing)] if one is not None}
    return replace(target, inputs=target.inputs | protected)


def _is_upload(client: Client, reference: str, existing: Path) -> bool:
    if not reference.startswith("vq:files/"):
        return False
    try:
        uploaded = client.get(f"/v1/{reference.removeprefix('vq:')}")
    except CommandError as error:
        if error.exit is Exit.NOT_FOUND:  # removed since; nothing is left to compare with
            return False
        raise
    return has_content(existing, uploaded["size"], uploaded["sha256"])


def has_content(path: Path, size: int, sha256: str) -> bool:
    """True if there is a regular file of this size and sha256."""
    try:
        facts = path.stat()
        if not stat.S_ISREG(facts.st_mode) or facts.st_size != size:
            return False
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == sha256
    except OSError:
        return False  # writing reports the error


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _strings(one)
