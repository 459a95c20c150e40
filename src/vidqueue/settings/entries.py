"""Entries of the configuration that are lists of tables: schedules."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

from vidqueue.ops import cron

# Who owns the jobs that a configuration asks for.
CONFIGURED_OWNER = "local"
NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"


class Section(BaseModel):
    """Base class of sections and of entries of lists. Unknown keys are errors, and values cannot be changed."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ScheduleSettings(Section):
    """A schedule: a job at the times of a cron expression. The daemon checks `job` when it starts."""

    name: str = Field(pattern=NAME)
    cron: str = Field(min_length=1, max_length=100)
    timezone: str = Field("UTC", max_length=64)
    job: dict[str, Any]
    missed: Literal["skip", "once", "all"] = "once"
    one_at_a_time: bool = False

    @field_validator("cron")
    @classmethod
    def _valid(cls, given: str) -> str:
        return cron.check(given)

    @field_validator("timezone")
    @classmethod
    def _known(cls, given: str) -> str:
        cron.zone(given)
        return given


def require_distinct(entries: list[ScheduleSettings]) -> list[ScheduleSettings]:
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
