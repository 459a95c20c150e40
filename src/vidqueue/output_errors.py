"""Errors about files of outputs, shared by lanes, `vidqueue try` and `vidqueue.testing`. No IO."""

from __future__ import annotations

from pathlib import Path

from vidqueue.errors import VidqueueError


def outside(path: Path) -> VidqueueError:
    """Return the error for an output in another folder."""
    hint = "An output is written to the path that ctx.output() gives it."
    return VidqueueError("bad_output", f"The output {path.name} is not in the workspace.", hint=hint)


def irregular(path: Path) -> VidqueueError:
    """Return the error for an output that is a folder, a symbolic link or a device."""
    hint = "Write the bytes into a file; pack the files of a folder into one, or declare each of them."
    return VidqueueError("bad_output", f"The output {path.name} is not a regular file.", hint=hint)


def unwritten(path: Path) -> VidqueueError:
    """Return the error for an output without a file."""
    hint = "Write the file before `run` ends, or do not return an output that is not made."
    return VidqueueError("bad_output", f"The output {path.name} was not written.", hint=hint)
