"""Stores on a disk: links, killed writers, full and read-only disks, filesystems that lack something."""

from __future__ import annotations

import errno
import os
import re
import resource
import signal
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from shardprep.core.blob import FileBlob
from shardprep.errors import StoreError
from shardprep.shards import local
from shardprep.shards.store import Store


def write(store: Store, name: str, data: bytes) -> bool:
    with store.create() as file:
        file.write(data)
        return file.commit(name)


@pytest.mark.parametrize("url", ["{}", "file://{}", "{}/", "{}/./x/.."])
def test_a_local_store_is_known_by_its_absolute_path(tmp_path: Path, url: str) -> None:
    store = Store(url.format(tmp_path))
    assert (store.url, store.is_local, store.path("a/b")) == (str(tmp_path), True, tmp_path / "a/b")


def test_a_relative_path_and_one_with_colons_are_local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for url in ("out", "./a::b", "memory:x", "a b/ü?*#\n"):
        store = Store(url)
        store.create_bytes("x", b"1")
        assert (tmp_path / url / "x").read_bytes() == b"1"
        assert store.at("sub").create_bytes("y", b"2")


def test_symbolic_links_are_followed_once_and_loops_end(tmp_path: Path) -> None:
    (tmp_path / "real/deep").mkdir(parents=True)
    (tmp_path / "real/deep/a.mp4").write_bytes(b"1")
    outside = tmp_path.with_name(tmp_path.name + "-outside")
    outside.mkdir()
    (outside / "b.mp4").write_bytes(b"22")
    links = {
        "aa": "real",
        "real/deep/up": "../..",
        "self": "self",
        "gone.mp4": "nowhere",
        "far": outside,
        "zfar": outside,
        "c.mp4": "real/deep/a.mp4",
    }
    for name, target in links.items():
        (tmp_path / name).symlink_to(target)
    (outside / "back").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe.mp4")
    found = {f.name: (f.size, f.version) for f in Store(str(tmp_path)).walk()}
    assert {name: size for name, (size, _) in found.items()} == {"c.mp4": 1, "far/b.mp4": 2, "gone.mp4": 0, "real/deep/a.mp4": 1, "self": 0}
    assert {name for name, (_, version) in found.items() if version == local.ABSENT} == {"self", "gone.mp4"}
    assert Store(str(tmp_path)).names() == {"c.mp4": 1}


WRITER = """
    import os, sys, time
    if sys.argv[2] == "named":
        del os.O_TMPFILE
    from shardprep.shards.store import Store
    with Store(sys.argv[1]).create() as file:
        file.write(b"x" * 1_000_000)
        file.flush()
        print("written", flush=True)
        time.sleep(60)
"""


@pytest.mark.parametrize("kind", ["unnamed", "named"])
def test_a_killed_writer_leaves_nothing_that_is_not_cleaned_and_a_living_one_is_let_be(tmp_path: Path, kind: str) -> None:
    store = Store(str(tmp_path))
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(WRITER), str(tmp_path), kind], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"written\n"
        assert len(os.listdir(tmp_path)) == (kind == "named")
        assert (store.names(), list(store.walk()), store.clean_temporaries()) == ({}, [], [])
        assert len(os.listdir(tmp_path)) == (kind == "named")
        process.send_signal(signal.SIGKILL)
    removed = store.clean_temporaries()
    assert len(removed) == (kind == "named")
    assert all(name.startswith(".tmp-") for name in removed)
    assert os.listdir(tmp_path) == []


