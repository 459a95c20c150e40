"""The configuration as a whole: its sections, those that processors add, and the variables of its keys."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import (
    BaseModel,
    Field,
    create_model,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from vidqueue.limits import Limits, LimitSettings
from vidqueue.settings.compat import ComfyApiSettings, MoneyprinterSettings, ReplicateSettings, VideosSettings
from vidqueue.settings.entries import Schedules, WatchFolders
from vidqueue.settings.neighbours import NeighboursSettings
from vidqueue.settings.sections import (
    ApiSettings,
    DatabaseSettings,
    DiskSettings,
    FetchSettings,
    InputsSettings,
    LanesSettings,
    LogSettings,
    MediaSettings,
    NotifySettings,
    PricesSettings,
    RetentionSettings,
    RunningSettings,
    WebhooksSettings,
)

PREFIX = "VIDQUEUE_"


def default_data_dir() -> Path:
    """The state directory that systemd gives the service, otherwise the state folder of the user."""
    if given := os.environ.get("STATE_DIRECTORY"):
        return Path(given.split(":")[0])
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "vidqueue"


class Settings(BaseSettings):
    """The whole configuration. One instance is created at start and passed on."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True, validate_default=True
    )

    data_dir: Path = Field(
        default_factory=default_data_dir,
        description="Folder for stored files, temporary files and the embedded database.",
    )
    models_dir: Path | None = Field(
        None, description="Folder of the weights of models, which processors read as `ctx.models.folder`."
    )
    host_name: str = Field(default_factory=socket.gethostname, description="Name of this machine in reports.")
    schedules: Schedules = []
    watch_folders: WatchFolders = []
    database: DatabaseSettings = DatabaseSettings()
    api: ApiSettings = ApiSettings()
    lanes: LanesSettings = LanesSettings()
    neighbours: NeighboursSettings = NeighboursSettings()
    inputs: InputsSettings = InputsSettings()
    fetch: FetchSettings = FetchSettings()
    webhooks: WebhooksSettings = WebhooksSettings()
    limits: LimitSettings = LimitSettings()
    media: MediaSettings = MediaSettings()
    notify: NotifySettings = NotifySettings()
    disk: DiskSettings = DiskSettings()
    running: RunningSettings = RunningSettings()
    retention: RetentionSettings = RetentionSettings()
    prices: PricesSettings = PricesSettings()
    replicate: ReplicateSettings = ReplicateSettings()
    comfy_api: ComfyApiSettings = ComfyApiSettings()
    videos: VideosSettings = VideosSettings()
    moneyprinter: MoneyprinterSettings = MoneyprinterSettings()
    log: LogSettings = LogSettings()

    @field_validator("data_dir")
    @classmethod
    def _resolved(cls, folder: Path) -> Path:
        return folder.expanduser().resolve()

    @property
    def webhook_secret_file(self) -> Path:
        """Return the file with the secret that signs webhooks."""
        return self.webhooks.secret_file or self.data_dir / "webhook_secret"

    @property
    def job_limits(self) -> Limits:
        """Return the bounds that go to the executor with each job."""
        return Limits(**self.limits.model_dump(), formats=self.media.policy, low_water_mib=self.disk.low_water_mib)

    @property
    def models_folder(self) -> Path:
        """Return the folder of the weights of models."""
        return (self.models_dir or self.data_dir / "models").expanduser().absolute()

    @model_validator(mode="after")
    def _one_database_url(self) -> Settings:
        if self.database.url and self.database.url_file:
            raise ValueError("database.url and database.url_file are both set; keep one")
        return self

    @model_validator(mode="after")
    def _watched_roots(self) -> Settings:
        for folder in self.watch_folders:
            if not any(folder.path.is_relative_to(root) for root in self.inputs.roots):
                raise ValueError(
                    f"watch_folders: {folder.path} is not under any of inputs.roots, so no job could read it"
                )
        return self


def with_sections(sections: Mapping[str, type[BaseModel]]) -> type[Settings]:
    """The settings with a further section for each of these models; processors bring them."""
    if not sections:
        return Settings
    added: dict[str, Any] = {
        name: (model, Field(default_factory=model, description=_summary(model))) for name, model in sections.items()
    }
    return create_model("Settings", __base__=Settings, __module__=__name__, **added)


def _summary(model: type[BaseModel]) -> str:
    return (model.__doc__ or "").strip().partition("\n")[0]


def keys(model: type[Settings] = Settings) -> Iterator[tuple[str, Any]]:
    """Every `section.key` (or top-level key) with its pydantic field."""
    for name, info in model.model_fields.items():
        section = info.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            for key, sub in section.model_fields.items():
                yield f"{name}.{key}", sub
        else:
            yield name, info


def variable_of(key: str) -> str:
    """The environment variable of a `section.key`."""
    return PREFIX + key.upper().replace(".", "__")


def key_of(variable: str) -> str:
    """The `section.key` of an environment variable."""
    return variable.removeprefix(PREFIX).lower().replace("__", ".")
