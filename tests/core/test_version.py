"""Versions of files: what counts as another one, and that bytes of another one are not read."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from shardprep.core.blob import FileBlob, read_blob
from shardprep.core.version import FileVersion
from shardprep.errors import SourceChanged

LISTED = FileVersion(10, "100", 7, 200)


@pytest.mark.parametrize(
    ("now", "words"),
    [
        (None, "a.mp4 was removed after it was listed; run again"),
        (replace(LISTED, size=12), "it had 10 bytes and has 12; run again"),
        (replace(LISTED, tag="101"), "a.mp4 was changed after it was listed; run again"),
        (replace(LISTED, inode=8, changed_ns=201), "by a file of equal size and time; run again with retry"),
    ],
)
def test_another_version_is_named(now: FileVersion | None, words: str) -> None:
    with pytest.raises(SourceChanged, match=words):
        LISTED.check(now, "a.mp4")


@pytest.mark.parametrize(
    "now",
    [
        LISTED,
        replace(LISTED, inode=8),  # a file system that numbers anew
        replace(LISTED, changed_ns=201),  # another owner or mode, one more link
        FileVersion(10, "100"),
    ],
)
def test_what_says_nothing_of_the_content_is_no_other_version(now: FileVersion) -> None:
    LISTED.check(now, "a.mp4")
    now.check(LISTED, "a.mp4")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "a.bin").write_bytes(bytes(1 << 20))
    os.utime(tmp_path / "a.bin", ns=(1, 1))
    return tmp_path / "a.bin"


def blob_of(path: Path) -> FileBlob:
    return FileBlob(str(path), 0, path.stat().st_size, FileVersion.of(path.stat()))


def other(path: Path, data: bytes, mtime_ns: int | None = None) -> Path:
    new = path.with_name("new")
    new.write_bytes(data)
    if mtime_ns is not None:
        os.utime(new, ns=(mtime_ns, mtime_ns))
    return new


def test_a_file_that_was_replaced_removed_or_became_something_else_is_not_read(path: Path) -> None:
    listed = blob_of(path)
    assert len(read_blob(listed)) == 1 << 20
    path.rename(path.with_name("kept"))
    with pytest.raises(SourceChanged, match=r"a\.bin was removed"):
        listed.open()
    path.mkdir()
    with pytest.raises(SourceChanged, match=r"a\.bin was changed"):
        listed.open()
    path.rmdir()
    os.mkfifo(path)
    with pytest.raises(SourceChanged, match=r"a\.bin was changed"):
        listed.open()


def test_a_file_of_equal_size_and_time_in_its_place_is_not_read(path: Path) -> None:
    listed = blob_of(path)
    os.replace(other(path, b"x" * (1 << 20), 1), path)
    with pytest.raises(SourceChanged, match=r"a\.bin was replaced after it was listed"):
        listed.open()


def test_a_file_that_is_replaced_while_it_is_open_is_read_as_it_was(path: Path) -> None:
    with blob_of(path).open() as file:
        os.replace(other(path, b"x" * (1 << 20)), path)
        assert file.read() == bytes(1 << 20)


def test_a_file_that_is_written_while_it_is_open_gives_nothing_more(path: Path) -> None:
    with blob_of(path).open() as file:
        assert file.read(10) == bytes(10)
        with path.open("r+b") as writer:
            writer.seek(500_000)
            writer.write(b"x")
        with pytest.raises(SourceChanged, match=r"a\.bin was changed"):
            file.read()


def test_a_name_that_is_no_utf8_can_be_said(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.mp4"))
    path.write_bytes(b"1")
    listed = blob_of(path)
    path.write_bytes(b"22")
    with pytest.raises(SourceChanged, match=r"\\xff\.mp4 was changed") as caught:
        listed.open()
    str(caught.value).encode()