def test_a_temporary_that_another_one_removes_at_that_moment_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two commands may clean up at a time."""
    for name in (".tmp-0123456789abcdef", ".tmp-1123456789abcdef"):
        (tmp_path / name).touch()
    listed = os.listdir

    def listed_before_it_went(path: str) -> list[str]:
        names = listed(path)
        (tmp_path / ".tmp-0123456789abcdef").unlink()
        return names

    monkeypatch.setattr(os, "listdir", listed_before_it_went)
    assert Store(str(tmp_path)).clean_temporaries() == [".tmp-1123456789abcdef"]


@pytest.mark.parametrize(("name", "words"), [("a.tar", "a.tar"), (None, r"\(a new file\)")])
def test_a_write_that_is_refused_names_its_file(tmp_path: Path, name: str | None, words: str) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Store(str(tmp_path)).create(name) as file:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
        try:
            with pytest.raises(StoreError, match=rf"writing {tmp_path}/{words}: .*too large"):
                file.write(bytes(1 << 20))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert os.listdir(tmp_path) == []


def test_without_hard_links_create_is_still_exclusive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, "no hard links on this filesystem")

    monkeypatch.delattr(os, "O_TMPFILE")
    monkeypatch.setattr(os, "link", refuse)
    store = Store(str(tmp_path))
    assert write(store, "a", b"1")
    assert not write(store, "a", b"2")
    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(lambda i: write(store, "b", b"%d" % i), range(16))) == 1
    assert store.read("a") == b"1"
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


ON_TMPFS = """
    import os, subprocess, sys
    from shardprep.errors import StoreError
    from shardprep.shards.store import Store
    place = sys.argv[1]
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", place], check=True)
    print("mounted", flush=True)
    if sys.argv[2] == "named":
        del os.O_TMPFILE
    store = Store(place)
    def attempt(size, chunk):
        try:
            with store.create() as file:
                for _ in range(0, size, chunk):
                    file.write(b"x" * chunk)
                file.commit("b")
        except StoreError as error:
            print(error, flush=True)
    assert store.create_bytes("a", b"kept")
    attempt(3_000_000, 1000)
    attempt(3_000_000, 3_000_000)
    attempt(1_000_000, 1_000_000)  # what the failures held is free again
    print(sorted(os.listdir(place)), flush=True)
    subprocess.run(["mount", "-o", "remount,ro", place], check=True)
    attempt(1, 1)
    for act in (lambda: store.remove("a"), lambda: store.replace_bytes("a", b"")):
        try:
            act()
        except StoreError as error:
            print(error, flush=True)
    print(store.names(), store.read("a"), flush=True)
"""


@pytest.mark.parametrize("kind", ["unnamed", "named"])
def test_a_full_and_a_read_only_disk_are_clear_errors_and_keep_what_is_there(tmp_path: Path, kind: str) -> None:
    command = ["unshare", "-m", sys.executable, "-c", textwrap.dedent(ON_TMPFS), str(tmp_path), kind]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if not done.stdout.startswith("mounted"):
        pytest.skip(f"mounting is not allowed here: {done.stderr[-200:]}")
    assert done.stderr == ""
    lines = done.stdout.splitlines()[1:]
    for line in lines[:2]:
        assert re.search(r"writing .*no space left \(\d+ bytes are free\)\. Free some, or choose another place", line)
    assert lines[2] == "['a', 'b']"
    for line in lines[3:6]:
        assert re.search(r"(writing|removing) .*the filesystem is read-only", line)
    assert lines[6] == "{'a': 4, 'b': 1000000} b'kept'"
    assert len(lines) == 7


def test_a_file_where_a_folder_is_expected_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    store = Store(str(tmp_path))
    for call in (lambda: store.at("a").names(), lambda: store.at("a").create_bytes("x", b""), lambda: store.read("a/x")):
        with pytest.raises(StoreError, match="is a file, not a folder"):
            call()
    with pytest.raises(StoreError, match="it is a folder, expected a file"):
        store.replace_bytes("folder", b"")
    with pytest.raises(StoreError, match="name is too long"):
        store.create_bytes("n" * 300, b"")
    assert sorted(os.listdir(tmp_path)) == ["a", "folder"]


def test_local_blobs_are_plain_file_ranges(tmp_path: Path) -> None:
    """So that a decoder or the loader can open the file itself."""
    store = Store(str(tmp_path))
    store.create_bytes("a", b"12345")
    assert store.blob("a", 1, 3) == FileBlob(str(tmp_path / "a"), 1, 3)
