"""Reads the configuration from flags, environment and file, and reports every error at once.

Order of precedence: flags, environment (`VIDQUEUE_SECTION__KEY`), the file given by --config or $VIDQUEUE_CONFIG,
else ./vidqueue.toml, else /etc/vidqueue/vidqueue.toml, then systemd credentials, then defaults.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import SecretStr, ValidationError
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource

from vidqueue.ops import failpoints
from vidqueue.settings.file import ConfigFile, read, usual
from vidqueue.settings.schema import PREFIX, Settings, keys, variable_of

# Read by other parts: the CLI as a client, the choice of file, and the tests.
FOREIGN_VARIABLES = frozenset({"VIDQUEUE_URL", "VIDQUEUE_API_KEY", "VIDQUEUE_CONFIG", failpoints.VARIABLE})
FOREIGN_PREFIXES = ("VIDQUEUE_TEST_",)

# Keys of earlier versions. They are errors; the message says what to write instead.
RENAMED = {
    "database.ballast_mb": "database.disk_reserve_mib",
    "inputs.max_upload_mb": "inputs.max_upload_mib",
    "limits.max_output_mb": "limits.max_output_mib",
    "limits.memory_mb": "limits.memory_mib",
    "disk.low_water_mb": "disk.low_water_mib",
    "retention.max_files_gb": "retention.max_files_gib",
}


class ConfigError(Exception):
    """The configuration is invalid. `problems` has one message for each error, with its place."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings and where they came from.

    Attributes:
        origins: maps `section.key` to `flag`, a variable, or a file.
        warnings: why a file that was named should not be trusted.
    """

    settings: Settings
    origins: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def load(*, file: Path | None = None, flags: dict[str, Any] | None = None) -> Loaded:
    """Read and check the configuration.

    Args:
        file: the TOML file to use instead of the usual places.
        flags: values from the command line, nested like the file.

    Raises:
        ConfigError: with a message for every error.
    """
    flags = flags or {}
    found = _read(file)
    path, contents = (found.path, _parse(found)) if found else (None, {})
    problems = [*_unknown_keys(contents, path), *_unknown_variables(), *_unknown_failpoints()]
    contents = _with_credentials(contents)
    try:
        settings = _with_url_file(_reading(_known_only(contents))(**flags))
    except ValidationError as error:
        problems += [f"{'.'.join(map(str, fault['loc'])) or 'settings'}: {fault['msg']}" for fault in error.errors()]
        raise ConfigError(problems) from None
    except OSError as error:
        raise ConfigError([*problems, f"database.url_file: {error}"]) from None
    if problems:
        raise ConfigError(problems)
    return Loaded(settings, _origins(flags, contents, path), found.doubts if found else ())


def _reading(contents: dict[str, Any]) -> type[Settings]:
    """A settings class that takes values from a file if neither a flag nor the environment gives them."""

    class FromFile(Settings):
        @classmethod
        def settings_customise_sources(
            cls, settings_cls: type[BaseSettings], *sources: Any, **named: PydanticBaseSettingsSource
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            file = InitSettingsSource(settings_cls, init_kwargs=contents)
            return (named["init_settings"], named["env_settings"], file)

    return FromFile


def _read(file: Path | None) -> ConfigFile | None:
    """The configuration file. One that was found and not named is refused if another user could have written it."""
    given = file or (Path(variable) if (variable := os.environ.get("VIDQUEUE_CONFIG")) else None)
    path = given or usual()
    if path is None:
        return None
    try:
        found = read(path)
    except FileNotFoundError:
        raise ConfigError([f"{path}: no such file"]) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"{path}: {error}"]) from None
    if found.doubts and given is None:
        advice = f"{path} was not read. Correct owner and mode, or name it with --config if you trust it."
        raise ConfigError([*found.doubts, advice])
    return found


def _parse(file: ConfigFile) -> dict[str, Any]:
    try:
        return tomllib.loads(file.text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([f"{file.path}: {error}"]) from None


def _flatten(contents: Mapping[str, Any]) -> Iterator[str]:
    for name, value in contents.items():
        if isinstance(value, dict):
            yield from (f"{name}.{key}" for key in value)
        else:
            yield name


def _suggest(word: str, known: list[str], renamed: Mapping[str, str]) -> str:
    if word in renamed:
        return f"; it is now {renamed[word]!r}, with the same value"
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


def _unknown_keys(contents: Mapping[str, Any], path: Path | None) -> list[str]:
    known = [key for key, _ in keys()]
    return [
        f"{path}: unknown key {key!r}{_suggest(key, known, RENAMED)}" for key in _flatten(contents) if key not in known
    ]


def _unknown_variables() -> list[str]:
    known = [variable_of(key) for key, _ in keys()]
    renamed = {variable_of(old): variable_of(new) for old, new in RENAMED.items()}
    given = (name for name in os.environ if name.startswith(PREFIX) and name not in FOREIGN_VARIABLES)
    return [
        f"environment: unknown variable {name!r}{_suggest(name, known, renamed)}"
        for name in given
        if name not in known and not name.startswith(FOREIGN_PREFIXES)
    ]


def _unknown_failpoints() -> list[str]:
    try:
        failpoints.parse(os.environ.get(failpoints.VARIABLE, ""))
    except ValueError as error:
        return [f"environment: {error}"]
    return []


def _known_only(contents: Mapping[str, Any]) -> dict[str, Any]:
    """The contents without unknown keys, which _unknown_keys reports, so that each error is reported once."""
    known = {key for key, _ in keys()}
    kept: dict[str, Any] = {}
    for name, value in contents.items():
        if isinstance(value, dict):
            kept[name] = {key: inner for key, inner in value.items() if f"{name}.{key}" in known}
        elif name in known:
            kept[name] = value
    return {name: value for name, value in kept.items() if name in Settings.model_fields}


def _with_credentials(contents: dict[str, Any]) -> dict[str, Any]:
    """Take the database address from systemd's LoadCredential= unless the file names one."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    database = contents.get("database", {})
    if not folder or "url" in database or "url_file" in database or "VIDQUEUE_DATABASE__URL" in os.environ:
        return contents
    credential = Path(folder) / "database_url"
    if not credential.is_file():
        return contents
    return {**contents, "database": {**database, "url_file": str(credential)}}


def _with_url_file(settings: Settings) -> Settings:
    if settings.database.url_file is None:
        return settings
    url = SecretStr(settings.database.url_file.read_text(encoding="utf-8").strip())
    return settings.model_copy(update={"database": settings.database.model_copy(update={"url": url})})


def _origins(flags: Mapping[str, Any], contents: Mapping[str, Any], path: Path | None) -> dict[str, str]:
    origins = dict.fromkeys(_flatten(contents), str(path) if path else "credential")
    origins |= {key: variable_of(key) for key, _ in keys() if variable_of(key) in os.environ}
    return origins | dict.fromkeys(_flatten(flags), "flag")
