"""Sections of the addresses that clients of other systems know."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from vidqueue.settings.entries import Section

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,55}$")]
# The place of a value in the input of a processor, such as `clips.0.media`.
Place = Annotated[str, Field(pattern=r"^[^.]{1,64}(\.[^.]{1,64}){0,15}$")]


class ReplicateSettings(Section):
    """The addresses that clients of Replicate know."""

    enabled: bool = Field(True, description="Whether they are answered: /v1/predictions, /v1/models and others.")


class ComfyApiSettings(Section):
    """The addresses that the SDKs of the Comfy API v2 know."""

    enabled: bool = Field(True, description="Whether they are answered: /api/v2.")


class ModelAlias(Section):
    """A model of `/v1/videos`: a processor, and how the fields of a request become its input.

    Attributes:
        processor: the processor of its jobs.
        input: what the input has in any case.
        parameters: the place in the input of each field of a request, where it is not the parameter of the same name.
    """

    processor: str = Field(min_length=1, max_length=64)
    input: dict[str, Any] = Field({})
    parameters: dict[str, Place] = Field({})


class VideosSettings(Section):
    """The addresses that clients of OpenAI's video API know."""

    enabled: bool = Field(True, description="Whether they are answered: /v1/videos.")
    default_model: str = Field("", description="Model of a request that names none.")
    models: dict[Name, ModelAlias] = Field(
        {},
        description="Models by the names that clients use, each a table with `processor` and, if you like, `input` "
        '(what its input has in any case) and `parameters` (places of fields: `input_reference = "clips.0.media"`).',
    )


class MoneyprinterSettings(Section):
    """The addresses that clients of MoneyPrinterTurbo know."""

    enabled: bool = Field(True, description="Whether they are answered: /api/v1/videos, /api/v1/tasks and others.")
    queued_state: Literal[4, 0] = Field(
        4, description="State of a task that waits: 4 as clients know it, or 0 as newer ones do."
    )
