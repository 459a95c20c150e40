"""Classifying exceptions of torch, CUDA and cv2 by their names and words, so that none of them is imported."""

from __future__ import annotations

import re

# CUDA has no memory for its context then, or for the handle of a library.
_GPU_MEMORY = re.compile(
    r"CUDA error: out of memory|CU(?:BLAS|DNN|SPARSE|FFT|SOLVER)_STATUS_ALLOC_FAILED|CUFFT_ALLOC_FAILED"
)
_CV2_NO_MEMORY = -4
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


def words_of(error: BaseException) -> str:
    """Return the first line of such an exception, without advice about torch's allocator."""
    text = str(error).split("\n", 1)[0]
    return _ADVICE.split(text, maxsplit=1)[0]
