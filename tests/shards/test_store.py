"""Stores: one suite of promises over every kind of store, and what only a disk, a failing store or an S3 server can do."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from shardprep.core.blob import read_blob
from shardprep.errors import StoreError
from shardprep.shards.store import Store, StoredFile
from shardprep.testing.faulty_store import register_faulty

HOSTILE_NAMES = ["", "/etc/passwd", "..", "../x", "a/../../x", "a//b", ".", "./a", "a/", "a\0b"]


@pytest.fixture(scope="session", autouse=True)
def _faulty_is_known() -> None:
    register_faulty()


@pytest.fixture(params=["disk", "disk without unnamed files", "memory", "s3", "faulty"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    name = re.sub(r"\W+", "-", request.node.name)[:60]
    if request.param == "memory":
        MemoryFileSystem.store.clear()
        return Store(f"memory://{name}/out")
    if request.param == "s3":
        return Store(f"s3://bucket/{name}/out", request.getfixturevalue("s3"))
    if request.param == "faulty":
        return Store(f"faulty://{tmp_path}/out")
    if request.param == "disk without unnamed files":
        monkeypatch.delattr(os, "O_TMPFILE")
    return Store(str(tmp_path / "out"))


def write(store: Store, name: str, data: bytes, *, replace: bool = False) -> bool:
    with store.create() as file:
        file.write(data)
        return file.commit(name, replace=replace)


# Promises of every store


def test_an_absent_folder_is_empty(store: Store) -> None:
    assert store.names() == {}
    assert store.size("a") is None
    assert list(store.walk()) == []
    assert store.clean_temporaries() == []
    store.remove("nothing")


def test_a_committed_file_is_there_with_its_bytes(store: Store) -> None:
    assert write(store, "b.tar", b"content")
    assert store.create_bytes("a.json", b"")
    assert store.names() == {"a.json": 0, "b.tar": 7}
    assert list(store.names()) == ["a.json", "b.tar"]
    assert (store.size("a.json"), store.size("b.tar"), store.size("b")) == (0, 7, None)
    assert (store.read("b.tar"), store.read("a.json")) == (b"content", b"")
    with pytest.raises(StoreError, match=r"reading .*/out/c: .*(not found|no.* file)"):
        store.read("c")


@pytest.mark.parametrize("size", [0, 5, 300_000])
def test_create_is_exclusive_and_replace_is_whole(store: Store, size: int) -> None:
    first, second = b"1" * size, b"2" * (size + 1)
    assert write(store, "a", first)
    assert not write(store, "a", second)
    assert not store.create_bytes("a", second)
    assert store.read("a") == first
    store.replace_bytes("a", second)
    assert store.read("a") == second
    assert write(store, "a", first, replace=True)
    assert store.read("a") == first
    assert write(store, "new", second, replace=True)
    assert store.names() == {"a": size, "new": size + 1}


def test_of_many_writers_one_wins_and_its_bytes_stay(store: Store) -> None:
    with ThreadPoolExecutor(8) as threads:
        won = [i for i, mine in enumerate(threads.map(lambda i: write(store, "a", b"%d" % i * 1000), range(16))) if mine]
    assert len(won) == 1
    assert store.read("a") == b"%d" % won[0] * 1000
    assert list(store.names()) == ["a"]


def test_leaving_without_commit_leaves_nothing(store: Store) -> None:
    store.create_bytes("kept", b"1")
    with store.create("a") as file:
        file.write(b"x" * 500_000)
    with contextlib.suppress(KeyError), store.create() as file:
        file.write(b"x")
        raise KeyError
    assert file.closed
    assert store.names() == {"kept": 1}
    assert [f.name for f in store.walk()] == ["kept"]
    assert store.path("kept") is None or os.listdir(store.url) == ["kept"]


def test_a_new_file_is_nowhere_before_its_commit(store: Store) -> None:
    with store.create("a") as file:
        file.write(b"x" * 500_000)
        file.flush()
        assert store.names() == {}
        assert list(store.walk()) == []
        assert file.commit()
    assert store.names() == {"a": 500_000}


def test_a_new_file_can_go_back(store: Store) -> None:
    with store.create("a") as file:
        file.write(memoryview(b"0123456789" * 30_000))
        assert file.tell() == 300_000
        file.seek(5)
        file.truncate(5)
        file.write(bytearray(b"ab"))
        file.commit()
    assert store.read("a") == b"01234ab"


def test_pyarrow_writes_into_a_new_file(store: Store) -> None:
    with store.create("a.parquet") as file:
        pq.write_table(pa.table({"x": [1, 2, 3]}), file)
        file.commit()
    assert pq.read_table(io.BytesIO(store.read("a.parquet")))["x"].to_pylist() == [1, 2, 3]


def test_blobs_read_ranges(store: Store) -> None:
    data = bytes(range(256)) * 50_000  # several blocks of a remote reader
    write(store, "a", data)
    whole, part = store.blob("a"), store.blob("a", 1000, 5_000_000)
    assert (whole.size, part.size, store.blob("a", 100).size, store.blob("a", len(data) + 1).size) == (
        len(data),
        5_000_000,
        len(data) - 100,
        0,
    )
    assert read_blob(whole) == data
    assert read_blob(part) == data[1000:5_001_000]
    assert read_blob(store.blob("a", len(data), 0)) == b""
    with part.open() as file:
        file.seek(-7, os.SEEK_END)
        assert file.read() == data[1000:5_001_000][-7:]
        assert file.seek(4_999_990) == 4_999_990
        assert file.read(5) == data[5_000_990:5_000_995]
        assert file.read() == data[5_000_995:5_001_000]
        buffer = bytearray(4_500_000)
        file.seek(3)
        assert file.readinto(buffer) == len(buffer)  # type: ignore[attr-defined]  # a buffered reader
        assert bytes(buffer) == data[1003:4_501_003]
        with pytest.raises(ValueError, match=r"seek|negative"):
            file.seek(-1)
    with pytest.raises(Exception, match=r"ends|replaced") as caught:
        read_blob(store.blob("a", len(data) - 10, 100))
    assert type(caught.value).__name__ in {"ShardError", "StoreError"}


def test_names_lists_one_folder_and_walk_the_tree_sorted(store: Store) -> None:
    for name in ("b", "a/z", "a-1", "a/b/c d ü.mp4", "é '#?%.mp4"):
        assert write(store, name, name.encode())
    assert store.names() == {"a-1": 3, "b": 1, "é '#?%.mp4": 11}
    found = list(store.walk())
    assert [(f.name, f.size) for f in found] == [(n, len(n.encode())) for n in sorted(["b", "a/z", "a-1", "a/b/c d ü.mp4", "é '#?%.mp4"])]
    assert store.folders() == ["a"]
    sub = store.at("a")
    assert sub.names() == {"z": 3}
    assert sub.folders() == ["b"]
    assert sub.at("b").folders() == store.at("nowhere").folders() == []
    assert [f.name for f in sub.at("b").walk()] == ["c d ü.mp4"]
    assert store.read("a/z") == sub.read("z") == b"a/z"


def test_a_version_changes_with_the_content_only(store: Store) -> None:
    store.create_bytes("a", b"1")
    (before,) = store.walk()
    assert before == StoredFile("a", 1, before.version)
    assert list(store.walk()) == [before]
    time.sleep(0.02)
    store.replace_bytes("a", b"2")
    (after,) = store.walk()
    assert after.version != before.version


def test_fetch_gives_a_local_file(store: Store, tmp_path: Path) -> None:
    write(store, "sub/a.tar", b"content")
    path = store.fetch("sub/a.tar", tmp_path / "fetched")
    assert path.name == "a.tar"
    assert path.read_bytes() == b"content"
    assert path == store.path("sub/a.tar") if store.is_local else os.listdir(tmp_path / "fetched") == ["a.tar"]
    with pytest.raises(StoreError, match=r"gone.*(not found|no.* file)"):
        store.read("gone") if store.is_local else store.fetch("gone", tmp_path / "fetched")
    assert not list((tmp_path / "fetched").glob(".tmp-*"))


def test_remove_removes_and_is_content_with_nothing(store: Store) -> None:
    store.create_bytes("a", b"1")
    store.remove("a")
    assert store.names() == {}
    store.remove("a")
    assert store.create_bytes("a", b"2")


def test_what_is_gone_is_passed_over_and_nothing_else(store: Store) -> None:
    with store.unless_gone("a"):
        store.read("a")
    with store.unless_gone("a"):
        try:
            store.read("a")
        finally:
            store.create_bytes("a", b"1")
    with pytest.raises(StoreError, match="refused"), store.unless_gone("a"):
        raise StoreError("refused")
    with pytest.raises(ValueError, match="another"), store.unless_gone("b"):
        raise ValueError("another")


def test_listings_are_fresh(store: Store) -> None:
    other = Store(store.url, store.__reduce__()[1][1])
    assert other.names() == {}
    store.create_bytes("a", b"1")
    assert (other.names(), other.size("a")) == ({"a": 1}, 1)
    store.replace_bytes("a", b"22")
    assert (other.names(), other.blob("a").size, [f.size for f in other.walk()]) == ({"a": 2}, 2, [2])


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_no_name_leads_outside(store: Store, name: str, tmp_path: Path) -> None:
    calls: list[Callable[[], object]] = [
        lambda: store.at(name),
        lambda: store.read(name),
        lambda: store.blob(name),
        lambda: store.path(name),
        lambda: store.fetch(name, tmp_path / "fetched"),
        lambda: store.create(name),
        lambda: store.create_bytes(name, b""),
        lambda: store.replace_bytes(name, b""),
        lambda: store.remove(name),
        lambda: write(store, name, b""),
    ]
    for call in calls:
        with pytest.raises(StoreError if name else (StoreError, ValueError), match=r"leads outside|needs a name"):
            call()
    assert store.names() == {}


def test_a_store_travels_to_another_process(store: Store) -> None:
    store.create_bytes("a", b"1")
    again = pickle.loads(pickle.dumps(store))  # noqa: S301  # our own bytes, as multiprocessing makes them
    assert (again.url, again.is_local, again.names()) == (store.url, store.is_local, {"a": 1})
