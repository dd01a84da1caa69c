"""Columns of records as Arrow arrays: joins of tables must say what joins of records say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardprep.core.sample import merge_records
from shardprep.errors import ShardError
from shardprep.shards.columns import join_tables, leaf_names, pick_leaves, record_columns
from shardprep.shards.ledger import comparable

Rows = Mapping[str, Mapping[str, Any]]


def table_of(rows: Rows) -> pa.Table:
    return pa.table({"key": pa.array(list(rows), pa.string()), **record_columns(list(rows.values()), {})})


def rows_of(table: pa.Table) -> dict[str, Any]:
    return {row.pop("key"): comparable(row) for row in table.to_pylist()}


def record(a: Any = None, deep: Any = None, other: Any = None) -> dict[str, Any]:
    return {"g": {"a": a, "h": {"deep": deep}}, "other": {"x": other}}


numbers = st.none() | st.integers(-9, 9)
records = st.builds(record, numbers, st.none() | st.text("ab", max_size=2), st.none() | st.lists(st.integers(0, 3), max_size=2))
sets = st.dictionaries(st.sampled_from("abcdef"), records, max_size=6)


@given(sets, sets)
def test_tables_join_as_records_do(base: Rows, added: Rows) -> None:
    joined = rows_of(join_tables(table_of(base), table_of(added)))
    expected = {key: comparable(merge_records(comparable(record), comparable(added[key]))) for key, record in base.items() if key in added}
    assert joined == expected
    assert list(joined) == list(expected), "in the order of the base"


def test_a_column_that_is_replaced_takes_the_later_value_where_there_is_one() -> None:
    base = table_of({"k1": {"caption": {"text": "old"}}, "k2": {"caption": {"text": "old"}}})
    added = table_of({"k2": {"caption": {"text": None, "model": "m"}}, "k1": {"caption": {"text": "new"}}})
    assert rows_of(join_tables(base, added)) == {"k1": {"caption": {"text": "new"}}, "k2": {"caption": {"text": "old", "model": "m"}}}


def test_whole_numbers_give_way_to_fractions_and_nothing_to_text() -> None:
    base = table_of({"k1": {"s": {"n": 1}}, "k2": {"s": {"n": 2}}})
    assert rows_of(join_tables(base, table_of({"k1": {"s": {"n": 0.5}}, "k2": {}}))) == {"k1": {"s": {"n": 0.5}}, "k2": {"s": {"n": 2}}}
    with pytest.raises(ShardError, match=r"column s\.n is int64 in one set and string in a later one"):
        join_tables(base, table_of({"k1": {"s": {"n": "x"}}, "k2": {}}))


def test_leaves_are_picked_by_name_by_struct_and_by_what_lies_in_a_list() -> None:
    schema = table_of({"k": {"scores": {"flow": 1.0, "Aesthetic": 2.0}, "meta": {"tags": ["a"]}}}).schema
    assert list(leaf_names(schema)) == ["key", "meta.tags", "scores.Aesthetic", "scores.flow"]
    assert pick_leaves(schema, ["scores"]) == ["scores.Aesthetic", "scores.flow"]
    assert pick_leaves(schema, ["SCORES.aesthetic", "meta.tags.inner"]) == ["meta.tags", "scores.Aesthetic"]
    assert pick_leaves(schema, ["score", "scores.flow.x.y", "scores.f"]) == ["scores.flow"]
