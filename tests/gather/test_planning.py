"""Planning: every sample in one shard, shards of one bucket and within their size, whatever the order in which outlines come."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardprep.errors import ShardError
from shardprep.gather.outline import SAMPLES_SCHEMA, Group, Outline, empty_member, packed_bytes
from shardprep.gather.planning import PackPlan, plan_shards
from shardprep.gather.settings import Pack
from shardprep.shards.packed_record import RecordTypes

GROUPS = [
    Group('["mp4"]', '{"media":["mp4"],"size":[1,1]}', ("t5.safetensors",)),
    Group('["mp4"]', '{"media":["mp4"],"size":[1,1]}', ()),
    Group('["mp4"]', '{"media":["mp4"],"size":[2,2]}', ("latent.safetensors", "txt")),
    Group('["jpg"]', '{"media":["jpg"],"size":[1,1]}', ()),
]


class Drawn(NamedTuple):
    """A sample: the number of its shard, its group, its bytes."""

    shard: int
    group: int
    size: int


samples = st.lists(st.builds(Drawn, st.integers(0, 3), st.integers(0, 3), st.integers(1, 700_000)), max_size=40)


def outlines_of(drawn: Sequence[Drawn], groups: Sequence[int] = range(4)) -> list[Outline]:
    """Outlines that number their groups in an order of their own."""
    found = []
    for shard in range(4):
        order = list(groups)
        random.Random(shard).shuffle(order)
        rows = [
            {
                "key": f"k{place}",
                "order": (place * 7919) % 101,
                "group": order.index(one.group),
                "content": place.to_bytes(16),
                "size": one.size,
                "offset": place * 1000,
                "length": 1000,
            }
            for place, one in enumerate(drawn)
            if one.shard == shard
        ]
        found.append(
            Outline(
                shard=f"{shard:06d}",
                file=f"{shard:06d}-x.rows",
                samples=pa.Table.from_pylist(rows, SAMPLES_SCHEMA),
                groups=tuple(GROUPS[number] for number in order),
                columns={group.media: RecordTypes() for group in GROUPS},
                roles=frozenset({"video"}),
            )
        )
    return found


def placed(plan: PackPlan) -> list[tuple[str, int]]:
    """(shard, number of the sample) in the order of the plan; the offset of a row says its sample."""
    return [(shard.name, offset // 1000) for shard in plan.shards for _, offset, _ in shard.places.tolist()]


@given(samples, st.integers(1, 5) | st.none())
def test_every_sample_lies_in_one_shard_of_its_bucket(drawn: list[Drawn], samples_per_shard: int | None) -> None:
    settings = Pack(shard_mib=1, samples_per_shard=samples_per_shard)
    outlines = outlines_of(drawn)
    plan = plan_shards(outlines, settings)
    assert sorted(number for _, number in placed(plan)) == list(range(len(drawn)))
    buckets = sorted({group.bucket for group in GROUPS})
    fillable = {suffix for group in GROUPS for suffix in group.fillable}
    by_shard: dict[str, list[int]] = {}
    for name, number in placed(plan):
        assert name.startswith(f"b{buckets.index(GROUPS[drawn[number].group].bucket):03d}-")
        by_shard.setdefault(name, []).append(number)
    assert list(by_shard) == sorted(by_shard), "no shard without samples, none twice"
    for numbers in by_shard.values():
        own = [drawn[number].size + missing(drawn[number], fillable) for number in numbers]
        assert len(numbers) == 1 or sum(own) <= (1 << 20) - 1024
        assert samples_per_shard is None or len(numbers) <= samples_per_shard
    for shard in plan.shards:
        assert {shard.files[file] for file, _, _ in shard.places.tolist()} == {f"{drawn[n].shard:06d}-x.rows" for n in by_shard[shard.name]}


def missing(one: Drawn, fillable: set[str]) -> int:
    return sum(packed_bytes(len(empty_member(suffix))) for suffix in fillable - set(GROUPS[one.group].fillable))


@given(samples, st.randoms(use_true_random=False))
def test_the_plan_is_the_same_in_whatever_order_outlines_come(drawn: list[Drawn], shuffling: random.Random) -> None:
    outlines = outlines_of(drawn)
    wanted = plan_shards(outlines, Pack(samples_per_shard=3))
    shuffling.shuffle(outlines)
    found = plan_shards(outlines, Pack(samples_per_shard=3))
    assert [shard.content for shard in found.shards] == [shard.content for shard in wanted.shards]
    assert placed(found) == placed(wanted)
    assert found.buckets == wanted.buckets


def test_a_shards_content_hangs_on_its_own_samples_alone() -> None:
    drawn = [Drawn(0, 0, 10)] * 6 + [Drawn(1, 2, 10)] * 3
    before = {shard.name: shard.content for shard in plan_shards(outlines_of(drawn), Pack()).shards}
    after = {shard.name: shard.content for shard in plan_shards(outlines_of([*drawn, Drawn(2, 2, 10)]), Pack()).shards}
    assert before.keys() == after.keys() == {"b001-000000", "b002-000000"}
    assert before["b001-000000"] == after["b001-000000"]
    assert before["b002-000000"] != after["b002-000000"]


def test_a_key_in_two_shards_is_refused() -> None:
    one, other = outlines_of([Drawn(0, 0, 1), Drawn(1, 0, 1)])[:2]
    twice = Outline(**{**vars(other), "samples": one.samples})
    with pytest.raises(ShardError, match="the key 'k0' occurs in two shards"):
        plan_shards([one, twice], Pack())


def test_nothing_to_pack() -> None:
    assert plan_shards([], Pack()).shards == ()
    assert plan_shards(outlines_of([]), Pack()).shards == ()


def test_members_are_those_that_any_sample_has() -> None:
    plan = plan_shards(outlines_of([Drawn(0, group, 1) for group in range(4)]), Pack())
    assert {shard.members for shard in plan.shards} == {("latent.safetensors", "t5.safetensors", "txt")}
    assert Counter(shard.name[:4] for shard in plan.shards) == {"b000": 1, "b001": 1, "b002": 1}
