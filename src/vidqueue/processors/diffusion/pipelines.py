"""Loads pipelines of diffusers and keeps one loaded, with the LoRAs and the offloading of a job."""

from __future__ import annotations

import gc
import inspect
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vidqueue.errors import VidqueueError
from vidqueue.processors.context import Context
from vidqueue.processors.diffusion.folder import Folder
from vidqueue.processors.diffusion.settings import Task

_KEPT = "generate/pipeline"
# The names of the argument for the number of frames in video pipelines.
_LENGTHS = frozenset({"num_frames", "video_length"})
# Read by huggingface_hub and by CUDA when they are imported.
_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """The properties of a loaded pipeline; a job with other values needs it loaded anew."""

    path: Path
    precision: str
    offload: str
    device: str


@dataclass(slots=True)
class Warm:
    """The pipeline that this process has loaded, and its LoRAs."""

    wanted: Wanted | None = None
    pipe: Any = None
    loras: list[tuple[Path, float]] = field(default_factory=list)


def libraries() -> Any:
    """Import diffusers without network access and without progress bars.

    Raises:
        VidqueueError: `processor_unavailable`.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        import diffusers
        import transformers
    except ImportError as error:
        raise VidqueueError("processor_unavailable", f"generate cannot run here: {error}.") from error
    for one in (diffusers, transformers):
        one.utils.logging.set_verbosity_error()
        one.utils.logging.disable_progress_bar()
    return diffusers


def loaded(wanted: Wanted, folder: Folder, loras: list[tuple[Path, float]], ctx: Context) -> Any:
    """Return the pipeline, loaded by an earlier job or now; another loaded pipeline is dropped first.

    Raises:
        VidqueueError: `processor_unavailable`, `missing_model`.
    """
    warm: Warm = ctx.models.get(_KEPT, Warm)
    if warm.wanted != wanted:
        # It is put into the cache again once it is complete.
        ctx.models.drop(_KEPT)
        warm.pipe = None
        del warm
        _free()
        ctx.log(f"Loading {folder.class_name} from {folder.path}, {wanted.precision}.")
        fresh = Warm(wanted, _load(wanted, folder))
        warm = ctx.models.get(_KEPT, lambda: fresh)
    _change_loras(warm, loras)
    return warm.pipe


def _load(wanted: Wanted, folder: Folder) -> Any:
    diffusers = libraries()
    import torch

    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        pipe = diffusers.DiffusionPipeline.from_pretrained(
            str(folder.path), dtype=getattr(torch, wanted.precision), use_safetensors=True,
            local_files_only=True, trust_remote_code=False,
        )  # fmt: skip
    except (OSError, ValueError, AttributeError, ImportError) as error:
        raise VidqueueError("missing_model", f"The model cannot be loaded: {error}") from error
    pipe.set_progress_bar_config(disable=True)
    return _placed(pipe, wanted)


def _placed(pipe: Any, wanted: Wanted) -> Any:
    if wanted.device == "cpu" or wanted.offload == "none":
        return pipe.to(wanted.device)
    if wanted.offload == "model":
        pipe.enable_model_cpu_offload(device=wanted.device)
    else:
        pipe.enable_sequential_cpu_offload(device=wanted.device)
    return pipe


def _change_loras(warm: Warm, loras: list[tuple[Path, float]]) -> None:
    """Replace the LoRAs of the pipeline.

    Raises:
        VidqueueError: `model_failed`, the pipeline takes none, or not these.
    """
    if warm.loras == loras:
        return
    pipe = warm.pipe
    if not hasattr(pipe, "load_lora_weights"):
        raise VidqueueError("model_failed", f"{type(pipe).__name__} takes no LoRAs.")
    pipe.unload_lora_weights()
    warm.loras = []
    names = [f"lora{number}" for number in range(len(loras))]
    try:
        for name, (path, _) in zip(names, loras, strict=True):
            pipe.load_lora_weights(
                str(path.parent), weight_name=path.name, adapter_name=name, local_files_only=True, use_safetensors=True
            )
        if loras:
            pipe.set_adapters(names, [scale for _, scale in loras])
    except (ValueError, KeyError, RuntimeError, OSError) as error:
        pipe.unload_lora_weights()
        raise VidqueueError("model_failed", f"A LoRA does not fit the model: {error}") from error
    warm.loras = list(loras)


def accepted(pipe: Any, values: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the arguments that this pipeline accepts, and the names of those that it does not."""
    known = inspect.signature(type(pipe).__call__).parameters
    return {name: value for name, value in values.items() if name in known}, [n for n in values if n not in known]


def check_task(pipe: Any, task: Task) -> None:
    """Check that a pipeline fits the task that the configuration gives.

    Raises:
        VidqueueError: `missing_model`, it has another task.
    """
    known = inspect.signature(type(pipe).__call__).parameters
    makes_video = not _LENGTHS.isdisjoint(known)
    needs_picture = "image" in known and known["image"].default is inspect.Parameter.empty
    if makes_video != (task != "text-to-image"):
        does = "makes videos" if makes_video else "makes pictures"
    elif task == "image-to-video" and "image" not in known:
        does = "takes no picture"
    elif task != "image-to-video" and needs_picture:
        does = "needs a picture"
    else:
        return
    raise VidqueueError(
        "missing_model", f"{type(pipe).__name__} {does}: it is not for {task}.", hint="Correct `task` of the model."
    )


def set_tiling(pipe: Any, *, wanted: bool) -> None:
    """Enable or disable decoding in tiles and slices."""
    vae = getattr(pipe, "vae", None)
    for what in ("tiling", "slicing"):
        method = getattr(vae, f"{'enable' if wanted else 'disable'}_{what}", None)
        if method is not None:
            method()


def _free() -> None:
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
