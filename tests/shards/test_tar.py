"""Tars: any reader reads ours, the same members give the same bytes, and whatever is hostile or cut is refused by name."""

from __future__ import annotations

import hashlib
import io
import subprocess
import tarfile
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pytest
import webdataset
from hypothesis import example, given
from hypothesis import strategies as st

from shardprep.core.blob import BytesBlob, FileBlob, read_blob
from shardprep.core.sample import Member
from shardprep.errors import ShardError
from shardprep.shards.hashed import BLOCK_BYTES
from shardprep.shards.store import Store
from shardprep.shards.tar import MAX_MEMBER_BYTES, TarWriter, index_tar
from tests.shards.tars import END, Samples, by_name, headers, index, write_tar

# webdataset leaves the files that it read to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


keys = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,40}", fullmatch=True)
suffixes = st.from_regex(r"[a-z0-9][a-z0-9_+-]{0,11}(\.[a-z0-9_+-]{1,12}){0,2}", fullmatch=True)
contents = st.binary(max_size=2000) | st.integers(500, 520).map(bytes) | st.just(b"\0" * 1024)
sample_sets = st.dictionaries(keys, st.dictionaries(suffixes, contents, min_size=1, max_size=4), max_size=5)


# What is written


@given(sample_sets)
def test_what_is_written_is_read_by_the_index_and_by_tarfile(samples: Samples) -> None:
    data, placed, digest = write_tar(samples)
    assert (digest.sha256, digest.size) == (hashlib.sha256(data).hexdigest(), len(data))
    assert index(data) == by_name(samples)
    assert list(index(data)) == list(by_name(samples))
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert {info.name: tar.extractfile(info).read() for info in tar} == by_name(samples)  # type: ignore[union-attr]  # a regular file
    for key, members in samples.items():
        for found, (suffix, content) in zip(placed[key], members.items(), strict=True):
            assert (found.suffix, found.size, found.crc32) == (suffix, len(content), zlib.crc32(content))
            assert found.sha256 == hashlib.sha256(content).hexdigest()[:32]
            assert data[found.offset : found.offset + found.size] == content


@given(sample_sets)
def test_the_bytes_are_those_of_tarfile_with_neutral_headers(samples: Samples) -> None:
    expected = b"".join(headers(name, content) for name, content in by_name(samples).items()) + END
    assert write_tar(samples)[0] == expected == write_tar(samples)[0]


MANY_FORMS: Samples = {
    "a-0123456789ab-00000": {"mp4": bytes(700), "json": b"{}", "latent.safetensors": b"z" * 512},
    "b_1": {"txt": b""},
    "0": {"jpg": b"j" * 1536, "a.b.c": b"1"},
    "k" * 96: {"mp4": b"name of 100 bytes"},
}


@given(sample_sets)
@example(MANY_FORMS)
def test_gnu_tar_lists_and_webdataset_reads_the_same_names_and_bytes(samples: Samples) -> None:
    with tempfile.NamedTemporaryFile(suffix=".tar") as file:
        file.write(write_tar(samples)[0])
        file.flush()
        listed = subprocess.run(["tar", "tf", file.name], capture_output=True, text=True, check=True)
        assert (listed.stdout.split(), listed.stderr) == (list(by_name(samples)), "")
        read = webdataset.WebDataset(file.name, shardshuffle=False, empty_check=False)
        found = {sample["__key__"]: {s: v for s, v in sample.items() if not s.startswith("__")} for sample in read}
    assert found == samples


def test_every_cut_of_a_tar_is_noticed() -> None:
    data, _, _ = write_tar({"a": {"mp4": bytes(1000), "json": b"{}"}, "b": {"mp4": b"", "json": bytes(512)}})
    assert index(data)
    for size in range(0, len(data), 512):
        with pytest.raises(ShardError, match=r"^some\.tar: .*cut short"):
            index(data[:size])


