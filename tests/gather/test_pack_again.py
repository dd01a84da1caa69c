"""Packing again: the same bytes, after a kill, beside another run, into another store."""

from __future__ import annotations

import shutil
from pathlib import Path

import fsspec
import pytest

from shardprep.driver.packing import PackStep
from shardprep.errors import IncompleteSet
from shardprep.gather.outline import outline_shard
from shardprep.gather.pack import PackTask, pack_shard
from shardprep.gather.settings import Pack
from shardprep.packed.sets import open_set
from shardprep.packed.verify import verify_packed
from shardprep.shards.set import ShardSet
from shardprep.shards.store import Store
from tests.built_sets import Made, write_base
from tests.gather.packings import files, manifest_of, order, pack, packing_folder, packing_of


def test_packed_twice_is_the_same_bytes(tmp_path: Path, sets: list[ShardSet]) -> None:
    pack(tmp_path, sets)
    first = files(tmp_path / "train")
    assert pack(tmp_path, sets) == []
    assert files(tmp_path / "train") == first
    for path in (tmp_path / "train").rglob("*"):
        if path.is_file():
            path.unlink()
    pack(tmp_path, sets)
    assert files(tmp_path / "train") == first
    assert not [name for name in first if name.endswith((".rows", ".tmp", "digests.json"))]


@pytest.mark.parametrize("killed_after", range(8))
def test_a_killed_packing_makes_only_what_is_missing(tmp_path: Path, sets: list[ShardSet], killed_after: int) -> None:
    settings = Pack(samples_per_shard=2)
    pack(tmp_path, sets, settings)
    whole = files(tmp_path / "train")
    num_shards = len(manifest_of(tmp_path).shards)
    again = tmp_path / "again"
    for one in sets:
        copied(Path(one.store.url), again / one.info.step)
    there = [ShardSet.open(Store(str(again / one.info.step))) for one in sets]
    packing = packing_of(again, there, settings)
    tasks = packing.start([outline_shard(task) for task in packing.outline_tasks()])
    for task in tasks[:killed_after]:
        pack_shard(task)
    assert len(pack(again, there, settings)) == num_shards - min(killed_after, num_shards)
    assert files(again / "train") == whole


def copied(source: Path, target: Path) -> None:
    shutil.copytree(source, target)


def test_a_shard_whose_ledger_was_not_written_is_made_again(tmp_path: Path, sets: list[ShardSet]) -> None:
    """Killed between a tar and its ledger, and what is worse: the tar is there as long as it should be, with other bytes."""
    pack(tmp_path, sets)
    whole = files(tmp_path / "train")
    tar = packing_folder(tmp_path) / "b000-000000.tar"
    tar.write_bytes(bytes(tar.stat().st_size))
    (ledger,) = (packing_folder(tmp_path) / "ledgers").glob("b000-000000-*.parquet")
    ledger.unlink()
    with pytest.raises(IncompleteSet, match="1 of its files is missing or cut short, first ledgers/b000-000000"):
        open_set(str(tmp_path / "train"))
    (made,) = pack(tmp_path, sets)
    assert made.shard == "b000-000000"
    assert files(tmp_path / "train") == whole


def begin(output: Path, sets: list[ShardSet], settings: Pack) -> tuple[PackStep, list[PackTask]]:
    """Begin a packing: all but the shards themselves."""
    step = packing_of(output, sets, settings)
    return step, step.start([outline_shard(task) for task in step.outline_tasks()])


@pytest.mark.parametrize("killed_after", [0, 1, 3])
def test_a_packing_that_does_not_end_leaves_the_one_that_counts(tmp_path: Path, sets: list[ShardSet], killed_after: int) -> None:
    """Two seeds never meet in a file: whoever reads the older packing finds every byte of it."""
    first = Pack(seed=0, samples_per_shard=2)
    pack(tmp_path, sets, first)
    whole, keys = files(packing_folder(tmp_path)), order(tmp_path)
    step, tasks = begin(tmp_path, sets, Pack(seed=5, samples_per_shard=2))
    for task in tasks[:killed_after]:
        pack_shard(task)
    assert files(packing_folder(tmp_path)) == whole
    assert order(tmp_path) == keys
    assert [sample.key for sample in open_set(str(tmp_path / "train"))] == keys
    assert list(verify_packed(str(tmp_path / "train"))) == []
    assert pack(tmp_path, sets, first) == [], "nothing to do"
    for task in tasks[killed_after:]:
        pack_shard(task)
    step.finish()
    assert order(tmp_path) != keys
    assert (tmp_path / "train" / packing_of(tmp_path, sets, first)._store.url.rsplit("/", 1)[1]).is_dir(), "until clean takes it away"
    before = files(tmp_path / "train")
    assert pack(tmp_path, sets, first) == [], "it is whole: it only comes to count again"
    after = files(tmp_path / "train")
    assert order(tmp_path) == keys
    assert {name for name in before if before[name] != after[name]} == {"manifest.json", "README.md", "set.json"}


