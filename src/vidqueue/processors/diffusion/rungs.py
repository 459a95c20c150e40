"""The out-of-memory ladder of `generate`: parameters that need less memory, and the sizes of a job."""

from __future__ import annotations

from typing import Any

from vidqueue.processors.diffusion.folder import Native, fewer_frames
from vidqueue.processors.diffusion.settings import Pipeline

# The smallest shorter side, as a share of the model's native one.
_SMALLEST_PART = 4
_HALF = {"float32": "bfloat16"}
_FURTHER = {"none": "model", "model": "layers"}


def next_rung(
    params: Any, pipeline: Pipeline, native: Native, code: str, device: str, size: tuple[int, int] | None = None
) -> dict[str, Any] | None:
    """Return the changes of parameters that reduce the need of memory; None if there are none.

    Args:
        params: the parameters of the job.
        pipeline: its pipeline.
        native: the native sizes of the pipeline.
        code: the code of the error. Offloading saves GPU memory only.
        device: the device of the lane, `cpu` or `cuda:0`.
        size: the size of the pictures, if it is known already.
    """
    precision = precision_of(params, pipeline, device)
    if precision in _HALF:
        return {"dtype": _HALF[precision]}
    if not params.tiling:
        return {"tiling": True}
    if code == "gpu_out_of_memory" and params.offload in _FURTHER:
        return {"offload": _FURTHER[params.offload]}
    return _smaller(params, pipeline, native, size or size_of(params, native))


def precision_of(params: Any, pipeline: Pipeline, device: str) -> str:
    """Return the precision of the weights: that of the job, else of the pipeline, else the default of the device."""
    chosen = pipeline.dtype if params.dtype == "auto" else params.dtype
    if chosen != "auto":
        return str(chosen)
    return "float32" if device == "cpu" else "bfloat16"


def size_of(params: Any, native: Native, picture: tuple[int, int] | None = None) -> tuple[int, int]:
    """The size of the pictures: a side that is not given follows the shape of the first picture, or of the model's own.

    Args:
        params: the parameters of the job.
        native: the native sizes of its pipeline.
        picture: width and height of the picture that a video begins with.
    """
    shape = native.width / native.height if picture is None else picture[0] / picture[1]
    if params.width and params.height:
        return params.width, params.height
    if params.width:
        return params.width, _rounded(params.width / shape, native.multiple)
    if params.height:
        return _rounded(params.height * shape, native.multiple), params.height
    area = native.width * native.height
    return _rounded((area * shape) ** 0.5, native.multiple), _rounded((area / shape) ** 0.5, native.multiple)


def frames_of(params: Any, pipeline: Pipeline, native: Native) -> int:
    """Return the number of pictures to make."""
    return 1 if pipeline.task == "text-to-image" else params.frames or native.frames


def _smaller(params: Any, pipeline: Pipeline, native: Native, size: tuple[int, int]) -> dict[str, Any] | None:
    width, height = (side * 3 // 4 // native.multiple * native.multiple for side in size)
    if min(width, height) >= max(native.multiple, min(native.width, native.height) // _SMALLEST_PART):
        return {"width": width, "height": height}
    fewer = fewer_frames(frames_of(params, pipeline, native), pipeline.frames_rule or native.frames_rule)
    return {"frames": fewer} if fewer else None


def _rounded(side: float, multiple: int) -> int:
    return max(multiple, round(side / multiple) * multiple)
