"""A member that was changed after it was written is an error to whoever reads all of it, however they read."""

from __future__ import annotations

import io
import random
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest

from shardprep.core.blob import BytesBlob, FileBlob, read_blob
from shardprep.errors import ShardError
from shardprep.shards.checked import CheckedBlob

DATA = random.Random(0).randbytes(700_000)


def by_pieces(file: BinaryIO, size: int) -> bytes:
    return b"".join(iter(lambda: file.read(size), b""))


def back_and_forth(file: BinaryIO) -> bytes:
    """Read the end first, as players do, and the front twice."""
    file.seek(-1000, io.SEEK_END)
    file.read(10)
    file.seek(0)
    file.read(300_000)
    file.seek(100)
    file.read(50)
    file.seek(0)
    return by_pieces(file, 100_000)


def into_a_buffer(file: BinaryIO) -> bytes:
    buffer = bytearray(len(DATA))
    view, filled = memoryview(buffer), 0
    while count := file.readinto(view[filled:]):  # type: ignore[attr-defined] # BinaryIO lacks it
        filled += count
    return bytes(buffer)


READS: dict[str, Callable[[BinaryIO], bytes]] = {
    "whole": lambda file: file.read(),
    "pieces": lambda file: by_pieces(file, 4096),
    "large-pieces": lambda file: by_pieces(file, 1 << 19),
    "back-and-forth": back_and_forth,
    "into": into_a_buffer,
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
@pytest.mark.parametrize("place", [0, 1, 262_144, 350_000, len(DATA) - 1])
def test_a_changed_byte_anywhere_is_an_error_to_whoever_reads_all(tmp_path: Path, read: Callable[[BinaryIO], bytes], place: int) -> None:
    path = tmp_path / "tar"
    path.write_bytes(b"before" + DATA + b"after")
    checked = CheckedBlob(FileBlob(str(path), 6, len(DATA)), zlib.crc32(DATA), "clips/000000.tar: a.mp4")
    with checked.open() as file:
        assert read(file) == DATA
    flipped = bytearray(DATA)
    flipped[place] ^= 1
    path.write_bytes(b"before" + flipped + b"after")
    with checked.open() as file, pytest.raises(ShardError, match=r"clips/000000.tar: a.mp4 does not have the crc32 .* --repair"):
        read(file)


def test_a_part_is_read_without_a_check() -> None:
    checked = CheckedBlob(BytesBlob(DATA), 1, "x")
    with checked.open() as file:
        file.seek(500)
        assert file.read(10) == DATA[500:510]
    with pytest.raises(ShardError):
        read_blob(checked)


def test_what_is_open_below_is_closed_with_it() -> None:
    """Else a run of many clips would come to have as many files open."""
    below = io.BytesIO(DATA)

    class One(BytesBlob):
        def open(self) -> BinaryIO:
            return below

    with CheckedBlob(One(DATA), zlib.crc32(DATA), "x").open() as file:
        file.read(10)
        assert not below.closed
    assert below.closed
    file.close()


def test_a_member_of_no_bytes() -> None:
    assert read_blob(CheckedBlob(BytesBlob(b""), 0, "x")) == b""
