"""Sources stay in their shards whatever comes and goes."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardprep.sources.assign import assign_shards, automatic_size
from shardprep.sources.entry import SourceEntry
from shardprep.sources.keys import source_key

MOST_SAMPLES, MOST_BYTES = 4, 100

SOURCES = st.dictionaries(st.integers(0, 60), st.tuples(st.integers(0, 160), st.none() | st.integers(0, 5)), max_size=30)


def entry(number: int, size: int, group: int | None = None) -> SourceEntry:
    path = f"{number:03d}.mp4"
    return SourceEntry(key=source_key(path), path=path, size=size, version="1", group=None if group is None else f"g{group}")


def entries_of(sources: dict[int, tuple[int, int | None]], *, grouped: bool) -> list[SourceEntry]:
    return [entry(number, size, group if grouped else None) for number, (size, group) in sources.items()]


def keys(shards: dict[str, list[SourceEntry]]) -> dict[str, list[str]]:
    return {shard: [one.key for one in inside] for shard, inside in shards.items()}


def assign(entries: list[SourceEntry], known: dict[str, list[str]] | None = None) -> dict[str, list[str]]:
    return keys(assign_shards(entries, known or {}, MOST_SAMPLES, MOST_BYTES))


@given(SOURCES, st.randoms(use_true_random=False))
def test_every_source_has_one_shard_whatever_the_order(sources: dict[int, tuple[int, int | None]], chance: random.Random) -> None:
    entries = entries_of(sources, grouped=True)
    shards = assign(entries)
    assert sorted(key for inside in shards.values() for key in inside) == sorted(one.key for one in entries)
    shuffled = list(entries)
    chance.shuffle(shuffled)
    assert assign(shuffled) == shards
    assert list(shards) == [f"{number:06d}" for number in range(len(shards))]


@given(SOURCES)
def test_shards_are_bounded_but_for_one_large_source_or_group(sources: dict[int, tuple[int, int | None]]) -> None:
    entries = entries_of(sources, grouped=True)
    for inside in assign_shards(entries, {}, MOST_SAMPLES, MOST_BYTES).values():
        parts = {one.group or one.key for one in inside}
        if len(parts) > 1:
            assert len(inside) <= MOST_SAMPLES
            assert sum(one.size for one in inside) <= MOST_BYTES


@given(SOURCES)
def test_groups_stay_together(sources: dict[int, tuple[int, int | None]]) -> None:
    shards = assign_shards(entries_of(sources, grouped=True), {}, MOST_SAMPLES, MOST_BYTES)
    homes: dict[str, set[str]] = {}
    for shard, inside in shards.items():
        for one in inside:
            homes.setdefault(one.group or one.key, set()).add(shard)
    assert all(len(found) == 1 for found in homes.values())


@given(SOURCES, SOURCES)
def test_what_is_known_keeps_its_shard(before: dict[int, tuple[int, int | None]], after: dict[int, tuple[int, int | None]]) -> None:
    """Sources come, go and change their size; no known one moves, and no new one enters a known shard."""
    known = assign(entries_of(before, grouped=False))
    shards = assign(entries_of(after, grouped=False), known)
    home = {key: shard for shard, inside in known.items() for key in inside}
    for shard, inside in shards.items():
        for key in inside:
            assert home.get(key, shard) == shard
            assert key in home or shard not in known


@given(SOURCES, st.integers(100, 200))
def test_adding_one_changes_no_shard(sources: dict[int, tuple[int, int | None]], number: int) -> None:
    entries = entries_of(sources, grouped=True)
    known = assign(entries)
    shards = assign([*entries, entry(number, 10)], known)
    assert {shard: shards[shard] for shard in known} == known
    assert len(shards) == len(known) + 1


@given(SOURCES.filter(bool), st.data())
def test_removing_one_changes_only_its_shard(sources: dict[int, tuple[int, int | None]], data: st.DataObject) -> None:
    entries = entries_of(sources, grouped=True)
    known = assign(entries)
    gone = data.draw(st.sampled_from(entries))
    shards = assign([one for one in entries if one != gone], known)
    home = next(shard for shard, inside in known.items() if gone.key in inside)
    left = [key for key in known[home] if key != gone.key]
    assert shards == {shard: inside for shard, inside in {**known, home: left}.items() if inside}


def test_a_renamed_source_leaves_its_shard_and_comes_new() -> None:
    known = assign([entry(number, 1) for number in range(6)])
    shards = assign([*(entry(number, 1) for number in range(5)), entry(77, 1)], known)
    assert list(shards) == ["000000", "000001", "000002"]
    assert shards["000002"] == [entry(77, 1).key]


def test_a_name_of_a_vanished_shard_is_not_used_again() -> None:
    known = {"000000": [entry(1, 1).key], "000007": [entry(2, 1).key]}
    assert list(assign([entry(1, 1), entry(3, 1)], known)) == ["000000", "000008"]


def test_a_new_member_joins_its_group_and_a_spread_group_gathers() -> None:
    known = {"000000": [entry(1, 1).key], "000001": [entry(2, 1).key], "000002": [entry(3, 1).key]}
    entries = [entry(1, 1, 5), entry(2, 1), entry(3, 1, 5), entry(4, 1, 5)]
    assert assign(entries, known) == {"000000": [entry(1, 1).key, entry(3, 1).key, entry(4, 1).key], "000001": [entry(2, 1).key]}


def test_a_large_group_has_a_shard_of_its_own() -> None:
    entries = [entry(0, 1), *(entry(number, 1, 1) for number in range(1, 8)), entry(9, 1)]
    assert [len(inside) for inside in assign(entries).values()] == [1, 7, 1]


def test_the_name_of_the_last_shard_is_not_used_again_when_it_is_gone() -> None:
    assert list(assign_shards([entry(3, 1)], {"000000": [entry(1, 1).key]}, 1, 100, first_new=5)) == ["000005"]
    assert list(assign_shards([entry(3, 1)], {"000007": [entry(1, 1).key]}, 1, 100, first_new=5)) == ["000008"]


@pytest.mark.parametrize(
    ("num_samples", "size", "num_shards"),
    [(1, 1, 1), (16, 1, 16), (17, 1, 17), (31, 1, 31), (32, 2, 16), (100, 6, 17), (1024, 64, 16), (4096, 64, 64), (10**6, 1000, 1000)],
)
def test_the_automatic_size_of_shards(num_samples: int, size: int, num_shards: int) -> None:
    assert automatic_size(num_samples) == size
    assert -(-num_samples // size) == num_shards


@given(st.integers(1, 10**8))
def test_automatic_shards_are_many_enough_and_grow_with_the_set(num_samples: int) -> None:
    size = automatic_size(num_samples)
    assert size >= 1
    assert -(-num_samples // size) >= min(16, num_samples)
    assert size <= automatic_size(num_samples + 1)
    assert size <= max(64, num_samples**0.5)


@given(SOURCES, SOURCES)
def test_automatic_sizes_deal_nothing_anew(before: dict[int, tuple[int, int | None]], after: dict[int, tuple[int, int | None]]) -> None:
    known = keys(assign_shards(entries_of(before, grouped=False), {}, "auto", 10**9))
    shards = keys(assign_shards(entries_of({**after, **before}, grouped=False), known, "auto", 10**9))
    assert {shard: shards[shard] for shard in known} == known
    assert len(known) >= min(16, len(before))
