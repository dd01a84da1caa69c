"""The safetensors format in a few functions: read a header with every bound checked, align tensor data, make an empty tensor."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

from shardprep.core.blob import Blob
from shardprep.errors import ShardError

# https://github.com/huggingface/safetensors: 8 bytes little-endian length, a JSON header, the data without holes.
ALIGNMENT = 64
"""Tensor data begins at a multiple of so many bytes, so that it can be mapped into memory."""
MAX_HEADER_BYTES = 100_000_000
_ITEM_BYTES = (
    dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 1)
    | dict.fromkeys(("U16", "I16", "F16", "BF16"), 2)
    | dict.fromkeys(("U32", "I32", "F32"), 4)
    | dict.fromkeys(("U64", "I64", "F64", "C64"), 8)
)
_MAX_DIMENSIONS = 64


@dataclass(frozen=True)
class TensorInfo:
    """Where a tensor lies: its bytes are `[start, end)` of the blob, little-endian, row-major."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def read_header(blob: Blob) -> dict[str, TensorInfo]:
    """Return the tensors of a safetensors blob by name, in the header's order; ShardError where any bound does not hold."""
    with blob.open() as file:
        length = _header_length(file.read(8), blob.size)
        text = file.read(length)
    data_start, data_size = 8 + length, blob.size - 8 - length
    tensors = {name: _tensor(name, entry, data_start, data_size) for name, entry in _entries(text).items() if name != "__metadata__"}
    _check_tiling(tensors, data_start, blob.size)
    return tensors


def align_header(data: bytes) -> bytes:
    """Return the same tensors with spaces after the JSON header, so that the tensor data starts at a multiple of `ALIGNMENT`."""
    length = _header_length(data[:8], len(data))
    return aligned(data[8 : 8 + length].rstrip(b" ")) + data[8 + length :]


def aligned(header: bytes) -> bytes:
    """Return a JSON header as a file begins with it: its length, and spaces behind it up to a multiple of `ALIGNMENT`."""
    header += b" " * (-(8 + len(header)) % ALIGNMENT)
    return len(header).to_bytes(8, "little") + header


def empty_tensor_file(name: str, dtype: str = "F32") -> bytes:
    """Return a safetensors file with one tensor of shape [0]: what stands for an absent member."""
    if dtype not in _ITEM_BYTES:
        raise ValueError(f"dtype {dtype!r}: expected one of {', '.join(_ITEM_BYTES)}")
    header = json.dumps({name: {"dtype": dtype, "shape": [0], "data_offsets": [0, 0]}}, separators=(",", ":")).encode()
    return aligned(header)


def _header_length(prefix: bytes, size: int) -> int:
    if len(prefix) < 8:
        raise ShardError(f"safetensors: {size} bytes are too few for a header; the file is cut short, make it again")
    length = int.from_bytes(prefix, "little")
    if length > min(MAX_HEADER_BYTES, size - 8):
        raise ShardError(f"safetensors: the header claims {length} bytes, the file has {size}; cut short, or no safetensors: make it again")
    return length


def _entries(text: bytes) -> dict[str, Any]:
    try:
        entries = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ShardError(f"safetensors: the header is no JSON ({error}); make the file again") from error
    if not isinstance(entries, dict):
        raise ShardError(f"safetensors: the header is a {type(entries).__name__}, expected an object; make the file again")
    return entries


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name occurs twice")
    return found


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _tensor(name: str, entry: Any, data_start: int, data_size: int) -> TensorInfo:
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise _wrong(name, "an entry has dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _ITEM_BYTES:
        raise _wrong(name, f"dtype {dtype!r} is none of {', '.join(_ITEM_BYTES)}")
    if not _are_counts(shape) or len(shape) > _MAX_DIMENSIONS:
        raise _wrong(name, f"shape {str(shape)[:100]} is no list of at most {_MAX_DIMENSIONS} sizes")
    if not _are_counts(offsets) or len(offsets) != 2 or not offsets[0] <= offsets[1] <= data_size:
        raise _wrong(name, f"data_offsets {str(offsets)[:100]} do not lie in the {data_size} bytes of data")
    if offsets[1] - offsets[0] != math.prod(shape) * _ITEM_BYTES[dtype]:
        raise _wrong(name, f"{offsets[1] - offsets[0]} bytes do not hold {dtype} of shape {shape}")
    return TensorInfo(dtype, tuple(shape), data_start + offsets[0], data_start + offsets[1])


def _are_counts(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int and 0 <= value < 1 << 63 for value in values)


def _check_tiling(tensors: dict[str, TensorInfo], data_start: int, size: int) -> None:
    position = data_start
    for name, tensor in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].end)):
        if tensor.start != position:
            raise _wrong(name, f"its data starts at {tensor.start}, expected {position}: tensors overlap or leave a hole")
        position = tensor.end
    if position != size:
        raise ShardError(f"safetensors: {size - position} bytes follow the last tensor; make the file again")


def _wrong(name: str, what: str) -> ShardError:
    return ShardError(f"safetensors: tensor {name[:100]!r}: {what}; make the file again")
