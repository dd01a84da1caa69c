"""What a source's tars hold is read once: until a tar changes, and whatever becomes of what was kept."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shardprep.core.version import FileVersion
from shardprep.driver.plan import plan
from shardprep.driver.run import run
from shardprep.driver.verify import verify
from shardprep.recipe.model import Recipe, RunSettings
from shardprep.shards.store import Store
from shardprep.sources import tar_index
from shardprep.sources.entry import SourceEntry
from shardprep.sources.listing import list_source
from shardprep.sources.spec import SourceSpec
from shardprep.sources.tar_index import TarIndexes, damaged_indexes
from tests.driver.outputs import files, strays
from tests.sources.test_tars import write_tar


@pytest.fixture
def walked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tars that are read, as they are."""
    names: list[str] = []

    def counting(
        store: Store, base: str, seen: FileVersion, name: str, pass_over: Callable[[str], object]
    ) -> Iterator[tar_index.TarSample]:
        names.append(name)
        yield from plain(store, base, seen, name, pass_over)

    plain = tar_index.read_tar
    monkeypatch.setattr(tar_index, "read_tar", counting)
    return names


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three tars: one with all that a sample may have, one with samples that are refused, one that is cut short."""
    folder = tmp_path / "tars"
    folder.mkdir()
    document = {"caption": "two \ud800 halves", "fps": 23.976, "nan": float("nan"), "deep": {"list": [1, None, "x"]}, "big": 2**70}
    rich = {"a b/C.MP4": b"video", "a b/C.json": json.dumps(document).encode(), "a b/C.TXT": b"text", "ü.jpg": b"image"}
    write_tar(folder / "rich.tar", rich)
    write_tar(folder / "refused.tar", {"a.mp4": b"1", "a.pkl": b"2", "b.mp4": b"3", "b.json": b"[]", "c.mp4": b"4"})
    whole = write_tar(folder / "cut.tar", {f"{name}.mp4": b"x" * 600 for name in "abc"})
    whole.write_bytes(whole.read_bytes()[:3500])
    return folder


def listed(folder: Path, indexes: TarIndexes | None = None) -> list[SourceEntry]:
    return list_source(SourceSpec(shards=f"{folder}/*.tar"), (), indexes)


def test_a_tar_that_did_not_change_is_not_read_again(folder: Path, tmp_path: Path, walked: list[str]) -> None:
    fresh = listed(folder)
    assert {entry.failure.reason for entry in fresh if entry.failure} == {"pickle-member", "bad-json", "damaged-tar"}
    store = Store(str(tmp_path / "kept"))
    first = TarIndexes(store)
    assert listed(folder, first) == fresh
    assert not (tmp_path / "kept").exists(), "looking writes nothing"
    first.save()
    walked.clear()
    again = TarIndexes(store)
    assert listed(folder, again) == fresh
    assert walked == []
    before = files(tmp_path / "kept")
    again.save()
    assert files(tmp_path / "kept") == before
    assert len(before) == 3


def test_one_that_changed_is_read_and_one_that_went_is_forgotten(folder: Path, tmp_path: Path, walked: list[str]) -> None:
    store = Store(str(tmp_path / "kept"))
    first = TarIndexes(store)
    listed(folder, first)
    first.save()
    walked.clear()
    write_tar(folder / "refused.tar", {"d.mp4": b"now another"})
    (folder / "cut.tar").unlink()
    second = TarIndexes(store)
    assert [entry.path for entry in listed(folder, second)] == ["refused.tar!d", "rich.tar!a b/C", "rich.tar!ü"]
    assert walked == ["refused.tar"]
    second.save()
    assert len(store.names()) == 2


@pytest.mark.parametrize("damage", [b"", b"not compressed", b"\x78\x9c"])
def test_what_was_kept_may_be_damaged(folder: Path, tmp_path: Path, walked: list[str], damage: bytes) -> None:
    store = Store(str(tmp_path / "kept"))
    first = TarIndexes(store)
    fresh = listed(folder, first)
    first.save()
    for name in store.names():
        store.replace_bytes(name, damage)
    walked.clear()
    second = TarIndexes(store)
    assert listed(folder, second) == fresh
    assert sorted(walked) == ["cut.tar", "refused.tar", "rich.tar"]
    second.save()
    walked.clear()
    listed(folder, TarIndexes(store))
    assert walked == []


def test_a_second_run_reads_no_tar_of_the_source(folder: Path, tmp_path: Path, walked: list[str]) -> None:
    source = SourceSpec(shards=f"{folder}/*.tar")
    recipe = Recipe(name="tars", source=source, output=str(tmp_path / "out"), settings=RunSettings(workers=1, max_failed=100), steps=())
    assert plan(recipe).has_work
    assert not (tmp_path / "out").exists()
    [raw] = run(recipe).steps
    assert raw.samples_out == 4, "two of rich, c of refused, a of the one that is cut short"
    assert len(walked) == 6
    walked.clear()
    before = files(tmp_path / "out")
    [raw] = run(recipe).steps
    assert (raw.shards_made, walked, files(tmp_path / "out")) == (0, [], before)
    assert (strays(tmp_path / "out"), list(verify(str(tmp_path / "out")))) == ([], [])
    os.utime(folder / "rich.tar")
    assert plan(recipe).has_work, "as with any file: another time is another version"
    assert walked == ["rich.tar"]


def test_every_changed_byte_of_what_was_kept_is_found_and_gives_no_wrong_value(folder: Path, tmp_path: Path) -> None:
    recipe = Recipe(name="tars", source=SourceSpec(shards=f"{folder}/rich.tar"), steps=(), output=str(tmp_path / "out"))
    run(recipe)
    fresh = listed(folder)
    (kept,) = (tmp_path / "out/raw/tars").iterdir()
    data = kept.read_bytes()
    for place in range(len(data)):
        flipped = bytearray(data)
        flipped[place] ^= 1 << (place % 8)
        kept.write_bytes(flipped)
        assert damaged_indexes(Store(str(kept.parent))) == [kept.name], place
        assert listed(folder, TarIndexes(Store(str(kept.parent)))) == fresh
    assert [str(problem) for problem in verify(str(tmp_path / "out"))] == [
        f"{kept}: it was changed after it was written. Run the recipe again: it is a cache, and made anew"
    ]
    run(recipe)
    assert list(verify(str(tmp_path / "out"))) == []


def test_what_was_kept_of_one_tar_in_the_place_of_another_is_found_and_not_used(tmp_path: Path) -> None:
    tars = tmp_path / "tars"
    tars.mkdir()
    for name in ("one", "two"):
        write_tar(tars / f"{name}.tar", {f"{name}.mp4": b"video"})
    store = Store(str(tmp_path / "kept"))
    indexes = TarIndexes(store)
    fresh = listed(tars, indexes)
    indexes.save()
    first, second = sorted((tmp_path / "kept").iterdir())
    first.write_bytes(second.read_bytes())
    assert damaged_indexes(store) == [first.name]
    assert listed(tars, TarIndexes(store)) == fresh
