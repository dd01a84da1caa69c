"""Blobs: ranges of files that read like files of their own, from any thread, and say when their file was cut."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardprep.core.blob import Blob, BytesBlob, FileBlob, TempBlob, read_blob
from shardprep.errors import ShardError

DATA = bytes(range(256)) * 40


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("blob") / "data"
    path.write_bytes(DATA)
    return path


@pytest.fixture(params=["bytes", "file", "temp"])
def blob(request: pytest.FixtureRequest, path: Path) -> Iterator[Blob]:
    with tempfile.TemporaryFile() as file:
        file.write(DATA[100:5000])
        blobs = {"bytes": BytesBlob(DATA[100:5000]), "file": FileBlob(str(path), 100, 4900), "temp": TempBlob(file)}
        yield blobs[request.param]


def test_every_blob_reads_as_a_file_of_its_own(blob: Blob) -> None:
    expected = DATA[100:5000]
    assert blob.size == len(expected)
    assert read_blob(blob) == expected
    with blob.open() as file:
        assert file.seek(-10, os.SEEK_END) == 4890
        assert file.read(100) == expected[-10:]
        assert file.read(1) == b""
        file.seek(7)
        assert file.read(3) == expected[7:10]
        assert file.seek(5, os.SEEK_CUR) == 15
        assert file.tell() == 15
        file.seek(len(expected) + 5)
        assert file.read() == b""
        with pytest.raises(ValueError, match=r"seek|negative"):
            file.seek(-1)


def test_readers_of_one_blob_do_not_move_each_other(blob: Blob) -> None:
    def read_slowly(step: int) -> bytes:
        with blob.open() as file:
            return b"".join(iter(lambda: file.read(step), b""))

    with ThreadPoolExecutor(4) as threads:
        assert set(threads.map(read_slowly, [1, 3, 7, 64, 1000] * 4)) == {DATA[100:5000]}


@given(offset=st.integers(0, len(DATA)), size=st.integers(0, len(DATA)), seek=st.integers(0, len(DATA)), count=st.integers(0, 300))
def test_a_file_range_never_shows_a_byte_outside(path: Path, offset: int, size: int, seek: int, count: int) -> None:
    size = min(size, len(DATA) - offset)
    with FileBlob(str(path), offset, size).open() as file:
        file.seek(seek)
        assert file.read(count) == DATA[offset : offset + size][seek : seek + count]


@pytest.mark.parametrize("count", [-1, 4000])
def test_a_range_beyond_the_file_is_an_error_not_a_short_read(path: Path, count: int) -> None:
    with FileBlob(str(path), len(DATA) - 100, 4000).open() as file, pytest.raises(ShardError, match=f"ends at byte {len(DATA)}"):
        file.read(count)


def test_a_temporary_blob_needs_no_name(tmp_path: Path) -> None:
    with open(tmp_path / "x", "w+b") as file:
        file.write(b"abc")
        blob = TempBlob(file)
        (tmp_path / "x").unlink()
        assert read_blob(blob) == b"abc"
        reader = blob.open()
    with reader:
        assert reader.read() == b"abc"
