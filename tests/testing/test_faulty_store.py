"""The failing store: every fault is a clear error, in this process and in spawned ones, and what fits goes on."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from shardprep.core.blob import read_blob
from shardprep.errors import StoreError, Unavailable
from shardprep.shards.store import Store
from shardprep.testing.faulty_store import ENVIRONMENT_VARIABLE, Faults, register_faulty


@pytest.fixture(scope="session", autouse=True)
def _faulty_is_known() -> None:
    register_faulty()


def write(store: Store, name: str, data: bytes) -> bool:
    with store.create() as file:
        file.write(data)
        return file.commit(name)


@pytest.fixture
def faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The control file, known through the environment; nothing fails yet."""
    path = tmp_path / "faults.json"
    Faults().save(path)
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(path))
    return path


def test_an_unreadable_file_is_named(tmp_path: Path, faults: Path) -> None:
    store = Store(f"faulty://{tmp_path}/out")
    for name in ("a.mp4", "b.mp4"):
        store.create_bytes(name, b"video")
    Faults(unreadable=("*/a.mp4",)).save(faults)
    for read in (lambda: store.read("a.mp4"), lambda: read_blob(store.blob("a.mp4")), lambda: store.fetch("a.mp4", tmp_path / "fetched")):
        with pytest.raises(StoreError, match=r"a\.mp4.*permission denied"):
            read()
    assert store.read("b.mp4") == read_blob(store.blob("b.mp4")) == b"video"
    assert not list((tmp_path / "fetched").iterdir())


def test_a_full_store_is_a_clear_error_and_what_fits_goes_on(tmp_path: Path, faults: Path) -> None:
    store = Store(f"faulty://{tmp_path}/out")
    Faults(capacity_bytes=1000, folder=f"{tmp_path}/out").save(faults)
    assert write(store, "a", bytes(600))
    with pytest.raises(StoreError, match=r"writing .*no space left"):
        write(store, "b", bytes(600))
    with pytest.raises(StoreError, match=r"writing .*/b: no space left"):
        store.create_bytes("b", bytes(600))
    assert write(store, "c", bytes(400))
    assert store.names() == {"a": 600, "c": 400}


def test_a_read_only_store_is_a_clear_error(tmp_path: Path, faults: Path) -> None:
    store = Store(f"faulty://{tmp_path}/out")
    store.create_bytes("a", b"1")
    Faults(read_only=True).save(faults)
    for act in (lambda: write(store, "b", b""), lambda: store.replace_bytes("a", b""), lambda: store.remove("a")):
        with pytest.raises(StoreError, match="is read-only"):
            act()
    assert store.read("a") == b"1"


def test_a_store_out_of_reach_is_unavailable_not_anybodys_fault(tmp_path: Path, faults: Path) -> None:
    store = Store(f"faulty://{tmp_path}/out")
    store.create_bytes("a", b"1")
    blob = store.blob("a")
    Faults(unreachable=True).save(faults)
    for act in (store.names, lambda: list(store.walk()), lambda: store.read("a"), lambda: read_blob(blob), lambda: write(store, "b", b"")):
        with pytest.raises(Unavailable, match="does not answer"):
            act()
    Faults().save(faults)
    assert store.names() == {"a": 1}


def _try_to_write(url: str) -> str:
    register_faulty()
    try:
        Store(url).create_bytes("x", b"1")
    except StoreError as error:
        return str(error)
    return "written"


def test_faults_reach_spawned_processes_and_change_while_they_run(tmp_path: Path, faults: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        Faults(read_only=True).save(faults)
        assert "read-only" in pool.apply(_try_to_write, (f"faulty://{tmp_path}/out",))
        Faults().save(faults)
        assert pool.apply(_try_to_write, (f"faulty://{tmp_path}/out",)) == "written"


def test_faults_can_be_given_as_a_storage_option(tmp_path: Path) -> None:
    Faults(read_only=True).save(tmp_path / "faults.json")
    with pytest.raises(StoreError, match="is read-only"):
        Store(f"faulty://{tmp_path}/out", {"faults": str(tmp_path / "faults.json")}).create_bytes("a", b"")
    assert Store(f"faulty://{tmp_path}/out").create_bytes("a", b"")
