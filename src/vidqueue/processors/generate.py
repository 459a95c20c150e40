"""Processor `generate`: makes pictures and videos from a prompt or a picture with configured pipelines of diffusers."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, Field, ValidationInfo, model_validator

from vidqueue.errors import VidqueueError
from vidqueue.job import OutputDraft
from vidqueue.processors.base import Context, ImageInput, Parameters, Processor, settings_of
from vidqueue.processors.diffusion import folder, rungs
from vidqueue.processors.diffusion.settings import Dtype, GenerateSettings, Pipeline, pipeline_of

EXTRA = "pip install 'vidqueue[generate]'"
_NEEDED = ("diffusers", "transformers", "accelerate", "safetensors")
_MOST_LORAS = 8


class Lora(Parameters):
    """A LoRA from the model's configured folder."""

    name: str = Field(min_length=1, max_length=200, description="Name of the file without `.safetensors`.")
    scale: float = Field(1.0, ge=-4, le=4, description="Weight of the LoRA.")


class GenerateParams(Parameters):
    """Parameters of `generate`."""

    model: str = Field(max_length=32, description="Name of a pipeline in `generate.models`.")
    prompt: str = Field(max_length=20_000, description="Description of the result.")
    negative_prompt: str = Field(
        "", max_length=20_000, description="Description of what the result should not contain."
    )
    image: ImageInput | None = Field(None, description="The picture that an image-to-video pipeline begins with.")
    width: int | None = Field(
        None, ge=16, le=8192, description="Width in pixels; the model's native width if not given."
    )
    height: int | None = Field(
        None, ge=16, le=8192, description="Height in pixels; the model's native height if not given."
    )
    frames: int | None = Field(
        None, ge=1, le=2000, description="Number of pictures of a video; the model's default if not given."
    )
    fps: float = Field(16, ge=1, le=120, description="Pictures per second of a video.")
    steps: int | None = Field(
        None, ge=1, le=1000, description="Number of inference steps; the model's default if not given."
    )
    guidance: float | None = Field(
        None,
        ge=0,
        le=100,
        description="How closely the prompt is followed (guidance scale); the model's default if not given.",
    )
    seed: int | None = Field(
        None, ge=0, lt=2**63, description="Seed of the noise; random if not given, and recorded in `facts.seed`."
    )
    loras: list[Lora] = Field([], max_length=_MOST_LORAS, description="LoRAs from the model's folder of them.")
    dtype: Dtype = Field("auto", description="Precision of the weights; that of the configuration if not given.")
    tiling: bool = Field(False, description="Decode in tiles and slices: less memory, more time.")
    offload: Literal["none", "model", "layers"] = Field(
        "none", description="Keep parts of the model, or its layers, outside the GPU until they are needed."
    )
    allow_degrade: bool = Field(
        True,
        description="Whether parameters that need less memory may be tried, in the end a smaller or shorter result.",
    )

    @model_validator(mode="after")
    def _fits_the_task(self, info: ValidationInfo) -> Self:
        if (config := settings_of(info, GenerateSettings)) is None:
            return self
        task = pipeline_of(self.model, config).task
        if task == "image-to-video" and not self.image:
            raise ValueError(f"{self.model} makes a video from a picture: `image` is required")
        if task != "image-to-video" and self.image:
            raise ValueError(f"{self.model} makes pictures from text only: `image` is not accepted")
        if task == "text-to-image" and self.frames not in (None, 1):
            raise ValueError(f"{self.model} makes one picture: `frames` is not accepted")
        return self


class Generate(Processor):
    """Generate a picture or a video from a prompt, with pipelines of diffusers that the operator lists."""

    name = "generate"
    device = "gpu"
    settings: ClassVar[str] = "generate"
    Settings: ClassVar[type[BaseModel]] = GenerateSettings
    Params: ClassVar[type[Parameters]] = GenerateParams
    # Loading, encoding the prompt and decoding the pictures report no progress.
    stall_timeout_s = 1800
    # The disk of the models may be slow to answer.
    asks_peer = True
    # Of the current run, for `degrade`, which does not get them; the size may follow from the input picture.
    _size: tuple[int, int] | None = None
    _device = "cpu"

    def vram_mb(self, params: Any) -> int:
        """Return the configured memory of the model."""
        return self._pipeline(params).vram_mb

    def unavailable(self) -> str:
        """Return why `generate` cannot be used; empty if it can."""
        if missing := [name for name in _NEEDED if find_spec(name) is None]:
            return f"{', '.join(missing)} not installed: {EXTRA}"
        if not self.config.models:
            return "no pipeline is configured under [generate.models]"
        without = [f"{name}: {one.path} has no {folder.INDEX}" for name, one in self.config.models.items()]
        there = any((one.path / folder.INDEX).is_file() for one in self.config.models.values())
        return "" if there else "; ".join(without)

    def check(self, params: Any) -> None:
        """Check the files of the model, and that it can make what the parameters say.

        Raises:
            VidqueueError: `processor_unavailable`, `missing_model`, `unknown_model`, `invalid_params`.
        """
        pipeline = self._pipeline(params)
        if why := self.unavailable():
            raise VidqueueError("processor_unavailable", f"generate cannot run here: {why}.", hint=EXTRA)
        found = folder.read(pipeline.path)
        for number, lora in enumerate(params.loras):
            _check_lora(pipeline, lora.name, number)
        faults = [
            {"pointer": f"/input/{name}", "detail": wrong} for name, wrong in _misfits(params, pipeline, found.native)
        ]
        if faults:
            message = f"{params.model} does not accept these parameters. {faults[0]['pointer']}: {faults[0]['detail']}"
            raise VidqueueError("invalid_params", message, errors=faults)

    def degrade(self, params: Any, error: VidqueueError) -> Any:
        """Return parameters that need less memory: less precision, tiles, offloading, smaller, fewer frames."""
        pipeline = self._pipeline(params)
        try:
            native = folder.read(pipeline.path).native
        except VidqueueError:
            return None
        update = rungs.next_rung(params, pipeline, native, error.code, self._device, self._size)
        return params.model_copy(update=update) if update else None

    def run(self, params: Any, ctx: Context) -> list[OutputDraft]:
        """Load the pipeline unless it is loaded already, run it, and write the picture or the video."""
        from vidqueue.processors.diffusion.run import Run

        run = Run(params, self._pipeline(params), ctx)
        self._size, self._device = run.size, ctx.device
        return run.generate()

    def _pipeline(self, params: Any) -> Pipeline:
        return pipeline_of(params.model, self.config)


def _check_lora(pipeline: Pipeline, name: str, number: int) -> None:
    try:
        folder.lora_file(pipeline.loras, name)
    except VidqueueError as error:
        errors = [{"pointer": f"/input/loras/{number}/name", "detail": error.message}]
        raise VidqueueError(error.code, error.message, errors=errors) from None


def _misfits(params: GenerateParams, pipeline: Pipeline, native: folder.Native) -> Iterator[tuple[str, str]]:
    for name in ("width", "height"):
        side = getattr(params, name)
        if side is not None and side % native.multiple:
            yield name, f"must be a multiple of {native.multiple}"
    rule = pipeline.frames_rule or native.frames_rule
    if params.frames is not None and not folder.fits_rule(params.frames, rule):
        yield "frames", f"must be {rule}, as 5, 9 or 81 are for 4k+1" if rule == "4k+1" else f"must be {rule}"
