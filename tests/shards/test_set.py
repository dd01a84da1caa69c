"""A set is what its names say: which ledger counts, what is known without opening any, what is collected, and what damage does."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from shardprep.core.fingerprint import digest
from shardprep.errors import IncompleteSet, ShardError
from shardprep.shards.ledger import encode_ledger
from shardprep.shards.lineage import stand
from shardprep.shards.names import parse_ledger_name
from shardprep.shards.set import SetInfo, ShardSet, read_info, relative_url, write_info
from shardprep.shards.store import Store
from tests.built_sets import Made, write_base


@pytest.fixture
def clips(tmp_path: Path) -> ShardSet:
    """Three shards, each with a tar, whose ledgers nobody has noted yet."""
    return write_base(tmp_path / "clips", {f"00000{k}": [Made(f"a{k}", {"clip": {"index": k}}, {"mp4": b"video" * k})] for k in range(3)})


def again(shard_set: ShardSet) -> ShardSet:
    """Open the same folder as the next process would."""
    return ShardSet.open(Store(shard_set.store.url))


def ledger(shard_set: ShardSet, shard: str) -> str:
    return next(name for name in shard_set.store.names() if (p := parse_ledger_name(name)) and p.shard == shard)


def write_another(shard_set: ShardSet, shard: str, name: str, **footer: object) -> str:
    """Write a ledger beside the shard's own, equal but for some fields of its footer."""
    one = shard_set.ledger(ledger(shard_set, shard))
    changed = replace(one, footer=replace(one.footer, **footer))  # type: ignore[arg-type] # fields of each test
    assert shard_set.store.create_bytes(name, encode_ledger(changed, {}))
    return name


# --- what is known without opening a ledger


def test_noted_digests_spare_opening_ledgers(clips: ShardSet) -> None:
    first = clips.current()
    assert clips.ledgers_opened == 3
    clips.save_digests()
    second = again(clips)
    assert second.current() == first
    assert second.ledgers_opened == 0
    assert {c.tar_bytes for c in first.values()} == {clips.store.names()[c.tar] for c in first.values() if c.tar}


def test_noting_writes_only_what_changed(clips: ShardSet) -> None:
    clips.current()
    clips.save_digests()
    path = Path(clips.store.url) / "digests.json"
    before = path.stat().st_mtime_ns
    clips.save_digests()
    again(clips).save_digests()
    assert path.stat().st_mtime_ns == before


def test_what_two_runs_note_is_joined(clips: ShardSet) -> None:
    one, other = again(clips), again(clips)
    one.committed(ledger(clips, "000000"))
    other.committed(ledger(clips, "000001"))
    one.save_digests()
    other.save_digests()
    last = again(clips)
    last.current()
    assert last.ledgers_opened == 1


def test_a_ledger_that_is_gone_is_forgotten(clips: ShardSet) -> None:
    clips.current()
    clips.save_digests()
    name = ledger(clips, "000001")
    clips.store.remove(name)
    again(clips).save_digests()
    noted = json.loads(clips.store.read("digests.json"))["ledgers"]
    assert len(noted) == 2
    assert name not in noted


