"""Classifying exceptions of torch, CUDA and cv2 by their names and words, so that none of them is imported."""

from __future__ import annotations

import re

# CUDA has no memory for its context then, or for the handle of a library.
_GPU_MEMORY = re.compile(
    r"CUDA error: out of memory|CU(?:BLAS|DNN|SPARSE|FFT|SOLVER)_STATUS_ALLOC_FAILED|CUFFT_ALLOC_FAILED"
)
_CV2_NO_MEMORY = -4
_BYTES = {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_SIZE = rf"(\d{{1,15}}(?:\.\d{{1,9}})?) ({'|'.join(_BYTES)})"
# As torch says it since 2.1, and before.
_WANTED = re.compile(
    rf"Tried to allocate {_SIZE}"
    rf"(?:\. GPU \d{{1,4}} has a total capacity of {_SIZE}| \(GPU \d{{1,4}}; {_SIZE} total capacity)"
)
# What torch adds for those who tune it.
_ADVICE = re.compile(r" (?:Of the allocated memory|If reserved but unallocated memory) ")


def code_of(error: BaseException) -> str | None:
    """Return `out_of_memory`, `gpu_out_of_memory` or `gpu_error` if an exception says so; None if it is another."""
    kind, text = type(error), str(error)
    if isinstance(error, MemoryError):
        return "out_of_memory"
    if kind.__name__ == "OutOfMemoryError" or _GPU_MEMORY.search(text):
        return "gpu_out_of_memory"
    if kind.__name__ == "AcceleratorError" or text.startswith("CUDA error"):
        return "gpu_error"
    if "DefaultCPUAllocator: can't allocate memory" in text:
        return "out_of_memory"
    if kind.__module__.startswith("cv2") and getattr(error, "code", None) == _CV2_NO_MEMORY:
        return "out_of_memory"
    return None


def memory_beyond_gpu(message: str) -> tuple[float, float] | None:
    """Return what torch tried to allocate and the memory of the whole GPU, in MiB, if the GPU is the smaller one."""
    if (found := _WANTED.search(message)) is None:
        return None
    sizes = [text for text in found.groups() if text is not None]
    wanted, whole = (float(number) * _BYTES[unit] / 2**20 for number, unit in zip(sizes[::2], sizes[1::2], strict=True))
    return (wanted, whole) if wanted > whole else None


def words_of(error: BaseException) -> str:
    """Return the first line of such an exception, without advice about torch's allocator."""
    text = str(error).split("\n", 1)[0]
    return _ADVICE.split(text, maxsplit=1)[0]
