"""The kind of file that the name of a result asks for: `-o film.mkv` makes a Matroska file."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any, get_args

from vidqueue.cli.target import Target
from vidqueue.processors.base import Processor

# The parameters that say what kind of file is written.
_FIELDS = ("container", "format")
_SAME = {"m4v": "mp4", "qt": "mov", "mka": "mkv", "oga": "opus", "ogg": "opus", "wave": "wav"}


def fit(processor: Processor, values: dict[str, Any], output: str | None) -> str:
    """Set the kind of file from the extension of the output where the parameters do not say it.

    Returns:
        What to warn about where the file will not be what its name says; else an empty text.
    """
    field = next((name for name in _FIELDS if name in processor.Params.model_fields), None)
    if output is None or field is None or Target(output).is_stdout or Target(output).is_folder:
        return ""
    extension = PurePath(output).suffix.lower().removeprefix(".")
    wanted = _SAME.get(extension, extension)
    known = _choices(processor.Params.model_fields[field].annotation)
    if not extension or not known:
        return ""
    if values.get(field) is None and wanted in known:
        values[field] = wanted
    written = values.get(field) or processor.Params.model_fields[field].default
    if written in (wanted, None):
        return ""
    return f"{PurePath(output).name} will hold {written}, whatever its name says; --{field} takes {', '.join(known)}."


def _choices(annotation: Any) -> list[str]:
    """The texts of a Literal, also of one that is optional."""
    return [text for one in get_args(annotation) for text in ([one] if isinstance(one, str) else _choices(one))]
