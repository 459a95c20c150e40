"""Reads the daemon's configuration for commands that need it, and reports its errors as a CommandError."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vidqueue.cli.exits import CommandError, Exit
from vidqueue.cli.options import Source
from vidqueue.cli.terminal import warn

if TYPE_CHECKING:  # half a second that only these commands spend
    from vidqueue.settings.load import Loaded


def load(source: Source, flags: Mapping[str, Any] | None = None) -> Loaded:
    """Read and check the configuration; flags of None are those that were not given.

    Raises:
        CommandError: with every error.
    """
    from vidqueue.processors import registry
    from vidqueue.settings import load as reading

    given = {"data_dir": source.data_dir, **(flags or {})}
    try:
        loaded = reading.load(
            file=source.config,
            flags=_without_none(given),
            sections=registry.sections(),
            incomplete=bool(registry.unloaded()),
        )
    except reading.ConfigError as error:
        raise CommandError(
            "The configuration is invalid.",
            exit=Exit.CONFIG,
            details=error.problems,
            hint="`vidqueue config example` prints every key with its description.",
        ) from None
    for doubt in loaded.warnings:
        warn(doubt)
    return loaded


def _without_none(given: Mapping[str, Any]) -> dict[str, Any]:
    """Only what was given, without sections that are empty then."""
    kept: dict[str, Any] = {}
    for name, value in given.items():
        inner = _without_none(value) if isinstance(value, dict) else value
        if inner is not None and inner != {}:
            kept[name] = inner
    return kept