def test_a_ledger_of_another_size_is_read_again(clips: ShardSet) -> None:
    clips.current()
    clips.save_digests()
    name = ledger(clips, "000001")
    data = clips.store.read(name)
    clips.store.replace_bytes(name, data[: len(data) // 2])
    second = again(clips)
    assert second.readable(name) is None
    assert second.readable(ledger(clips, "000002")) is not None
    assert second.ledgers_opened == 1


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[]", b"{", b'{"000000-00000000.parquet": []}', b'{"x": {"digest": "y"}}', b"null"])
def test_a_damaged_cache_is_as_good_as_none(clips: ShardSet, content: bytes) -> None:
    expected = clips.current()
    clips.store.replace_bytes("digests.json", content)
    second = again(clips)
    assert second.current() == expected
    second.save_digests()
    third = again(clips)
    assert third.current() == expected
    assert third.ledgers_opened == 0


def test_a_tar_must_be_there_as_large_as_it_was(clips: ShardSet) -> None:
    committed = clips.current()["000001"]
    assert committed.tar is not None
    sizes = clips.store.names()
    assert clips.whole(committed.ledger, sizes) == committed
    assert clips.whole(committed.ledger, {**sizes, committed.tar: sizes[committed.tar] - 512}) is None
    assert clips.whole(committed.ledger, {}) is None


def test_a_ledger_that_another_run_took_away_is_not_there(clips: ShardSet) -> None:
    name = ledger(clips, "000001")
    clips.store.remove(name)
    assert clips.readable(name) is None


# --- which ledger counts


def test_a_missing_shard_is_said_unless_a_part_will_do(clips: ShardSet) -> None:
    clips.store.remove(ledger(clips, "000001"))
    second = again(clips)
    with pytest.raises(
        IncompleteSet, match=r"1 of 3 shards is missing or out of date, first 000001 \(no valid ledger\). Run the recipe again"
    ):
        stand(clips.store.url).require()
    assert sorted(stand(clips.store.url).require(partial=True)) == sorted(second.current()) == ["000000", "000002"]


def test_an_unreadable_ledger_is_named(clips: ShardSet) -> None:
    name = ledger(clips, "000001")
    clips.store.replace_bytes(name, b"PAR1 and nothing else")
    with pytest.raises(IncompleteSet, match=f"first 000001 .ledger .*{name} cannot be read"):
        stand(clips.store.url).require()
    assert sorted(again(clips).current()) == ["000000", "000002"]


def test_the_highest_retry_counts(clips: ShardSet) -> None:
    own = ledger(clips, "000001")
    stem = own.removesuffix(".parquet")
    for retry in (2, 10, 9):
        write_another(clips, "000001", f"{stem}-{retry}.parquet")
    assert again(clips).current()["000001"].ledger == f"{stem}-10.parquet"


def test_a_damaged_retry_is_a_lost_shard_and_not_what_it_retried(clips: ShardSet) -> None:
    # A run makes it again, and what lies below was made from it.
    own = ledger(clips, "000001")
    clips.store.create_bytes(f"{own.removesuffix('.parquet')}-1.parquet", b"cut short")
    assert sorted(again(clips).current()) == ["000000", "000002"]
    assert "cannot be read" in stand(clips.store.url).missing["000001"]


def test_a_ledger_under_another_shards_name_does_not_count(clips: ShardSet) -> None:
    for committed in again(clips).current().values():
        name = committed.ledger.replace(committed.ledger[7:15], "00000000")
        clips.store.create_bytes(name, clips.store.read(committed.ledger))
        clips.store.remove(committed.ledger)
    assert again(clips).current() == {}
    assert "renamed" in stand(clips.store.url).missing["000000"]


def test_a_ledger_of_other_settings_does_not_count(clips: ShardSet) -> None:
    write_another(clips, "000001", "000001-00000000.parquet", step_fingerprint="other", fingerprint="0" * 64)
    assert again(clips).current()["000001"].ledger != "000001-00000000.parquet"


@pytest.mark.parametrize("digit", ["0", "f"], ids=["its name comes first", "its name comes last"])
def test_of_two_made_from_different_inputs_the_later_counts(clips: ShardSet, digit: str) -> None:
    own = ledger(clips, "000001")
    later = write_another(clips, "000001", f"000001-{digit * 8}.parquet", fingerprint=digit * 64, supersedes=(own,))
    assert again(clips).current()["000001"].ledger == later


def test_shards_that_are_not_listed_are_not_seen(clips: ShardSet) -> None:
    write_info(clips.store, replace(clips.info, shards=("000000", "000002")))
    assert sorted(again(clips).current()) == ["000000", "000002"]


# --- collecting


def test_collecting_removes_what_no_shard_needs_and_nothing_else(clips: ShardSet) -> None:
    folder = Path(clips.store.url)
    kept = {path.name for path in folder.iterdir()}
    for name in ("000001-00000000.parquet", "000001-000000000000.tar", "000009-00000000.parquet", ".tmp-0123456789abcdef"):
        (folder / name).write_bytes(b"left over")
    for name in ("notes.txt", "b000-000000.tar", "assignment-000000000000.parquet"):
        (folder / name).write_bytes(b"not ours to judge")
        kept.add(name)
    removed = clips.collect(clips.current())
    assert sorted(removed) == [".tmp-0123456789abcdef", "000001-00000000.parquet", "000001-000000000000.tar", "000009-00000000.parquet"]
    assert {path.name for path in folder.iterdir()} == kept


def test_a_set_that_another_run_has_taken_over_is_left_alone(clips: ShardSet) -> None:
    current = clips.current()
    (Path(clips.store.url) / "000007-00000000.parquet").write_bytes(b"the other run's")
    write_info(clips.store, replace(clips.info, shards=(*clips.info.shards, "000007")))
    assert clips.collect(current) == []
    assert "000007-00000000.parquet" in clips.store.names()


def test_what_another_run_has_retried_is_left_alone(clips: ShardSet) -> None:
    current = clips.current()
    retried = f"{current['000001'].ledger.removesuffix('.parquet')}-1.parquet"
    for name in (retried, "000001-000000000000.tar", "000002-000000000000.tar"):
        (Path(clips.store.url) / name).write_bytes(b"the other run's")
    assert clips.collect(current) == ["000002-000000000000.tar"]
    assert {retried, "000001-000000000000.tar", current["000001"].tar} <= clips.store.names().keys()


# --- set.json


def test_set_json_is_written_where_it_would_change(clips: ShardSet) -> None:
    path = Path(clips.store.url) / "set.json"
    before = path.stat().st_mtime_ns
    assert not write_info(clips.store, replace(clips.info, identity={"stages": [], "format": 1}))
    assert path.stat().st_mtime_ns == before
    assert write_info(clips.store, replace(clips.info, shards=("000000",)))
    assert read_info(clips.store) == replace(clips.info, shards=("000000",))


def test_a_folder_without_set_json_is_no_set(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match=r"is no shard set: it has no set.json. Name the folder of a step, such as OUT/clips"):
        ShardSet.open(Store(str(tmp_path)))
    assert read_info(Store(str(tmp_path / "absent"))) is None


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"null", b'{"format": 2}', b'"text"', b"\xff"])
def test_a_damaged_set_json_is_said_with_the_next_step(clips: ShardSet, content: bytes) -> None:
    clips.store.replace_bytes("set.json", content)
    with pytest.raises(
        ShardError, match=r"set.json cannot be read .* Run the recipe again: it writes this file anew, and no shard is lost"
    ):
        again(clips)


def test_a_set_of_a_later_format_is_said_to_be_one(clips: ShardSet) -> None:
    values = {name: value for name, value in json.loads(clips.store.read("set.json")).items() if name != "digest"}
    later = {**values, "format": 3, "unheard_of": True}
    clips.store.replace_bytes("set.json", json.dumps(later | {"digest": digest(later)}).encode())
    with pytest.raises(ShardError, match="has format 3; this version of shardprep reads 2"):
        again(clips)


def test_a_set_that_was_moved_is_the_same(clips: ShardSet, tmp_path: Path) -> None:
    clips.current()
    clips.save_digests()
    moved = shutil.copytree(clips.store.url, tmp_path / "elsewhere/clips")
    copied = ShardSet.open(Store(str(moved)))
    assert copied.current() == clips.current()
    assert copied.ledgers_opened == 0


def test_relative_urls() -> None:
    assert relative_url("s3://bucket/out/scores", "../clips") == "s3://bucket/out/clips"
    assert relative_url("/out/scores/", "../clips") == "/out/clips"
    assert relative_url("/a/b/c", "../../d/e") == "/a/d/e"


def test_infos_compare_whatever_json_made_of_them() -> None:
    info = SetInfo(step="s", kind="base", step_fingerprint="f", identity={"a": [1, 2.5, None]}, parents=("../r",), shards=("000000",))
    store = Store("memory://info")
    assert write_info(store, info)
    assert read_info(store) == info
