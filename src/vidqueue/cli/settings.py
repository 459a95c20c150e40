"""Reads the daemon's configuration for commands that need it, and reports its errors as a CommandError."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidqueue.cli.exits import CommandError, Exit
from vidqueue.cli.options import Source
from vidqueue.cli.terminal import warn
from vidqueue.ops.data_folder import RunningDaemon, daemon_of

if TYPE_CHECKING:  # half a second that only these commands spend
    from pydantic import BaseModel

    from vidqueue.settings.load import Loaded
    from vidqueue.settings.schema import Settings
    from vidqueue.settings.sections import DatabaseSettings

# Where the unit that comes with vidqueue keeps its data.
SERVICE_DATA_DIR = Path("/var/lib/vidqueue")


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


def reread(
    source: Source, flags: Mapping[str, Any], sections: Mapping[str, type[BaseModel]], incomplete: bool
) -> Settings:
    """Read the configuration of a running daemon again, with these sections.

    Raises:
        ValueError: it is invalid now.
    """
    from vidqueue.settings import load as reading

    given = _without_none({"data_dir": source.data_dir, **flags})
    try:
        return reading.load(file=source.config, flags=given, sections=sections, incomplete=incomplete).settings
    except reading.ConfigError as error:
        raise ValueError("; ".join(error.problems)) from None


def load_beside_daemon(source: Source) -> Loaded:
    """Read the configuration, and take what it does not say from the daemon that runs on the data folder.

    A service has its data folder and the address of its database from systemd, which a command beside it does not see.

    Raises:
        CommandError: the configuration is invalid, or the address of the daemon's database is not to be had.
    """
    loaded = load(source)
    settings = loaded.settings
    if "data_dir" not in loaded.origins and not daemon_of(settings.data_dir) and daemon_of(SERVICE_DATA_DIR):
        warn(f"A daemon runs on {SERVICE_DATA_DIR}, so that folder is used. --data-dir names another one.")
        settings = settings.model_copy(update={"data_dir": SERVICE_DATA_DIR})
    daemon = daemon_of(settings.data_dir)
    if daemon is not None and not daemon.embedded and settings.database.url is None:
        settings = settings.model_copy(update={"database": _database_of(daemon, settings.database)})
    return replace(loaded, settings=settings)


def _database_of(daemon: RunningDaemon, given: DatabaseSettings) -> DatabaseSettings:
    from pydantic import SecretStr

    file = _url_file_of(daemon)
    try:
        address = file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise CommandError(
            f"The address of the daemon's database is in {file}: {error.strerror}.",
            exit=Exit.NOT_PERMITTED,
            hint="Run this command as the user of the daemon, or as root.",
        ) from None
    return given.model_copy(update={"url": SecretStr(address), "url_file": file})


def _url_file_of(daemon: RunningDaemon) -> Path:
    if daemon.database_url_file is None:
        raise CommandError(
            f"The daemon (process {daemon.pid}) uses a database that this configuration does not name.",
            exit=Exit.CONFIG,
            hint="Give the same --config, or the same VIDQUEUE_DATABASE__URL.",
        )
    return Path(daemon.database_url_file)


def _without_none(given: Mapping[str, Any]) -> dict[str, Any]:
    """Only what was given, without sections that are empty then."""
    kept: dict[str, Any] = {}
    for name, value in given.items():
        inner = _without_none(value) if isinstance(value, dict) else value
        if inner is not None and inner != {}:
            kept[name] = inner
    return kept
