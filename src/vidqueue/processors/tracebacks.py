"""Tracebacks for authors of processors, without the frames of the import system and of the caller."""

from __future__ import annotations

import importlib
import traceback
from pathlib import Path

import vidqueue

_MACHINERY = ("<frozen importlib", str(Path(importlib.__file__).parent))
_REGISTRY = str(Path(vidqueue.__file__).with_name("processors") / "registry.py")


def traceback_of(error: BaseException | None) -> str:
    """The traceback of an error and of its causes, without frames of importlib and of the registry."""
    if error is None:
        return ""
    told = traceback.TracebackException.from_exception(error)
    one: traceback.TracebackException | None = told
    while one is not None:
        one.stack[:] = [frame for frame in one.stack if not _is_machinery(frame.filename)]
        one = one.__cause__ or one.__context__
    return "".join(told.format())


def _is_machinery(filename: str) -> bool:
    return filename.startswith(_MACHINERY) or filename == _REGISTRY
