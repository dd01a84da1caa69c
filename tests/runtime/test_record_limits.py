"""What no ledger can hold fails its sample: depth, columns, size and names; and every ledger that is written can be read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardprep.core.blob import BytesBlob
from shardprep.core.outcome import Kept, Outcome, Split
from shardprep.core.sample import Sample, child_key
from shardprep.core.stage import Stage
from shardprep.errors import ShardError
from shardprep.runtime.rows import plain_record
from shardprep.shards.ledger import Footer, InputRow, Ledger, OutputRow, encode_ledger, read_ledger, without_nulls
from tests.runtime.test_reuse import make, samples, task_of


def nested(levels: int) -> dict[str, Any]:
    """Return a record of so many levels."""
    value: Any = 1
    for _ in range(levels):
        value = {"a": value}
    return dict(value)


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (nested(33), "nests more than 32 levels"),
        (nested(400), "nests more than 32 levels"),
        (nested(100_000), "nests more than 32 levels"),
        ({"meta": {f"c{number}": 1 for number in range(4097)}}, "4097 columns|4096 columns|more than 4096"),
        ({"meta": {"text": "x" * (1 << 20)}}, "bytes as JSON; at most 1048576 are stored"),
        ({"meta": {"": 1}}, "part without a name"),
        ({"meta": {"\ud800": 1}}, "no text"),
    ],
)
def test_what_is_too_much_is_refused_in_words(record: Mapping[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        plain_record(record, {})


@dataclass(frozen=True, kw_only=True)
class SplitDeep(Stage):
    """Two children each, of which the second nests too deep."""

    levels: int
    splits = True
    accepts = ()

    def process(self, batch: Sequence[Sample]) -> Sequence[Outcome]:
        return [Split(tuple((child_key(s.key, k), Kept(self._child(s, k))) for k in range(2))) for s in batch]

    def _child(self, sample: Sample, k: int) -> Sample:
        record = {**sample.record, "meta": nested(self.levels)} if k else sample.record
        return replace(sample, key=child_key(sample.key, k), record=record)


@pytest.mark.parametrize("levels", [99, 400, 5000])
def test_a_child_that_nests_too_deep_fails_alone(tmp_path: Path, levels: int) -> None:
    committed = make(task_of(tmp_path, [SplitDeep(levels=levels)], samples(2), 1)).committed
    assert committed.counts == {"input.kept": 2, "output.kept": 2, "output.failed": 2, "output.failed:bad-record": 2}


names = st.text(st.characters(codec=None), max_size=6) | st.sampled_from(["a", "b", "A", "a.b", "key", "role", "members"])
values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)
records = st.dictionaries(st.sampled_from(["meta", "scores", "caption"]) | names, st.dictionaries(names, values, max_size=3), max_size=3)


@settings(max_examples=400, deadline=None)
@given(st.lists(records, min_size=1, max_size=3))
def test_what_is_written_can_be_read(made: list[dict[str, Any]]) -> None:
    stored = []
    for record in made:
        try:
            stored.append(plain_record(record, {}))
        except ValueError:
            continue
    inputs = tuple(InputRow(key=f"k{number}", fate="kept", into=(f"k{number}",)) for number in range(len(stored)))
    outputs = tuple(OutputRow(key=f"k{number}", parent=f"k{number}", fate="kept", record=record) for number, record in enumerate(stored))
    footer = Footer(step="s", shard="000000", fingerprint="f" * 64, step_fingerprint="s")
    try:
        data = encode_ledger(Ledger(inputs, outputs, footer), {})
    except ShardError:
        return
    read = read_ledger(BytesBlob(data), "ledger")
    assert [row.record for row in read.outputs] == [without_nulls(record) for record in stored]


def test_the_deepest_that_is_taken_can_be_read() -> None:
    record = plain_record({"meta": nested(31)}, {})
    row = OutputRow(key="k", parent="k", fate="kept", record=record)
    footer = Footer(step="s", shard="000000", fingerprint="f" * 64, step_fingerprint="s")
    data = encode_ledger(Ledger((InputRow(key="k", fate="kept", into=("k",)),), (row,), footer), {})
    assert read_ledger(BytesBlob(data), "ledger").outputs[0].record == record
