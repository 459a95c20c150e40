"""Reads the configuration from flags, environment and file, and reports every error at once.

Order of precedence: flags, environment (`VIDQUEUE_SECTION__KEY`), the file given by --config or $VIDQUEUE_CONFIG,
else ./vidqueue.toml, else /etc/vidqueue/vidqueue.toml, then systemd credentials, then defaults.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsError

from vidqueue.ops import failpoints
from vidqueue.settings import faults
from vidqueue.settings.file import ConfigFile, read, usual
from vidqueue.settings.schema import PREFIX, Settings, key_of, keys, variable_of, with_sections

# Read by other parts: the CLI as a client, the choice of file, and the tests.
COMMAND_LINE_VARIABLES = frozenset({"VIDQUEUE_URL", "VIDQUEUE_API_KEY", "VIDQUEUE_CONFIG", "VIDQUEUE_DEBUG"})
FOREIGN_VARIABLES = COMMAND_LINE_VARIABLES | {failpoints.VARIABLE}
FOREIGN_PREFIXES = ("VIDQUEUE_TEST_",)
# The keys of the section `database` that give its address.
ADDRESS = ("url", "url_file")

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
        warnings: why a file that was named should not be trusted, and which sections were passed over.
    """

    settings: Settings
    origins: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def load(
    *,
    file: Path | None = None,
    flags: dict[str, Any] | None = None,
    sections: Mapping[str, type[BaseModel]] | None = None,
    incomplete: bool = False,
) -> Loaded:
    """Read and check the configuration.

    Args:
        file: the TOML file to use instead of the usual places.
        flags: values from the command line, nested like the file.
        sections: the sections that processors bring.
        incomplete: whether a processor could not be imported: a section that nobody knows may then be its own, and is
            passed over with a warning.

    Raises:
        ConfigError: with a message for every error.
    """
    flags, model = flags or {}, with_sections(sections or {})
    found = _read(file)
    path, contents = (found.path, _parse(found)) if found else (None, {})
    unknown = [*_unknown_keys(contents, path, model), *_unknown_variables(model)]
    doubts, problems = _told_apart(unknown, model) if incomplete else ([], [text for _, text in unknown])
    problems += _unknown_failpoints()
    contents = _with_address(contents, flags)
    origins = _origins(flags, contents, path, model)
    try:
        settings = _with_url_file(_reading(_known_only(contents, model), model)(**flags))
    except ValidationError as error:
        raise ConfigError([*problems, *faults.messages(error, model, origins)]) from None
    except SettingsError as error:
        raise ConfigError([*problems, f"environment: {error}: {error.__cause__}"]) from None
    except (OSError, ValueError) as error:
        raise ConfigError([*problems, f"database.url_file: {error}"]) from None
    if problems:
        raise ConfigError(problems)
    return Loaded(settings, origins, (*(found.doubts if found else ()), *doubts))


def _reading(contents: dict[str, Any], model: type[Settings]) -> type[Settings]:
    """A settings class that takes values from a file if neither a flag nor the environment gives them."""

    class FromFile(model):  # type: ignore[misc, valid-type]
        @classmethod
        def settings_customise_sources(
            cls, settings_cls: type[BaseSettings], *sources: Any, **named: PydanticBaseSettingsSource
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            file = InitSettingsSource(settings_cls, init_kwargs=contents)
            return (named["init_settings"], named["env_settings"], file)

    return FromFile


def _told_apart(unknown: list[tuple[str, str]], model: type[Settings]) -> tuple[list[str], list[str]]:
    """Split unknown keys into those of sections that are unknown too, and those of sections that are known."""
    passed_over = [f"{text} (a processor could not be imported, and may know it)"
                   for key, text in unknown if key.partition(".")[0] not in model.model_fields]  # fmt: skip
    return passed_over, [text for key, text in unknown if key.partition(".")[0] in model.model_fields]


def _read(file: Path | None) -> ConfigFile | None:
    """The configuration file. One that was found and not named is refused if another user could have written it."""
    given = file or (Path(variable) if (variable := os.environ.get("VIDQUEUE_CONFIG")) else None)
    path = given or usual()
    if path is None:
        return None
    try:
        found = read(path, named=given is not None)
    except FileNotFoundError:
        raise ConfigError([f"{path}: no such file"]) from None
    except OSError as error:
        raise ConfigError([f"{path} cannot be read: {error.strerror}."]) from None
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path} is not text in UTF-8: {error.reason} at byte {error.start}."]) from None
    if found.doubts and given is None:
        advice = f"{path} was not read. Correct owner and mode, or name it with --config if you trust it."
        raise ConfigError([*found.doubts, advice])
    return found


