"""Our safetensors files: read by the library, the same bytes in every process, as large as their tensors."""

from __future__ import annotations

import subprocess
import sys

import pytest

from shardprep.models.tensors import load_metadata, load_tensors, save_tensors

torch = pytest.importorskip("torch")

METADATA = {name: name.upper() for name in ("model", "kind", "shift", "scale", "layout", "ümlaut")}


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float16", "int64", "int32", "uint8", "bool"])
def test_every_dtype_comes_back(dtype):
    tensor = (torch.randn(3, 5, generator=torch.Generator().manual_seed(0)) * 9).abs().to(getattr(torch, dtype))
    (back,) = load_tensors(save_tensors({"x": tensor})).values()
    assert back.dtype == tensor.dtype
    assert torch.equal(back, tensor)


def test_tensors_and_metadata_come_back_with_the_real_library(tmp_path):
    from safetensors import safe_open

    tensors = {"t5": torch.ones(3, 7, dtype=torch.bfloat16), "ids": torch.arange(3), "empty": torch.zeros(0, 4), "one": torch.tensor(2.5)}
    path = tmp_path / "a.safetensors"
    path.write_bytes(save_tensors(tensors, METADATA))
    with safe_open(path, "pt") as file:
        assert file.metadata() == METADATA
        assert set(file.keys()) == set(tensors)
        assert all(torch.equal(file.get_tensor(name), tensor) for name, tensor in tensors.items())
    assert load_metadata(path.read_bytes()) == METADATA
    assert load_metadata(save_tensors(tensors)) == {}


def test_data_is_aligned_and_nothing_else_is_stored():
    base = torch.arange(100_000, dtype=torch.float32)
    data = save_tensors({"x": base[10:20]}, METADATA)
    start = 8 + int.from_bytes(data[:8], "little")
    assert start % 64 == 0
    assert len(data) == start + 40
    assert torch.equal(load_tensors(data)["x"], base[10:20])


def test_views_are_stored_as_they_read():
    x = torch.arange(12).reshape(3, 4)
    assert torch.equal(load_tensors(save_tensors({"x": x.T}))["x"], x.T)


def test_the_bytes_do_not_depend_on_the_process_or_the_order():
    code = (
        "import torch, hashlib; from shardprep.models.tensors import save_tensors as s;"
        "print(hashlib.sha256(s({'b': torch.ones(3), 'a': torch.ones(2)}, {str(i): 'x' for i in range(9)})).hexdigest())"
    )
    outputs = {subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout for _ in range(2)}
    other = save_tensors({"a": torch.ones(2), "b": torch.ones(3)}, {str(i): "x" for i in reversed(range(9))})
    assert len(outputs) == 1
    assert other == save_tensors({"b": torch.ones(3), "a": torch.ones(2)}, {str(i): "x" for i in range(9)})


def test_the_alignment_of_the_core_has_nothing_to_add():
    tensors = pytest.importorskip("shardprep.core.tensors")
    data = save_tensors({"x": torch.ones(3)}, METADATA)
    assert tensors.align_header(data) == data
