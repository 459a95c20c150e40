"""Checks of the outputs that a processor made: their names, and whether they are files of its workspace."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from pathlib import Path

from vidqueue.errors import VidqueueError
from vidqueue.job import OutputDraft
from vidqueue.output_errors import irregular, outside, unwritten

# As the table `outputs` has it.
OUTPUT_NAME = re.compile(r"[a-z][a-z0-9_.-]{0,63}")


def check_name(name: str, taken: Collection[str]) -> None:
    """Check the name of an output against the rules, and against the names of the others.

    Raises:
        VidqueueError: `bad_output`.
    """
    if not isinstance(name, str) or not OUTPUT_NAME.fullmatch(name):
        hint = "A name begins with a letter a-z and has at most 64 characters: a-z, 0-9, `_`, `.` and `-`."
        raise VidqueueError("bad_output", f"The output name {name!r} is not allowed.", hint=hint)
    if name in taken:
        hint = "Each output of a job has a name of its own; one that was published is not returned again."
        raise VidqueueError("bad_output", f"Two outputs have the name {name!r}.", hint=hint)


def check_returned(drafts: object) -> None:
    """Refuse what is not a list of outputs, and say which item is not one.

    Raises:
        VidqueueError: `bad_output`.
    """
    hint = "Return None, an output that ctx.output() made, or a list of them."
    if not isinstance(drafts, list | tuple):
        said = f"The processor returned {type(drafts).__name__}, not a list of outputs."
        raise VidqueueError("bad_output", said, hint=hint)
    for number, draft in enumerate(drafts, 1):
        if not isinstance(draft, OutputDraft):
            said = f"Item {number} of the returned list is {type(draft).__name__}, not an output made by ctx.output()."
            raise VidqueueError("bad_output", said, hint=hint)


def check_names(outputs: Sequence[OutputDraft], early: Collection[str] = ()) -> None:
    """Refuse names that cannot be published; `early` are those that were published while the job ran.

    Raises:
        VidqueueError: `bad_output`, also if there is no output.
    """
    if not outputs and not early:
        hint = "Declare it with ctx.output(), and write a file to its path."
        raise VidqueueError("bad_output", "The processor returned no output.", hint=hint)
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
            raise outside(path)
        if path.is_symlink() or not path.is_file():
            raise irregular(path) if path.exists() or path.is_symlink() else unwritten(path)
