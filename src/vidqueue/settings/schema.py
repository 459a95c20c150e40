"""What an operator may set: sections, keys, defaults, bounds. How it is read stands in `configure`."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from vidqueue.limits import Limits

PREFIX = "VIDQUEUE_"


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
    query_timeout_s: float = Field(10, gt=0, le=60, description="Longest wait for one transaction, in seconds.")
    disk_reserve_mib: int = Field(
        64,
        ge=0,
        description="Disk space reserved beside the embedded database, in MiB. It is released when the volume is full, "
        "so that the server can start again. 0 reserves none; otherwise at least 32.",
    )

    @field_validator("disk_reserve_mib")
    @classmethod
    def _enough(cls, disk_reserve_mib: int) -> int:
        # PostgreSQL starts again with room for a log segment of 16 MiB, and must come a little further than that.
        if 0 < disk_reserve_mib < 32:
            raise ValueError("must be 0 (no reserve) or at least 32")
        return disk_reserve_mib


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
    max_upload_mib: int = Field(4096, ge=1, description="Largest upload, in MiB.")
    upload_idle_s: float = Field(30, gt=0, description="Longest pause inside an upload, in seconds.")

    @field_validator("roots")
    @classmethod
    def _absolute(cls, roots: list[Path]) -> list[Path]:
        for root in roots:
            if not root.is_absolute():
                raise ValueError(f"{root} is not an absolute path")
        return roots


class DiskSettings(Section):
    """How much of the disk is left alone."""

    low_water_mib: int = Field(
        1024,
        ge=0,
        description="Room in MiB on the disk of data_dir below which lanes and uploads wait; 0 for no bound.",
    )


class RunningSettings(Section):
    """How attempts are watched."""

    lease_s: float = Field(
        30, ge=3, description="A lane renews its attempt at a third of this; rescue waits for all of it."
    )
    cancel_grace_s: float = Field(1.0, gt=0, description="Time a canceled job has to stop by itself, in seconds.")
    drain_timeout_s: float = Field(60, ge=0, description="Time running jobs have to finish at shutdown, in seconds.")
    max_log_lines: int = Field(2000, ge=10, description="Lines kept of one attempt's log.")


class RetentionSettings(Section):
    """What is kept, and for how long; 0 keeps it for ever."""

    jobs_days: float = Field(
        90, ge=0, le=36_500, description="Finished jobs go so many days after their end, with all that they left."
    )
    max_jobs: int = Field(0, ge=0, description="Finished jobs that are kept; the oldest beyond that go.")
    logs_days: float = Field(
        30, ge=0, le=36_500, description="Logs of attempts go so many days after the end of the job."
    )
    events_days: float = Field(30, ge=0, le=36_500, description="Events go so many days after the end of the job.")
    uploads_days: float = Field(
        30, ge=0, le=36_500, description="Uploads go so many days after they came, or a job that read them ended."
    )
    max_files_gib: float = Field(
        0, ge=0, description="GiB that files in this data folder may take; what was of no use for longest goes."
    )


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
    disk: DiskSettings = DiskSettings()
    running: RunningSettings = RunningSettings()
    retention: RetentionSettings = RetentionSettings()
    log: LogSettings = LogSettings()

    @field_validator("data_dir")
    @classmethod
    def _resolved(cls, folder: Path) -> Path:
        return folder.expanduser().resolve()

    @model_validator(mode="after")
    def _one_database_url(self) -> Settings:
        if self.database.url and self.database.url_file:
            raise ValueError("database.url and database.url_file are both set; keep one")
        return self


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
