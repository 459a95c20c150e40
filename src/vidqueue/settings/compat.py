"""Sections of the configuration for the APIs that are compatible with other systems (Replicate, Comfy, OpenAI, ...)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from vidqueue.settings.entries import Section

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,55}$")]
# The place of a value in the input of a processor, such as `clips.0.media`.
Place = Annotated[str, Field(pattern=r"^[^.]{1,64}(\.[^.]{1,64}){0,15}$")]


class ReplicateSettings(Section):
    """The API that is compatible with Replicate."""

    enabled: bool = Field(True, description="Whether the API is enabled: /v1/predictions, /v1/models and others.")


class ComfyApiSettings(Section):
    """The API that is compatible with the Comfy API v2."""

    enabled: bool = Field(True, description="Whether the API is enabled: /api/v2.")


class ModelAlias(Section):
    """A model of `/v1/videos`: a processor, and how the fields of a request become its input.

    Attributes:
        processor: the processor of its jobs.
        input: fixed values of the input.
        parameters: the place in the input for each field of a request that is not a parameter of the same name.
    """

    processor: str = Field(min_length=1, max_length=64)
    input: dict[str, Any] = Field({})
    parameters: dict[str, Place] = Field({})


class VideosSettings(Section):
    """The API that is compatible with OpenAI's video API."""

    enabled: bool = Field(True, description="Whether the API is enabled: /v1/videos.")
    default_model: str = Field("", description="The model of requests that name none.")
    models: dict[Name, ModelAlias] = Field(
        {},
        description="Models by the names that clients use, each a table with `processor` and optionally `input` "
        '(fixed values of its input) and `parameters` (places of fields: `input_reference = "clips.0.media"`).',
    )


class MoneyprinterSettings(Section):
    """The API that is compatible with MoneyPrinterTurbo."""

    enabled: bool = Field(True, description="Whether the API is enabled: /api/v1/videos, /api/v1/tasks and others.")
    queued_state: Literal[4, 0] = Field(
        4, description="State of a waiting task: 4 as in earlier versions of MoneyPrinterTurbo, or 0 as in newer ones."
    )
