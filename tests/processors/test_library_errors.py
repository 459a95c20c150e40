"""Exceptions of torch, CUDA and cv2 that say that memory ran out or that a GPU failed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from vidqueue.processors.library_errors import code_of, memory_beyond_gpu, words_of


class AcceleratorError(RuntimeError):
    """That of torch, by name: a GPU is needed to raise it."""


def torch_on_the_cpu() -> None:
    import torch

    torch.empty(1 << 55, dtype=torch.uint8)


def numpy() -> None:
    import numpy as np

    np.empty(1 << 55, dtype=np.uint8)


def cv2() -> None:
    import cv2
    import numpy as np

    cv2.resize(np.zeros((1, 1, 3), np.uint8), (1 << 23, 1 << 23))


@pytest.mark.parametrize("library", [torch_on_the_cpu, numpy, cv2])
def test_a_library_that_gets_no_memory_of_the_machine_is_told_by_the_code(library: Callable[[], None]) -> None:
    with pytest.raises(Exception, match="llocat") as raised:
        library()
    assert code_of(raised.value) == "out_of_memory"
    assert words_of(raised.value)


# As torch 2.11 says it on an H200.
TORCH = (
    "CUDA out of memory. Tried to allocate 210.60 GiB. GPU 0 has a total capacity of 139.80 GiB of which 139.29 GiB is "
    "free. Including non-PyTorch memory, this process has 518.00 MiB memory in use. Of the allocated memory 0 bytes is "
    "allocated by PyTorch, and 0 bytes is reserved by PyTorch but unallocated. If reserved but unallocated memory is "
    "large try setting PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True to avoid fragmentation."
)


@pytest.mark.parametrize(
    ("said", "beyond"),
    [
        (TORCH, (210.6 * 1024, 139.8 * 1024)),
        (TORCH.replace("210.60", "2.60"), None),
        (TORCH.replace("139.80 GiB", "900.00 MiB"), (210.6 * 1024, 900)),
        ("Tried to allocate 20.00 GiB (GPU 0; 15.75 GiB total capacity; 1 GiB free)", (20480, 16128)),
        ("Tried to allocate 20.00 MiB (GPU 0; 15.75 GiB total capacity; 1 GiB free)", None),
        ("CUDA out of memory.", None),
    ],
)  # fmt: skip
def test_a_need_beyond_the_whole_gpu_is_read_from_what_torch_says(
    said: str, beyond: tuple[float, float] | None
) -> None:
    assert memory_beyond_gpu(said) == (beyond and pytest.approx(beyond))


def test_a_gpu_without_memory_is_told_from_a_gpu_that_fails() -> None:
    import torch

    full = torch.OutOfMemoryError(TORCH)
    assert code_of(full) == "gpu_out_of_memory"
    assert words_of(full).endswith(
        "139.29 GiB is free. Including non-PyTorch memory, this process has 518.00 MiB memory in use."
    )
    assert code_of(AcceleratorError("CUDA error: out of memory\nCUDA kernel errors might be")) == "gpu_out_of_memory"
    no_handle = "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"
    assert code_of(RuntimeError(no_handle)) == "gpu_out_of_memory"
    assert code_of(RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED")) == "gpu_out_of_memory"
    assert code_of(AcceleratorError("CUDA error: device-side assert triggered")) == "gpu_error"
    assert code_of(RuntimeError("CUDA error: unspecified launch failure")) == "gpu_error"
    assert code_of(RuntimeError("The size of tensor a must match")) is None
