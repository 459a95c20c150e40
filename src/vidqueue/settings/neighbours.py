"""The section `neighbours` of the configuration: others who use this machine."""

from __future__ import annotations

from pydantic import Field

from vidqueue.settings.entries import Section


class NeighboursSettings(Section):
    """How GPU lanes behave towards others who use the machine."""

    yield_memory: bool = Field(
        True, description="Whether a job waits while processes of others hold the GPU memory that it needs."
    )
    busy_percent: int = Field(
        50,
        ge=0,
        le=100,
        description="A GPU lane takes no job while processes of others use so much of the GPU's time, in percent; 0 "
        "means that it always does.",
    )
    programs: list[str] = Field(
        [], description="GPU lanes take no job, and free their memory, while a program of one of these names runs."
    )
    unload_after_s: float = Field(
        600,
        ge=0,
        description="An idle GPU lane frees the memory of its models after this time, in seconds; 0 means never.",
    )
