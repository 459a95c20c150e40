"""The sections of the configuration that every daemon has: their keys with types, defaults, bounds and descriptions."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    Field,
    IPvAnyNetwork,
    SecretStr,
    field_validator,
)

from vidqueue.formats import unknown
from vidqueue.ops import windows
from vidqueue.ops.windows import AtEnd, Windows
from vidqueue.settings.entries import AbsolutePath, Section, TimeZone


class DatabaseSettings(Section):
    """The PostgreSQL database. Without an address an embedded PostgreSQL 18 runs in the data folder."""

    url: SecretStr | None = Field(None, description="Address (postgresql://) of your own server, version 14 or newer.")
    url_file: Path | None = Field(
        None, description="File that contains the address, so that it is not in the environment."
    )
    pool_size: int = Field(8, ge=2, le=100, description="Connections for the daemon's own queries.")
    query_timeout_s: float = Field(10, gt=0, le=60, description="Longest time one transaction may take, in seconds.")
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
    """The HTTP server."""

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8765, ge=0, le=65535, description="Port to listen on; 0 chooses a free port.")
    allowed_hosts: list[str] = Field(
        ["localhost", "127.0.0.1", "[::1]"],
        description="Host names that requests may be addressed to (the `Host` header). A daemon that listens beyond "
        "loopback takes any name unless this is set: every request needs a key there.",
    )
    max_connections: int = Field(
        4096,
        ge=16,
        description="Open connections at once; fewer where the limit of open files (ulimit -n) leaves room for less.",
    )
    max_wait_s: float = Field(60, gt=0, description="Longest time that `Prefer: wait` may ask for, in seconds.")

    @property
    def on_loopback(self) -> bool:
        """True if only this machine can connect."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


# A label of a lane, which jobs may ask for.
Label = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]


class LanesSettings(Section):
    """The lanes of this machine. Each lane runs one job at a time."""

    cpu: int = Field(2, ge=0, le=64, description="Number of CPU lanes.")
    gpu: Literal["auto", "off"] = Field(
        "auto", description="`auto` creates one lane for each GPU that NVML finds; `off` creates none."
    )
    gpu_work_on_cpu: Literal["auto", "always", "never"] = Field(
        "auto", description="Whether CPU lanes run GPU jobs; `auto` allows it if no GPU is found."
    )
    cpu_work_on_gpu: bool = Field(
        False,
        description="Whether GPU lanes run CPU jobs too, for which GPU jobs may have to wait. A `transcode` with "
        "`encoder: auto` uses the GPU's encoder there.",
    )
    models_mib: int = Field(
        0,
        ge=0,
        description="How much the models that an executor keeps between jobs may hold together, in MiB; the least "
        "recently used go first. 0 for no limit.",
    )
    labels: dict[str, list[Label]] = Field(
        {},
        description='Labels of lanes, which jobs may ask for: `{gpu0 = ["fast", "studio"]}`. `*` stands for those '
        "that are not named.",
    )
    windows: dict[str, list[str]] = Field(
        {},
        description='Time windows of lanes by name: `{gpu0 = ["22:00-07:00", "sat-sun"]}`. `*` stands for those '
        "that are not named; a lane without windows always works.",
    )
    windows_timezone: TimeZone = Field("UTC", description="Time zone of the windows, such as Europe/Berlin.")
    windows_end: AtEnd = Field(
        "finish", description="What a running job does when a window ends: `finish`, or `suspend` until the next one."
    )

    @field_validator("windows")
    @classmethod
    def _valid(cls, given: dict[str, list[str]]) -> dict[str, list[str]]:
        return {name: windows.check(rules) for name, rules in given.items()}

    def labels_of(self, lane: str) -> tuple[str, ...]:
        """Return the labels that the configuration gives a lane."""
        return tuple(sorted(set(self.labels.get(lane, self.labels.get("*", [])))))

    def windows_of(self, lane: str) -> Windows:
        """Return the windows that the configuration gives a lane."""
        rules = self.windows.get(lane, self.windows.get("*", []))
        return Windows(tuple(rules), self.windows_timezone, self.windows_end)


class InputsSettings(Section):
    """The files that a job may read."""

    roots: list[AbsolutePath] = Field([], description="Folders whose files jobs may name by absolute path.")
    max_upload_mib: int = Field(4096, ge=1, description="Largest size of an upload, in MiB.")
    upload_idle_s: float = Field(30, gt=0, description="Longest time an upload may pause, in seconds.")
    max_resumable_mib: int = Field(
        0, ge=0, description="Largest size of a resumable upload, in MiB; 0 means as large as the disk has space."
    )
    resumable_days: float = Field(
        7, gt=0, le=3650, description="Days without new bytes after which an unfinished resumable upload is removed."
    )


class FetchSettings(Section):
    """Downloads: inputs that are `https://` or `http://` URLs."""

    allow: list[IPvAnyNetwork] = Field(
        [],
        description="Address ranges that may be fetched from besides public ones, such as 10.0.0.0/8. Otherwise "
        "private, loopback and link-local addresses are refused.",
    )
    max_mib: int = Field(4096, ge=1, description="Largest size of a download, in MiB.")
    timeout_s: float = Field(3600, gt=0, description="Longest time one download may take, in seconds.")
    idle_s: float = Field(30, gt=0, description="Longest time a server may send nothing, in seconds.")
    patience_s: float = Field(
        3600,
        ge=0,
        description="How long a job waits for a server that does not answer, in seconds. It burns no attempt; then it "
        "fails with `fetch_failed`.",
    )