@given(st.data())
def test_a_cut_anywhere_is_noticed(draw: st.DataObject) -> None:
    data, _, _ = write_tar(draw.draw(sample_sets))
    with pytest.raises(ShardError, match="cut short"):
        index(data[: draw.draw(st.integers(0, len(data) - 1))])


@given(sample_sets, st.integers(0, 1 << 30), st.integers(0, 255))
def test_a_changed_byte_gives_a_shard_error_or_members_inside_the_file(samples: Samples, position: int, value: int) -> None:
    data = bytearray(write_tar(samples)[0])
    data[position % len(data)] = value
    for foreign in (False, True):
        try:
            members = list(index_tar(BytesBlob(bytes(data)), foreign=foreign))
        except ShardError:
            continue
        assert all(m.offset >= 512 and m.size >= 0 and m.offset + m.size <= len(data) for m in members)


@pytest.mark.parametrize("size", [0, 1, BLOCK_BYTES - 513, BLOCK_BYTES - 512, BLOCK_BYTES, 3 * BLOCK_BYTES + 7, 9 * BLOCK_BYTES])
def test_members_around_the_size_of_a_block_are_written_whole(tmp_path: Path, size: int) -> None:
    (tmp_path / "big").write_bytes((b"0123456789abcdef" * (size // 16 + 1))[:size])
    blob = FileBlob(str(tmp_path / "big"), 0, size)
    file = io.BytesIO()
    writer = TarWriter(file)
    placed = [writer.add(key, Member("bin", blob)) for key in ("a", "b")]
    assert writer.close().sha256 == hashlib.sha256(file.getvalue()).hexdigest()
    assert {p.sha256 for p in placed} == {hashlib.sha256(read_blob(blob)).hexdigest()[:32]}
    assert set(index(file.getvalue()).values()) == {read_blob(blob)}


def test_a_copied_member_is_checked_against_what_its_shard_says() -> None:
    data, placed, _ = write_tar({"a": {"mp4": b"moving"}})
    at = placed["a"][0]
    copied = Member("mp4", BytesBlob(data[at.offset : at.offset + at.size]), at.crc32, at.sha256)
    file = io.BytesIO()
    writer = TarWriter(file)
    assert writer.add("a", copied) == at
    writer.close()
    assert file.getvalue() == data
    damaged = Member("mp4", BytesBlob(b"mowing"), at.crc32, at.sha256)
    with pytest.raises(ShardError, match=r"^000007: b\.mp4 has crc32 .*damaged"):
        TarWriter(io.BytesIO(), "000007").add("b", damaged)
    with pytest.raises(ShardError, match=r"b\.mp4 has sha256 .*damaged"):
        TarWriter(io.BytesIO()).add("b", Member("mp4", BytesBlob(b"mowing"), None, at.sha256))


# What cannot be written


@dataclass(frozen=True)
class HugeBlob:
    """Announces a size and would read zeros."""

    size: int

    def open(self) -> BinaryIO:
        raise AssertionError("a member that does not fit is not opened")


@dataclass(frozen=True)
class ShortBlob:
    """Announces more than it has, or fails while it is read."""

    size: int
    content: bytes
    error: type[Exception] | None = None

    def open(self) -> BinaryIO:
        raw = io.BytesIO(self.content)
        if self.error is None:
            return raw

        class Failing(io.RawIOBase):
            def readable(self) -> bool:
                return True

            def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # a memoryview is what comes
                count = raw.readinto(buffer)
                if not count:
                    raise PermissionError("unreadable from here")
                return count

        return io.BufferedReader(Failing())


@pytest.mark.parametrize(
    ("key", "suffix", "words"),
    [
        ("a.b", "mp4", r"key 'a\.b'"),
        ("A", "mp4", "key 'A'"),
        ("", "mp4", "key ''"),
        ("../x", "mp4", "key"),
        ("/x", "mp4", "key"),
        ("-x", "mp4", "key"),
        ("ключ", "mp4", "key"),
        ("a\n", "mp4", "key"),
        ("a", "", "suffixes are"),
        ("a", "mp4/../../x", "suffixes are"),
        ("a", ".mp4", "suffixes are"),
        ("a", "__key__", "suffixes are"),
        ("a", "mp4\n", "suffixes are"),
        ("a", "é", "suffixes are"),
        ("k" * 97, "mp4", "has 101 bytes"),
    ],
)
def test_a_name_that_is_not_for_ustar_is_refused(key: str, suffix: str, words: str) -> None:
    with pytest.raises(ShardError, match=rf"^000123: .*{words}"):
        TarWriter(io.BytesIO(), "000123").add(key, Member(suffix, BytesBlob(b"")))


def test_a_member_of_8_gib_is_refused_with_that_reason_before_it_is_read() -> None:
    with pytest.raises(ShardError, match=rf"000001: a\.mp4 has {MAX_MEMBER_BYTES + 1} bytes.*less than 8 GiB"):
        TarWriter(io.BytesIO(), "000001").add("a", Member("mp4", HugeBlob(MAX_MEMBER_BYTES + 1)))


def test_a_key_that_returns_and_a_member_that_comes_twice_are_refused() -> None:
    writer = TarWriter(io.BytesIO())
    writer.add("a", Member("mp4", BytesBlob(b"1")))
    writer.add("b", Member("mp4", BytesBlob(b"2")))
    with pytest.raises(ShardError, match=r"'a\.json' comes after other keys"):
        writer.add("a", Member("json", BytesBlob(b"3")))
    writer.add("b", Member("json", BytesBlob(b"4")))
    with pytest.raises(ShardError, match=r"'b\.MP4' occurs twice"):  # WebDataset reads suffixes in lower case
        writer.add("b", Member("MP4", BytesBlob(b"5")))


@pytest.mark.parametrize("num_bytes", [10, BLOCK_BYTES - 512, 2 * BLOCK_BYTES, 5 * BLOCK_BYTES + 3])
@pytest.mark.parametrize("error", [None, PermissionError])
def test_a_sample_that_fails_leaves_the_tar_as_if_it_had_not_come(tmp_path: Path, num_bytes: int, error: type[Exception] | None) -> None:
    """The members before it and after it, and the digest, are those of a tar without it; its first member goes with it."""
    first, last = Member("bin", BytesBlob(b"first" * 1000)), Member("bin", BytesBlob(b"last" * (BLOCK_BYTES // 3)))
    store = Store(str(tmp_path))
    with store.create("a.tar") as file:
        writer = TarWriter(file)
        for attempt in range(2):
            writer.add(f"good-{attempt}", first)
            writer.add("bad", Member("json", BytesBlob(b"{}" * 300_000)))
            with pytest.raises((ShardError, PermissionError), match=r"cut short|unreadable"):
                writer.add("bad", Member("bin", ShortBlob(num_bytes + 1, bytes(num_bytes), error)))
        writer.add("last", last)
        digest = writer.close()
        file.commit()
    expected, _, expected_digest = write_tar(
        {"good-0": {"bin": b"first" * 1000}, "good-1": {"bin": b"first" * 1000}, "last": {"bin": read_blob(last.blob)}}
    )
    assert store.read("a.tar") == expected
    assert digest == expected_digest


def test_a_sample_can_be_taken_back_by_hand_and_come_again() -> None:
    file = io.BytesIO()
    writer = TarWriter(file)
    writer.take_back()
    writer.add("a", Member("x", BytesBlob(b"1")))
    writer.add("b", Member("x", BytesBlob(b"2")))
    writer.take_back()
    writer.take_back()
    writer.add("b", Member("y", BytesBlob(b"3")))
    writer.close()
    assert file.getvalue() == write_tar({"a": {"x": b"1"}, "b": {"y": b"3"}})[0]
