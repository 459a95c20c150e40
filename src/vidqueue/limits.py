"""Resource limits of one job, which the media jail enforces on untrusted input. Pure values."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class LimitSettings(BaseModel):
    """Bounds of one jailed ffmpeg run, as they are configured."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_pixels: int = Field(35_389_440, ge=1, description="Largest picture, in pixels (8K UHD by default).")
    max_streams: int = Field(32, ge=1, description="Most streams a file may have.")
    max_duration_s: float = Field(6 * 3600, gt=0, description="Longest input, in seconds.")
    max_output_mib: int = Field(64 * 1024, ge=1, description="Largest single output, in MiB.")
    memory_mib: int = Field(8 * 1024, ge=256, description="Address space of one ffmpeg, in MiB.")
    probe_timeout_s: float = Field(60, gt=0, description="Wall time for reading a file's facts, in seconds.")
    ffmpeg_timeout_s: float = Field(12 * 3600, gt=0, description="Wall time of one ffmpeg run, in seconds.")
    film_cache_mib: int = Field(
        2048, ge=0, description="Rendered pieces of films that are kept for later exports, in MiB; 0 keeps none."
    )
    threads: int = Field(0, ge=0, description="Threads of one ffmpeg; 0 lets ffmpeg choose.")


class Limits(LimitSettings):
    """Bounds of one jailed ffmpeg run; the parent sends them to the executor with each job.

    Attributes:
        formats: names of formats and codecs that may be opened; `safe` and `wide` stand for many.
        low_water_mib: free disk space, in MiB, that reservations of jobs must leave.
    """

    formats: tuple[str, ...] = ("safe",)
    low_water_mib: int = 0
