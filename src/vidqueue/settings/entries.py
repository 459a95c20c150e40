"""The base class of configuration sections, types of values, and entries of lists (schedules, watch folders)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from vidqueue.ops import cron

Named = TypeVar("Named", "ScheduleSettings", "WatchFolderSettings")

# Who owns the jobs that a configuration asks for.
CONFIGURED_OWNER = "local"
NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"


def _known_zone(name: str) -> str:
    cron.zone(name)
    return name


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError(f"{path} is not an absolute path")
    return path


CronExpression = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(cron.check)]
AbsolutePath = Annotated[Path, AfterValidator(_absolute)]
TimeZone = Annotated[str, Field(max_length=64), AfterValidator(_known_zone)]


class Section(BaseModel):
    """Base class of sections and of entries of lists. Unknown keys are errors, and values cannot be changed."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ScheduleSettings(Section):
    """A schedule: a job at the times of a cron expression. The daemon checks `job` when it starts."""

    name: str = Field(pattern=NAME)
    cron: CronExpression
    timezone: TimeZone = "UTC"
    job: dict[str, Any]
    missed: Literal["skip", "once", "all"] = "once"
    one_at_a_time: bool = False


class WatchFolderSettings(Section):
    """A watch folder: each complete file of it becomes a job. The daemon checks `job` when it starts."""

    name: str = Field(pattern=NAME)
    path: AbsolutePath
    job: dict[str, Any]
    parameter: str | None = None
    outputs: AbsolutePath | None = None
    recursive: bool = False
    include: list[str] = Field(["*"], min_length=1)
    settle_s: float = Field(10, ge=0, le=86_400)
    every_s: float = Field(5, ge=0.1, le=3600)

    @field_validator("path", "outputs")
    @classmethod
    def _normalized(cls, given: Path | None) -> Path | None:
        return given and Path(os.path.normpath(given))

    @model_validator(mode="after")
    def _two_folders(self) -> Self:
        if self.outputs == self.path:
            raise ValueError("outputs is the watched folder itself; its files would become jobs")
        return self


def require_distinct(entries: list[Named]) -> list[Named]:
    """Return the entries, unless two have one name.

    Raises:
        ValueError: two have one name.
    """
    names = [entry.name for entry in entries]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{', '.join(twice)} is named more than once")
    return entries


Schedules = Annotated[
    list[ScheduleSettings],
    AfterValidator(require_distinct),
    Field(
        description="Jobs at the times of a cron expression, each a table with `name`, `cron`, `job` (as POST /v1/jobs "
        "takes it) and, if you like, `timezone`, `missed` and `one_at_a_time`."
    ),
]

WatchFolders = Annotated[
    list[WatchFolderSettings],
    AfterValidator(require_distinct),
    Field(
        description="Folders under inputs.roots whose complete files become jobs, each a table with `name`, `path`, "
        "`job` and, if you like, `parameter`, `outputs` (a folder), `recursive`, `include`, `settle_s` and `every_s`."
    ),
]
