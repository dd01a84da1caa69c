"""The safetensors format: what the library writes is read, what it would refuse is refused, and data is aligned."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from safetensors import SafetensorError

from shardprep.core.blob import BytesBlob
from shardprep.core.tensors import ALIGNMENT, TensorInfo, align_header, empty_tensor_file, read_header
from shardprep.errors import ShardError

DTYPES = {"F32": np.float32, "F16": np.float16, "F64": np.float64, "I64": np.int64, "I32": np.int32, "U8": np.uint8, "BOOL": np.bool_}


def packed(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


@st.composite
def tensors(draw: st.DrawFn) -> dict[str, np.ndarray]:
    names = draw(st.lists(st.text(st.characters(codec="utf-8"), min_size=1).filter(lambda n: n != "__metadata__"), max_size=4, unique=True))
    shapes = st_numpy.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
    return {name: draw(st_numpy.arrays(draw(st.sampled_from(list(DTYPES.values()))), draw(shapes))) for name in names}


@given(tensors())
def test_what_the_library_writes_is_found_and_aligned(arrays: dict[str, np.ndarray]) -> None:
    written = safetensors.numpy.save(arrays, metadata={"who": "test"})
    aligned = align_header(written)
    found = read_header(BytesBlob(aligned))
    assert found.keys() == arrays.keys()
    assert min((t.start for t in found.values()), default=0) % ALIGNMENT == 0
    for name, array in arrays.items():
        info = found[name]
        assert (DTYPES[info.dtype], info.shape) == (array.dtype, array.shape)
        assert aligned[info.start : info.end] == array.tobytes()
    loaded = safetensors.numpy.load(aligned)
    assert {n: a.tobytes() for n, a in loaded.items()} == {n: a.tobytes() for n, a in arrays.items()}
    assert align_header(aligned) == aligned


@pytest.mark.parametrize("dtype", ["F32", "BF16", "U8"])
def test_an_empty_tensor_stands_for_an_absent_member(dtype: str) -> None:
    data = empty_tensor_file("latent", dtype)
    assert len(data) % 64 == 0
    assert read_header(BytesBlob(data)) == {"latent": TensorInfo(dtype, (0,), len(data), len(data))}
    if dtype == "F32":
        assert safetensors.numpy.load(data)["latent"].shape == (0,)


def test_an_unknown_dtype_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"float32.*F32"):
        empty_tensor_file("x", "float32")


F4 = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
HOSTILE = {
    "empty": (b"", "too few"),
    "seven bytes": (b"1234567", "too few"),
    "length beyond the file": (packed({})[:8] + b"", "claims 2 bytes"),
    "length of 2^64 - 1": (b"\xff" * 8 + b"{}", "claims"),
    "cut header": (packed({"a": F4}, b"1234")[:20], "claims"),
    "no JSON": (packed(b"{]"), "no JSON"),
    "not UTF-8": (packed(b'{"\xff\xfe":1}'), "no JSON"),
    "a list": (packed([1]), "is a list"),
    "nested without end": (packed(b"[" * 200_000), "no JSON"),
    "NaN": (packed(b'{"a": NaN}'), "no JSON"),
    "a number of a million digits": (packed(b'{"a": ' + b"9" * 1_000_000 + b"}"), "no JSON"),
    "a name twice": (packed(b'{"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},"a":1}'), "occurs twice"),
    "no shape": (packed({"a": {"dtype": "F32", "data_offsets": [0, 4]}}, b"1234"), "an entry has"),
    "unknown dtype": (packed({"a": F4 | {"dtype": "F3"}}, b"1234"), "dtype 'F3'"),
    "dtype no string": (packed({"a": F4 | {"dtype": ["F32"]}}, b"1234"), "dtype"),
    "negative size": (packed({"a": F4 | {"shape": [-1]}}, b"1234"), "shape"),
    "size true": (packed({"a": F4 | {"shape": [True]}}, b"1234"), "shape"),
    "size no number": (packed({"a": F4 | {"shape": ["1"]}}, b"1234"), "shape"),
    "too many dimensions": (packed({"a": F4 | {"shape": [1] * 65}}, b"1234"), "shape"),
    "shape larger than data": (packed({"a": F4 | {"shape": [1 << 62, 1 << 62]}}, b"1234"), "do not hold"),
    "offsets beyond the data": (packed({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, b"1234"), "do not lie"),
    "offsets backwards": (packed({"a": F4 | {"data_offsets": [4, 0]}}, b"1234"), "do not lie"),
    "offsets negative": (packed({"a": F4 | {"data_offsets": [-4, 0]}}, b"1234"), "do not lie"),
    "three offsets": (packed({"a": F4 | {"data_offsets": [0, 4, 4]}}, b"1234"), "do not lie"),
    "overlap": (packed({"a": F4, "b": F4}, b"1234"), "overlap"),
    "hole": (packed({"a": F4, "b": F4 | {"data_offsets": [5, 9]}}, b"123456789"), "leave a hole"),
    "bytes behind": (packed({"a": F4}, b"12345"), "follow the last"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_header_whose_bounds_do_not_hold_is_refused(case: str) -> None:
    data, words = HOSTILE[case]
    with pytest.raises(ShardError, match=words):
        read_header(BytesBlob(data))


@given(st.integers(0, 200), st.integers(0, 255))
def test_a_flipped_byte_is_refused_or_means_what_the_library_reads(position: int, value: int) -> None:
    data = bytearray(align_header(safetensors.numpy.save({"a": np.zeros(3, np.float32), "b": np.zeros((2, 2), np.uint8)})))
    data[position % len(data)] = value
    try:
        found = read_header(BytesBlob(bytes(data)))
    except ShardError:
        return
    try:
        loaded = safetensors.numpy.load(bytes(data))
    except (SafetensorError, KeyError):
        return  # stricter than we are, or a dtype that numpy lacks
    assert {name: info.shape for name, info in found.items()} == {name: array.shape for name, array in loaded.items()}
