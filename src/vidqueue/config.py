"""Configuration: read once, checked wholly, then frozen.

Order of precedence: flags, environment (`VIDQUEUE_SECTION__KEY`), the file given by --config or $VIDQUEUE_CONFIG,
else ./vidqueue.toml, else /etc/vidqueue/vidqueue.toml, then systemd credentials, then defaults.
"""

from __future__ import annotations

import difflib
import os
import socket
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from vidqueue.limits import Limits

PREFIX = "VIDQUEUE_"
# Read by other parts: the CLI as a client, the choice of file, and the tests.
FOREIGN_VARIABLES = frozenset({"VIDQUEUE_URL", "VIDQUEUE_API_KEY", "VIDQUEUE_CONFIG"})
FOREIGN_PREFIXES = ("VIDQUEUE_TEST_",)


class ConfigError(Exception):
    """The configuration cannot be used. `problems` names every fault, each with its place."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Section(BaseModel):
    """Base of the sections: unknown keys are errors, values never change."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class DatabaseSettings(Section):
    """Where the truth lives. Without a URL an embedded PostgreSQL 18 runs under the data folder."""

    url: SecretStr | None = Field(None, description="postgresql:// address of your server, 14 or newer.")
    url_file: Path | None = Field(
        None, description="File that holds the address, so that it stays out of the environment."
    )
    pool_size: int = Field(8, ge=2, le=100, description="Connections for the daemon's own queries.")
    query_timeout_s: float = Field(10, gt=0, description="Longest wait for one transaction, in seconds.")


class ApiSettings(Section):
    """The HTTP door."""

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8765, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    allowed_hosts: list[str] = Field(
        ["localhost", "127.0.0.1", "[::1]"], description="Host names a request may be addressed to."
    )
    max_wait_s: float = Field(60, gt=0, description="Longest `Prefer: wait`, in seconds.")


class LanesSettings(Section):
    """Places where one job runs at a time."""

    cpu: int = Field(2, ge=0, le=64, description="Number of CPU lanes.")
    gpu: Literal["auto", "off"] = Field("auto", description="`auto` makes one lane per GPU that NVML finds.")
    gpu_work_on_cpu: Literal["auto", "always", "never"] = Field(
        "auto", description="Whether CPU lanes take GPU work; `auto` does where no GPU is found."
    )


class InputsSettings(Section):
    """What a job may read."""

    roots: list[Path] = Field([], description="Folders whose files may be given as absolute paths.")
    max_upload_mb: int = Field(4096, ge=1, description="Largest upload, in MiB.")
    upload_idle_s: float = Field(30, gt=0, description="Longest pause inside an upload, in seconds.")

    @field_validator("roots")
    @classmethod
    def _absolute(cls, roots: list[Path]) -> list[Path]:
        for root in roots:
            if not root.is_absolute():
                raise ValueError(f"{root} is not an absolute path")
        return roots


class RunningSettings(Section):
    """How attempts are watched."""

    lease_s: float = Field(
        30, ge=3, description="A lane renews its attempt at a third of this; rescue waits for all of it."
    )
    cancel_grace_s: float = Field(1.0, gt=0, description="Time a canceled job has to stop by itself, in seconds.")
    drain_timeout_s: float = Field(60, ge=0, description="Time running jobs have to finish at shutdown, in seconds.")
    max_log_lines: int = Field(2000, ge=10, description="Lines kept of one attempt's log.")


class LogSettings(Section):
    """The daemon's own log."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level that is written.")
    format: Literal["auto", "json", "console"] = Field(
        "auto", description="`auto` is JSON unless stderr is a terminal."
    )


def default_data_dir() -> Path:
    """The folder systemd gives the service, else the user's state folder."""
    if given := os.environ.get("STATE_DIRECTORY"):
        return Path(given.split(":")[0])
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "vidqueue"