def _parse(file: ConfigFile) -> dict[str, Any]:
    try:
        return tomllib.loads(file.text)
    except RecursionError:
        raise ConfigError([f"{file.path} is nested too deeply."]) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([f"{file.path}: {error}"]) from None


def _flatten(contents: Mapping[str, Any]) -> Iterator[str]:
    for name, value in contents.items():
        if isinstance(value, dict):
            yield from (f"{name}.{key}" for key in value)
        else:
            yield name


def _unknown_keys(contents: Mapping[str, Any], path: Path | None, model: type[Settings]) -> list[tuple[str, str]]:
    known = [key for key, _ in keys(model)]
    return [
        (key, f"{path}: unknown key {key!r}{faults.suggestion(key, known, RENAMED)}")
        for key in _flatten(contents)
        if key not in known
    ]


def _unknown_variables(model: type[Settings]) -> list[tuple[str, str]]:
    known = [variable_of(key) for key, _ in keys(model)]
    renamed = {variable_of(old): variable_of(new) for old, new in RENAMED.items()}
    given = (name for name in os.environ if name.startswith(PREFIX) and name not in FOREIGN_VARIABLES)
    return [
        (key_of(name), f"environment: unknown variable {name!r}{_variable_like(name, known, renamed)}")
        for name in given
        if name not in known and not name.startswith(FOREIGN_PREFIXES)
    ]


def _variable_like(name: str, known: list[str], renamed: Mapping[str, str]) -> str:
    """Return the end of a message about an unknown variable, with the known one that is probably meant.

    The prefix that all have is left aside, because it makes every two of them alike. A variable that ends with the
    whole word comes first: `VIDQUEUE_KEY` means `VIDQUEUE_API_KEY`.
    """
    if name in renamed:
        return faults.suggestion(name, (), renamed)
    word = name.removeprefix(PREFIX)
    rests = [one.removeprefix(PREFIX) for one in (*known, *sorted(COMMAND_LINE_VARIABLES))]
    ending = [rest for rest in rests if rest.endswith(f"_{word}")]
    near = min(ending, key=len) if ending else faults.nearest(word, rests)
    return f"; did you mean {PREFIX + near!r}?" if near else ""


def _unknown_failpoints() -> list[str]:
    try:
        failpoints.parse(os.environ.get(failpoints.VARIABLE, ""))
    except ValueError as error:
        return [f"environment: {error}"]
    return []


def _known_only(contents: Mapping[str, Any], model: type[Settings]) -> dict[str, Any]:
    """The contents without unknown keys, which _unknown_keys reports, so that each error is reported once."""
    known = {key for key, _ in keys(model)}
    kept: dict[str, Any] = {}
    for name, value in contents.items():
        if isinstance(value, dict):
            kept[name] = {key: inner for key, inner in value.items() if f"{name}.{key}" in known}
        elif name in known:
            kept[name] = value
    return {name: value for name, value in kept.items() if name in model.model_fields}


def _with_address(contents: dict[str, Any], flags: Mapping[str, Any]) -> dict[str, Any]:
    """Take the database's address from one place: a flag or a variable, else the file, else systemd's LoadCredential=.

    It has two keys, and whichever of them is given goes before both of them in a place that comes later.
    """
    database = contents.get("database", {})
    if not isinstance(database, dict):  # which is an error of its own
        return contents
    if "url" in flags.get("database", {}) or any(variable_of(f"database.{key}") in os.environ for key in ADDRESS):
        return {**contents, "database": {key: value for key, value in database.items() if key not in ADDRESS}}
    credential = Path(os.environ.get("CREDENTIALS_DIRECTORY", "")) / "database_url"
    if not credential.is_absolute() or any(key in database for key in ADDRESS) or not credential.is_file():
        return contents
    return {**contents, "database": {**database, "url_file": str(credential)}}


def _with_url_file(settings: Settings) -> Settings:
    if settings.database.url_file is None:
        return settings
    url = SecretStr(settings.database.url_file.read_text(encoding="utf-8").strip())
    if not url:
        # An address of nothing is that of some server that libpq assumes, and so is none.
        raise ValueError(f"{settings.database.url_file} is empty; write the address of the database into it")
    return settings.model_copy(update={"database": settings.database.model_copy(update={"url": url})})


def _origins(
    flags: Mapping[str, Any], contents: Mapping[str, Any], path: Path | None, model: type[Settings]
) -> dict[str, str]:
    origins = dict.fromkeys(_flatten(contents), str(path) if path else "credential")
    origins |= {key: variable_of(key) for key, _ in keys(model) if variable_of(key) in os.environ}
    return origins | dict.fromkeys(_flatten(flags), "flag")