def test_two_packings_at_once_each_end_whole_and_the_last_counts(tmp_path: Path, sets: list[ShardSet]) -> None:
    """A with seed 1 and B with seed 2, shard by shard in turn; B dies before its end."""
    (a, a_tasks), (b, b_tasks) = (begin(tmp_path, sets, Pack(seed=seed, samples_per_shard=2)) for seed in (1, 2))
    for one, other in zip(a_tasks, b_tasks, strict=True):
        pack_shard(one)
        pack_shard(other)
    a.finish()
    a.finished()
    assert list(verify_packed(str(tmp_path / "train"))) == []
    alone = tmp_path / "alone"
    for one in sets:
        copied(Path(one.store.url), alone / one.info.step)
    pack(alone, [ShardSet.open(Store(str(alone / one.info.step))) for one in sets], Pack(seed=1, samples_per_shard=2))
    assert files(packing_folder(tmp_path)) == files(packing_folder(alone)), "as if B had never been"
    b.finish()
    b.finished()
    assert list(verify_packed(str(tmp_path / "train"))) == []
    assert packing_folder(tmp_path) != tmp_path / "train" / packing_folder(alone).name


def test_another_sample_is_another_packing(tmp_path: Path) -> None:
    made = [Made(f"k{n}") for n in range(7)]
    settings = Pack(samples_per_shard=3, seed=None)
    pack(tmp_path, [write_base(tmp_path / "clips", {"000000": made})], settings)
    older = packing_folder(tmp_path)
    whole = files(older)
    shutil.rmtree(tmp_path / "clips")
    less = [write_base(tmp_path / "clips", {"000000": made[:6]})]
    with pytest.raises(IncompleteSet, match="it was packed from another clips than the one that is there"):
        open_set(str(tmp_path / "train"))
    assert len(list(open_set(str(older)))) == 7, "by its own name it is read as it is"
    pack(tmp_path, less, settings)
    assert [tar.name for tar in manifest_of(tmp_path).shards] == ["b000-000000.tar", "b000-000001.tar"]
    assert files(older) == whole
    assert list(verify_packed(str(tmp_path / "train"))) == []


def test_two_equal_runs_at_once_end_in_the_same_bytes(tmp_path: Path, sets: list[ShardSet]) -> None:
    """The second has planned when the first ends and takes the rows away."""
    pack(tmp_path, sets)
    whole = files(tmp_path / "train")
    shutil.rmtree(tmp_path / "train")
    (one, one_tasks), (other, other_tasks) = begin(tmp_path, sets, Pack()), begin(tmp_path, sets, Pack())
    pack_shard(other_tasks[0])
    assert [pack_shard(task).adopted for task in one_tasks] == [True, *[False] * (len(one_tasks) - 1)]
    one.finish()
    one.finished()
    assert files(tmp_path / "train") == whole
    assert all(pack_shard(task).adopted for task in other_tasks)
    other.finish()
    other.finished()
    assert files(tmp_path / "train") == whole


def test_an_equal_run_that_comes_when_all_is_whole_takes_nothing_away(tmp_path: Path, sets: list[ShardSet]) -> None:
    step = packing_of(tmp_path, sets, Pack())
    outlines = [outline_shard(task) for task in step.outline_tasks()]
    pack(tmp_path, sets)
    whole = files(tmp_path / "train")
    assert step.start(outlines) == []
    assert files(tmp_path / "train") == whole
    step.finish()
    assert files(tmp_path / "train") == whole


def test_a_remote_store_holds_the_same_bytes(tmp_path: Path, sets: list[ShardSet]) -> None:
    pack(tmp_path, sets)
    remote = fsspec.filesystem("memory")
    remote.put(str(tmp_path / "clips"), "/packing/clips", recursive=True)
    remote.put(str(tmp_path / "features"), "/packing/features", recursive=True)
    remote.put(str(tmp_path / "good"), "/packing/good", recursive=True)
    try:
        there = [ShardSet.open(Store(f"memory://packing/{one.info.step}")) for one in sets]
        packing = packing_of("memory://packing", there, Pack())
        for task in packing.start([outline_shard(task) for task in packing.outline_tasks()]):
            pack_shard(task)
        packing.finish()
        packing.finished()
        assert list(verify_packed("memory://packing/train")) == []
        found = {name.removeprefix("/packing/train/"): remote.cat_file(name) for name in remote.find("/packing/train")}
        assert found == files(tmp_path / "train")
    finally:
        remote.rm("/packing", recursive=True)
