"""Runs a diffusion pipeline for one job: arguments, steps with progress and previews, and the result files."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from vidqueue.errors import CanceledError, VidqueueError
from vidqueue.job import OutputDraft
from vidqueue.processors import library_errors
from vidqueue.processors.base import Context
from vidqueue.processors.diffusion import folder, pictures, pipelines, record, rungs
from vidqueue.processors.diffusion.previews import preview_of
from vidqueue.processors.diffusion.settings import Pipeline
from vidqueue.processors.parts.reporting import stage_reporter
from vidqueue.processors.parts.seeds import drawn_seed
from vidqueue.progress import PREVIEW_EVERY_S, Progress, eta_s

# The progress once the model is loaded, the steps are done, and the pictures are decoded.
_LOADED, _SAMPLED, _DECODED = 0.05, 0.9, 0.95


class Run:
    """A run of a job's parameters on its pipeline.

    Attributes:
        size: width and height of the pictures that are made.
    """

    def __init__(self, params: Any, pipeline: Pipeline, ctx: Context) -> None:
        self._params, self._pipeline, self._ctx = params, pipeline, ctx
        self._folder = folder.read(pipeline.path)
        picture = pictures.shape_of(ctx.input("image"), ctx) if params.image else None
        self.size = rungs.size_of(params, self._folder.native, picture)
        self._seed = drawn_seed(ctx) if params.seed is None else params.seed
        self._loras = [(folder.lora_file(pipeline.loras, one.name), one.scale) for one in params.loras]
        self._warnings: list[str] = []
        self._began = self._shown = 0.0

    def generate(self) -> list[OutputDraft]:
        """Load the pipeline, run it, and write the result.

        Raises:
            VidqueueError: `missing_model`, `model_failed`, `content_refused`, or that memory ran out.
            CanceledError: the job was canceled; the pipeline stays loaded.
        """
        ctx = self._ctx
        files = record.hashes([*self._folder.files, *(path for path, _ in self._loras)], ctx)
        ctx.progress(Progress(0.0, "load"))
        wanted = pipelines.Wanted(
            self._pipeline.path,
            rungs.precision_of(self._params, self._pipeline, ctx.device),
            self._params.offload,
            ctx.device,
        )
        pipe = pipelines.loaded(wanted, self._folder, self._loras, ctx)
        pipelines.check_task(pipe, self._pipeline.task)
        pipelines.set_tiling(pipe, wanted=self._params.tiling)
        made = self._made(pipe)
        draft = self._written(made)
        draft.facts.update(
            seed=self._seed,
            degraded=[],
            warnings=[*draft.facts.get("warnings", ()), *self._warnings],
            record=self._record(pipe, wanted, files),
        )
        for warning in self._warnings:
            ctx.log(warning, "warning")
        return [draft]

    def _made(self, pipe: Any) -> Any:
        """Run the pipeline, and return the pictures as bytes.

        Raises:
            VidqueueError: see `generate`.
        """
        arguments = self._arguments(pipe)
        self._ctx.progress(Progress(_LOADED, "prompt"))
        self._began = time.monotonic()
        try:
            result = pipe(**arguments)
        except Exception as error:
            if (told := _told(error)) is not None:
                raise told from error
            raise
        finally:
            if hasattr(pipe, "maybe_free_model_hooks"):
                pipe.maybe_free_model_hooks()
        if any(getattr(result, "nsfw_content_detected", None) or ()):
            raise VidqueueError("content_refused", "The model's content check refused the generated picture.")
        return pictures.as_pixels(result.images[0] if hasattr(result, "images") else result.frames[0])

    def _arguments(self, pipe: Any) -> dict[str, Any]:
        import torch

        params, native = self._params, self._folder.native
        values: dict[str, Any] = {"prompt": params.prompt, "width": self.size[0], "height": self.size[1]}
        if params.negative_prompt:
            values["negative_prompt"] = params.negative_prompt
        if params.image:
            from PIL import Image

            values["image"] = Image.fromarray(pictures.read_picture(self._ctx.input("image"), self.size, self._ctx))
        if self._pipeline.task != "text-to-image":
            values["num_frames"] = rungs.frames_of(params, self._pipeline, native)
        values |= {"num_inference_steps": params.steps} if params.steps is not None else {}
        values |= {"guidance_scale": params.guidance} if params.guidance is not None else {}
        # On the CPU, so that a seed gives the same noise on every device.
        values["generator"] = torch.Generator("cpu").manual_seed(self._seed)
        values |= {"output_type": "np", "callback_on_step_end": self._on_step}
        arguments, ignored = pipelines.accepted(pipe, values)
        self._warnings += [f"{type(pipe).__name__} does not accept {name}; it was ignored." for name in ignored]
        return arguments

    def _on_step(self, pipe: Any, number: int, _: Any, values: dict[str, Any]) -> dict[str, Any]:
        """Report a step, and raise if the job was canceled, which ends every pipeline of diffusers."""
        steps = max(int(getattr(pipe, "num_timesteps", 0) or 0), number + 1)
        share = (number + 1) / steps
        left = eta_s(share, time.monotonic() - self._began)
        fraction = _LOADED + share * (_SAMPLED - _LOADED)
        self._ctx.progress(Progress(fraction, "sample", f"step {number + 1} of {steps}", eta_s=left))
        self._show(pipe, values.get("latents"))
        return values

    def _show(self, pipe: Any, latents: Any) -> None:
        now = time.monotonic()
        if latents is None or now - self._shown < PREVIEW_EVERY_S:
            return
        self._shown = now
        config = getattr(getattr(pipe, "vae", None), "config", {})
        jpeg = preview_of(latents, config.get("z_dim") or config.get("latent_channels") or 0)
        if jpeg is not None:
            self._ctx.preview(jpeg)

    def _written(self, made: Any) -> OutputDraft:
        ctx, params = self._ctx, self._params
        ctx.progress(Progress(_DECODED, "write"))
        if self._pipeline.task == "text-to-image":
            path = ctx.output_path("image.png")
            return OutputDraft("image", path, "image/png", pictures.write_png(made, path, ctx))
        path = ctx.output_path("video.mp4")
        report = stage_reporter(ctx.progress, "write", len(made) / params.fps, begin=_DECODED, end=0.99)
        return OutputDraft("video", path, "video/mp4", pictures.write_mp4(made, path, params.fps, ctx, report))

    def _record(self, pipe: Any, wanted: pipelines.Wanted, files: dict[str, str]) -> dict[str, Any]:
        """Return the reproducibility record: everything that determines the bytes of the result."""
        asked = self._params.model_dump(mode="json", exclude={"allow_degrade", "image"})
        base = self._pipeline.path
        return {
            "model": self._params.model,
            "pipeline": type(pipe).__name__,
            "scheduler": type(getattr(pipe, "scheduler", None)).__name__,
            "sha256": {_name_of(Path(path), base): digest for path, digest in files.items()},
            "versions": record.versions(),
            "device": record.device_name(wanted.device),
            "dtype": wanted.precision,
            "parameters": asked | {"seed": self._seed, "width": self.size[0], "height": self.size[1]},
            "rungs": list(self._ctx.degraded),
        }


def _name_of(path: Path, base: Path) -> str:
    return str(path.relative_to(base)) if path.is_relative_to(base) else f"loras/{path.name}"


def _told(error: Exception) -> VidqueueError | None:
    """Return the error for an exception of a pipeline; None if the executor should classify it."""
    if isinstance(error, VidqueueError | OSError | CanceledError) or library_errors.code_of(error) is not None:
        return None
    return VidqueueError("model_failed", f"{type(error).__name__}: {error}")
