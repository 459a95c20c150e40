"""Inputs on the command line: references are passed on, local files are checked first and then uploaded once each."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from vidqueue.cli.client import Client
from vidqueue.cli.exits import CommandError, Exit
from vidqueue.cli.selection import reference_to_output
from vidqueue.cli.target import Identity, Target, identity_of
from vidqueue.cli.terminal import Screen
from vidqueue.cli.transfer import upload

STDIN = "-"
# What the daemon resolves itself; anything else names a file of this machine.
_REFERENCE = re.compile(r"vq:|data:|[a-z][a-z0-9+.-]*://")


def is_reference(value: str) -> bool:
    """Whether the daemon resolves this input; otherwise it names a local file or standard input."""
    return _REFERENCE.match(value) is not None


class Inputs:
    """The inputs of one command. Names of the same file, through links too, share one upload."""

    def __init__(self, *, may_upload: bool) -> None:
        self._may_upload = may_upload
        self._uploaded: dict[Identity | str, str] = {}

    def check(self, values: Iterable[str]) -> frozenset[Identity]:
        """Refuse files that cannot be uploaded, before anything is sent; the identities of the local files.

        Raises:
            CommandError: a file is missing, a folder, or not readable; or standard input is named twice.
        """
        local = [value for value in values if not is_reference(value)]
        if local.count(STDIN) > 1:
            raise CommandError("Standard input can be read only once.", exit=Exit.USAGE)
        if self._may_upload:
            for value in local:
                _require_readable(value)
        found = (identity_of(0 if value == STDIN else value) for value in local)
        return frozenset(one for one in found if one is not None)

    def reference(
        self, client: Client, screen: Screen, value: str, *, refuse: Callable[[dict[str, Any]], None] | None = None
    ) -> str:
        """What the daemon is told: a reference as it is, a local file by its bytes or, if so asked, by its path.

        `refuse` sees what the daemon says of an upload, and may raise.
        """
        if value.startswith("vq:jobs/"):
            return reference_to_output(client, value)
        if is_reference(value):
            return value
        if not self._may_upload and value != STDIN:
            return str(Path(value).expanduser().resolve())
        key = value if value == STDIN else identity_of(value) or value
        if key not in self._uploaded:
            uploaded = upload(client, screen, Path(value))
            if refuse is not None:
                refuse(uploaded)
            self._uploaded[key] = f"vq:files/{uploaded['id']}"
        return self._uploaded[key]


def _require_readable(value: str) -> None:
    if value == STDIN:
        return
    try:
        facts = Path(value).stat()
    except OSError as error:
        raise CommandError(f"{value} cannot be read: {error.strerror}.", code="input_not_found") from None
    if stat.S_ISDIR(facts.st_mode):
        raise CommandError(f"{value} is a folder.", code="input_not_found")
    if not os.access(value, os.R_OK):
        raise CommandError(f"{value} cannot be read: Permission denied.", code="input_not_found")


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
    if uploaded["size"] != existing.stat().st_size:
        return False
    with existing.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return bool(digest == uploaded["sha256"])


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _strings(one)
