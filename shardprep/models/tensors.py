"""Tensors to the bytes of a safetensors file and back.

Written by our own thin code: the safetensors library puts the metadata in an order that differs from run to run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from shardprep.core.tensors import aligned

if TYPE_CHECKING:
    import torch

_DTYPES = {
    "float32": "F32",
    "float64": "F64",
    "bfloat16": "BF16",
    "float16": "F16",
    "int64": "I64",
    "int32": "I32",
    "uint8": "U8",
    "bool": "BOOL",
}


def save_tensors(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None) -> bytes:
    """Return a safetensors file: the same bytes for the same tensors and metadata, tensor data aligned to 64 bytes.

    Tensors lie by falling item size and then by name, so that each one is aligned to its items.
    """
    header: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    parts: list[bytes] = []
    offset = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0])):
        data = _tensor_bytes(tensor)
        dtype = _DTYPES[str(tensor.dtype).removeprefix("torch.")]
        header[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [offset, offset + len(data)]}
        parts.append(data)
        offset += len(data)
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    return b"".join([aligned(text), *parts])


def load_tensors(data: bytes) -> dict[str, torch.Tensor]:
    """Return the tensors of a safetensors file by name, on the CPU."""
    import safetensors.torch

    tensors: dict[str, torch.Tensor] = safetensors.torch.load(data)
    return tensors


def load_metadata(data: bytes) -> dict[str, str]:
    """Return the metadata of a safetensors file; empty where it has none."""
    size = int.from_bytes(data[:8], "little")
    metadata: dict[str, str] = json.loads(data[8 : 8 + size]).get("__metadata__", {})
    return metadata


def _tensor_bytes(tensor: torch.Tensor) -> bytes:
    import torch

    flat = tensor.detach().cpu().contiguous().reshape(-1)
    data: bytes = flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""
    return data
