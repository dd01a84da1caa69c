"""Out-of-memory errors are recognised, whoever raises them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from shardprep.models.memory import is_device_lost, is_out_of_memory


def test_real_errors_of_torch_are_recognised():
    torch = pytest.importorskip("torch")
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"))


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("CUDA error: out of memory"), RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate")],
)
def test_errors_without_a_class_of_their_own_are_recognised(error):
    assert is_out_of_memory(error)


@pytest.mark.parametrize("error", [RuntimeError("mat1 and mat2 shapes cannot be multiplied"), ValueError("out of memory"), KeyError("x")])
def test_other_errors_are_not(error):
    assert not is_out_of_memory(error)


def test_torch_is_not_imported_to_ask():
    code = (
        "import sys; from shardprep.models.memory import is_out_of_memory as f; assert f(MemoryError()); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("error", "is_lost"),
    [
        (RuntimeError("CUDA error: device-side assert triggered\nCUDA kernel errors might be asynchronously reported"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), True),
        (RuntimeError("CUDA error: out of memory"), False),
        (RuntimeError("illegal memory access"), False),
        (ValueError("CUDA error: device-side assert triggered"), False),
    ],
)
def test_a_lost_device_is_recognised(error, is_lost):
    assert is_device_lost(error) is is_lost
