"""Checks of the outputs that a processor made: their names, and whether they are files of its workspace."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from pathlib import Path

from vidqueue.errors import VidqueueError
from vidqueue.job import OutputDraft

# As the table `outputs` has it.
OUTPUT_NAME = re.compile(r"[a-z][a-z0-9_.-]{0,63}")


def check_name(name: str, taken: Collection[str]) -> None:
    """Check the name of an output against the rules, and against the names of the others.

    Raises:
        VidqueueError: `bad_output`.
    """
    if not OUTPUT_NAME.fullmatch(name) or name in taken:
        raise VidqueueError("bad_output", f"The output name {name!r} is not allowed, or there twice.")


def check_names(outputs: Sequence[OutputDraft], early: Collection[str] = ()) -> None:
    """Refuse names that cannot be published; `early` are those that were published while the job ran.

    Raises:
        VidqueueError: `bad_output`, also if there is no output.
    """
    if not outputs and not early:
        raise VidqueueError("bad_output", "The processor returned no output.")
    taken = set(early)
    for draft in outputs:
        check_name(draft.name, taken)
        taken.add(draft.name)


def check_files(outputs: Sequence[OutputDraft], workspace: Path) -> None:
    """Refuse what is no file of the workspace. Where bytes are stored this is checked again on the open file.

    Raises:
        VidqueueError: `bad_output`.
    """
    for path in (draft.path for draft in outputs):
        if path.parent.resolve() != workspace.resolve():
            raise VidqueueError("bad_output", f"The output {path.name} is not in the workspace.")
        if path.is_symlink() or not path.is_file():
            what = "is not a regular file" if path.exists() or path.is_symlink() else "was not written"
            raise VidqueueError("bad_output", f"The output {path.name} {what}.")
