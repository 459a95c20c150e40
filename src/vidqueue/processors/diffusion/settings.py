"""The section `generate` of the configuration: the pipelines that jobs may use."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from vidqueue.processors.configured import EntryName, entry
from vidqueue.settings.entries import AbsolutePath, Section

Task = Literal["text-to-image", "text-to-video", "image-to-video"]
Dtype = Literal["auto", "float32", "float16", "bfloat16"]


class Pipeline(Section):
    """A pipeline of diffusers."""

    path: AbsolutePath = Field(
        description="Folder of the pipeline: model_index.json and safetensors. Nothing is ever downloaded."
    )
    task: Task = Field(description="Task of the pipeline.")
    dtype: Dtype = Field("auto", description="Precision; `auto` is bfloat16 on a GPU and float32 on a CPU.")
    vram_mb: int = Field(0, ge=0, description="GPU memory that a job needs on its lane, in MiB; 0 for no requirement.")
    frames_rule: str = Field(
        "",
        pattern=r"^$|^([1-9]\d?)k(\+\d{1,2})?$",
        description="Numbers of frames that the pipeline can make, such as `4k+1`; known for common pipelines.",
    )
    loras: AbsolutePath | None = Field(None, description="Folder of LoRAs (.safetensors) that jobs may name.")


class GenerateSettings(Section):
    """Pipelines of diffusers that jobs of the processor `generate` run on."""

    models: dict[EntryName, Pipeline] = Field({}, description="The pipelines by name.")


def pipeline_of(name: str, config: GenerateSettings) -> Pipeline:
    """Return the pipeline of this name.

    Raises:
        VidqueueError: `unknown_model`.
    """
    return entry(config.models, name, kind="model", section="generate.models", field="model")
