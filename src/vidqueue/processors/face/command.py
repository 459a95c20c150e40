"""The command line of `facefusion.py headless-run` for one job, and the check of a job's options. No IO."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from vidqueue.processors.face.flags import Flags

# What vidqueue sets itself: files, the job's own parameters, and the GPU of the lane.
OWN = frozenset({
    "help", "config-path", "jobs-path", "temp-path", "source-paths", "target-path", "output-path",
    "processors", "output-image-quality", "output-video-quality", "output-video-encoder", "trim-frame-start",
    "trim-frame-end", "execution-device-ids", "log-level",
})  # fmt: skip
INSTEAD = {
    "processors": "the parameter processors", "output-video-encoder": "the parameter encoder",
    "output-video-quality": "the parameter quality", "output-image-quality": "the parameter quality",
    "trim-frame-start": "the parameter trim_frame_start", "trim-frame-end": "the parameter trim_frame_end",
}  # fmt: skip

Fault = tuple[str, str]


def name_of(option: str) -> str:
    """Return the flag of an option: `face_swapper_model` is `face-swapper-model`."""
    return option.replace("_", "-")


def malformed(options: Mapping[str, Any]) -> Iterator[Fault]:
    """Return the options that are invalid for every version of FaceFusion, with the reasons."""
    for option, value in options.items():
        name = name_of(option)
        if name.startswith("-"):
            yield option, "write the name of the flag without dashes at the front"
        elif name in OWN:
            yield option, f"is set by vidqueue; use {INSTEAD[name]}" if name in INSTEAD else "is set by vidqueue"
        elif not all(_is_word(one) for one in (value if isinstance(value, list) else [value])):
            yield option, "text, a number, true, false or a list of texts and numbers is needed"


def unknown(options: Mapping[str, Any], flags: Flags) -> Iterator[Fault]:
    """Return the options that the installed version does not have."""
    for option in options:
        if name_of(option) not in flags:
            yield option, f"the installed FaceFusion has no flag --{name_of(option)}"


def not_among_choices(options: Mapping[str, Any], flags: Flags) -> Iterator[Fault]:
    """Return the options whose value the installed version does not accept."""
    for option, value in options.items():
        choices = flags.choices.get(name_of(option), frozenset())
        wrong = [str(one) for one in (value if isinstance(value, list) else [value]) if not _is_among(one, choices)]
        if choices and wrong and not isinstance(value, bool):
            yield option, f"{', '.join(wrong)} is not one of {', '.join(sorted(choices)[:50])}"


def arguments(options: Mapping[str, Any]) -> Iterator[str]:
    """Return the options as arguments of the command line."""
    for option, value in options.items():
        if value is False or value is None:
            continue
        yield f"--{name_of(option)}"
        if value is not True:
            yield from map(str, value if isinstance(value, list) else [value])


def _is_among(value: Any, choices: Collection[str]) -> bool:
    if str(value) in choices:
        return True
    # 1 and 1.0 are one scale.
    return any(_number(value) == _number(choice) is not None for choice in choices)


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _is_word(value: Any) -> bool:
    if value is None or isinstance(value, bool | int | float):
        return True
    # A word that begins with a dash would be taken for a flag.
    return isinstance(value, str) and 0 < len(value) <= 1000 and "\0" not in value and not value.startswith("-")