class Settings(BaseSettings):
    """Everything an operator may set. One instance is made at start and handed on."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True, validate_default=True
    )

    data_dir: Path = Field(
        default_factory=default_data_dir, description="Folder of files, work and the embedded database."
    )
    host_name: str = Field(default_factory=socket.gethostname, description="Name of this machine in reports.")
    database: DatabaseSettings = DatabaseSettings()
    api: ApiSettings = ApiSettings()
    lanes: LanesSettings = LanesSettings()
    inputs: InputsSettings = InputsSettings()
    limits: Limits = Limits()
    running: RunningSettings = RunningSettings()
    log: LogSettings = LogSettings()

    @field_validator("data_dir")
    @classmethod
    def _resolved(cls, folder: Path) -> Path:
        return folder.expanduser().absolute()

    @model_validator(mode="after")
    def _one_database_url(self) -> Settings:
        if self.database.url and self.database.url_file:
            raise ValueError("database.url and database.url_file are both set; keep one")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags and file come merged through the initialiser's two layers; no dotenv, no secrets folder."""
        return (init_settings, env_settings, _FileSource(settings_cls))


class _FileSource(PydanticBaseSettingsSource):
    """The TOML file that `load` read, below the environment."""

    contents: dict[str, Any] = {}  # noqa: RUF012 - set for the time of one load()

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        """Values of one field; unused, because __call__ returns them all."""
        del field
        return self.contents.get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        """The whole file."""
        return self.contents


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings and where they came from: `origins` maps `section.key` to `flag`, a variable, or a file."""

    settings: Settings
    origins: Mapping[str, str] = field(default_factory=dict)


def load(*, file: Path | None = None, flags: dict[str, Any] | None = None) -> Loaded:
    """Read, check and freeze the configuration.

    Args:
        file: the TOML file to use instead of the usual places.
        flags: values from the command line, nested like the file.

    Raises:
        ConfigError: with every problem at once.
    """
    flags = flags or {}
    path = _choose_file(file)
    contents = _read(path) if path else {}
    problems = [*_unknown_keys(contents, path), *_unknown_variables()]
    contents = _with_credentials(contents)
    _FileSource.contents = _known_only(contents)
    try:
        settings = Settings(**flags)
        settings = _with_url_file(settings)
    except ValidationError as error:
        problems += [f"{'.'.join(map(str, fault['loc'])) or 'settings'}: {fault['msg']}" for fault in error.errors()]
        raise ConfigError(problems) from None
    except OSError as error:
        raise ConfigError([*problems, f"database.url_file: {error}"]) from None
    finally:
        _FileSource.contents = {}
    if problems:
        raise ConfigError(problems)
    return Loaded(settings, _origins(flags, contents, path))


def keys() -> Iterator[tuple[str, Any]]:
    """Every `section.key` (or top-level key) with its pydantic field."""
    for name, info in Settings.model_fields.items():
        section = info.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            for key, sub in section.model_fields.items():
                yield f"{name}.{key}", sub
        else:
            yield name, info


def variable_of(key: str) -> str:
    """The environment variable of a `section.key`."""
    return PREFIX + key.upper().replace(".", "__")


def _choose_file(file: Path | None) -> Path | None:
    if file or (given := os.environ.get("VIDQUEUE_CONFIG")):
        chosen = file or Path(given or "")
        if not chosen.is_file():
            raise ConfigError([f"{chosen}: there is no such file"])
        return chosen
    usual = (Path("vidqueue.toml"), Path("/etc/vidqueue/vidqueue.toml"))
    return next((path for path in usual if path.is_file()), None)


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError([f"{path}: {error}"]) from None


def _flatten(contents: Mapping[str, Any]) -> Iterator[str]:
    for name, value in contents.items():
        if isinstance(value, dict):
            yield from (f"{name}.{key}" for key in value)
        else:
            yield name


def _suggest(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


def _unknown_keys(contents: Mapping[str, Any], path: Path | None) -> list[str]:
    known = [key for key, _ in keys()]
    return [f"{path}: unknown key {key!r}{_suggest(key, known)}" for key in _flatten(contents) if key not in known]


def _unknown_variables() -> list[str]:
    known = [variable_of(key) for key, _ in keys()]
    given = (name for name in os.environ if name.startswith(PREFIX) and name not in FOREIGN_VARIABLES)
    return [
        f"environment: unknown variable {name!r}{_suggest(name, known)}"
        for name in given
        if name not in known and not name.startswith(FOREIGN_PREFIXES)
    ]


def _known_only(contents: Mapping[str, Any]) -> dict[str, Any]:
    """Drop what _unknown_keys has already told, so that each fault is told once."""
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