class WebhooksSettings(Section):
    """Webhooks: HTTP requests that tell others of jobs."""

    secret_file: Path | None = Field(
        None, description="File with the secret that signs them, one a line, newest first. Made at the first start."
    )
    allow: list[IPvAnyNetwork] = Field(
        [],
        description="Address ranges that may be told besides public ones, such as 127.0.0.1/32. Otherwise private, "
        "loopback and link-local addresses are refused.",
    )


class NotifySettings(Section):
    """A command that the daemon runs when a job has ended or too many wait, for people without a webhook receiver."""

    command: list[str] = Field(
        [],
        description="Program and its arguments, without a shell. It gets the facts as JSON on its input, and as "
        "variables such as NOTIFY_OCCASION, NOTIFY_TITLE and NOTIFY_ERROR_MESSAGE.",
    )
    on: list[Literal["success", "failure", "backlog"]] = Field(
        ["success", "failure", "backlog"], description="On which occasions it runs."
    )
    backlog: int = Field(0, ge=0, description="Number of waiting jobs that is a backlog; 0 means that none is.")
    timeout_s: float = Field(30, gt=0, le=3600, description="Longest time it may take, in seconds.")


class DiskSettings(Section):
    """How much disk space is kept free."""

    low_water_mib: int = Field(
        1024,
        ge=0,
        description="Free space on the disk of data_dir, in MiB, below which no job starts and uploads are refused; "
        "0 for no limit.",
    )


class RunningSettings(Section):
    """How running attempts are supervised."""

    lease_s: float = Field(
        30,
        ge=3,
        description="Time without a renewal after which an attempt counts as interrupted, in seconds. Lanes "
        "renew three times as often.",
    )
    cancel_grace_s: float = Field(
        1.0, gt=0, description="Time a canceled job has to stop before it is killed, in seconds."
    )
    wait_limit_s: float = Field(
        3600,
        ge=0,
        le=31_536_000,
        description="Time a job may wait because what its processor needs is busy or down, in seconds. It is put back "
        "into the queue without burning an attempt; then it fails with peer_unavailable.",
    )
    drain_timeout_s: float = Field(
        60, ge=0, description="Time running jobs have to finish when the daemon stops, in seconds."
    )
    max_log_lines: int = Field(
        2000, ge=10, description="Number of log lines kept of each attempt: the first and the last."
    )


class RetentionSettings(Section):
    """What is kept and for how long; 0 means no limit."""

    jobs_days: float = Field(
        90,
        ge=0,
        le=36_500,
        description="Days after its end when a finished job is removed, with its log, events and outputs.",
    )
    max_jobs: int = Field(0, ge=0, description="Largest number of finished jobs; the oldest are removed first.")
    logs_days: float = Field(
        30, ge=0, le=36_500, description="Days after the end of a job when the logs of its attempts are removed."
    )
    events_days: float = Field(
        30, ge=0, le=36_500, description="Days after the end of a job when its events are removed."
    )
    uploads_days: float = Field(
        30,
        ge=0,
        le=36_500,
        description="Days after its arrival, or after the end of the last job that read it, when an upload is removed.",
    )
    max_files_gib: float = Field(
        0,
        ge=0,
        description="Largest size of all files in this data folder, in GiB; the least recently used are removed first.",
    )


class MediaSettings(Section):
    """Which formats of files are read. All of them only in the jail."""

    formats: Literal["safe", "wide"] | list[str] = Field(
        "safe",
        description="`safe`, `wide` (also those of editing and of the past), or a list of words and ffmpeg's names.",
    )

    @field_validator("formats")
    @classmethod
    def _known(cls, formats: str | list[str]) -> str | list[str]:
        if names := unknown(formats) if isinstance(formats, list) else []:
            raise ValueError(f"unknown: {', '.join(names)}; docs/media.md lists the names")
        return formats

    @property
    def policy(self) -> tuple[str, ...]:
        """Return the names and words as a list."""
        return (self.formats,) if isinstance(self.formats, str) else tuple(self.formats)


class PricesSettings(Section):
    """Prices for `vidqueue report cost`. Where several daemons run, those of the one that was started last apply."""

    currency: str = Field("EUR", max_length=10, description="Word that stands beside the amounts.")
    cpu_lane_hour: float = Field(0, ge=0, description="Price of an hour on a CPU lane.")
    gpu_lane_hour: float = Field(0, ge=0, description="Price of an hour on a GPU lane.")
    video_hour: float = Field(0, ge=0, description="Price of an hour of video that went into a job.")
    output_gib: float = Field(0, ge=0, description="Price of a GiB that a job published.")


class LogSettings(Section):
    """The daemon's own log."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="Lowest level that is written.")
    format: Literal["auto", "json", "console"] = Field(
        "auto", description="`auto` writes JSON unless stderr is a terminal."
    )
