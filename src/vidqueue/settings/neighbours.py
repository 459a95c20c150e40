"""The section `neighbours` of the configuration: how GPU lanes share the machine with other programs."""

from __future__ import annotations

from pydantic import Field

from vidqueue.settings.entries import Section


class NeighboursSettings(Section):
    """How GPU lanes share the machine with other programs."""

    yield_memory: bool = Field(
        True, description="Whether a job waits while other programs hold the GPU memory that it needs."
    )
    busy_percent: int = Field(
        50,
        ge=0,
        le=100,
        description="A GPU lane takes no job while other programs use at least this share of the GPU's time, in "
        "percent; 0 disables the check.",
    )
    programs: list[str] = Field(
        [], description="GPU lanes take no job, and free their memory, while one of these programs runs."
    )
    unload_after_s: float = Field(
        600,
        ge=0,
        description="An idle GPU lane frees the memory of its models after this time, in seconds; 0 means never.",
    )
