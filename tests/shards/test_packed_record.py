"""Packed records: a schema that readers which infer types from the first samples get right, and nothing lost."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardprep.core.fingerprint import canonical_json
from shardprep.core.sample import Record
from shardprep.errors import ShardError
from shardprep.shards.columns import record_columns
from shardprep.shards.ledger import comparable
from shardprep.shards.packed_record import SPARSE, RecordSchema, RecordTypes, one_type, pack_record, unpack_record


def schema_of(*records: Record) -> RecordSchema:
    types = RecordTypes()
    for record in records:
        types.add(record)
    return types.schema(types.mixed_columns())


def packed(*records: Record) -> list[dict[str, Any]]:
    schema = schema_of(*records)
    return [json.loads(canonical_json(pack_record(record, schema))) for record in records]


def test_columns_that_all_have_are_typed_and_in_their_place() -> None:
    records = [
        {"a": {"n": 1, "f": 25.0, "s": "", "b": False}, "l": {"x": [1]}},
        {"a": {"n": 2, "f": 29.97, "s": "x", "b": True}, "l": {"x": [2, 3]}},
    ]
    assert packed(*records) == records
    assert schema_of(*records).columns == (
        ("a.b", "bool"),
        ("a.f", "double"),
        ("a.n", "int64"),
        ("a.s", "string"),
        ("l.x", "list<int64>"),
    )


@pytest.mark.parametrize("num_columns", [1, 300])
def test_where_all_have_all_columns_there_is_no_field_for_the_others(num_columns: int) -> None:
    record = {f"c{number}": number for number in range(num_columns)}
    assert packed(record, record) == [record, record]
    lacking = {"c0": 0}
    assert [SPARSE in one for one in packed(record, lacking)] == [num_columns > 1] * 2


def test_whole_numbers_of_a_column_of_fractions_are_written_as_fractions() -> None:
    """Hugging Face datasets takes 25 for the type of the column and cuts 29.97 to 29."""
    schema = schema_of({"m": {"fps": 25, "l": [1]}}, {"m": {"fps": 29.97, "l": [0.5]}})
    assert canonical_json(pack_record({"m": {"fps": 25, "l": [1]}}, schema)) == '{"m":{"fps":25.0,"l":[1.0]}}'


@pytest.mark.parametrize("nothing", [{}, {"m": {}}, {"m": {"n": None}}, {"m": {"n": []}}, {"m": {"n": [None]}}])
def test_columns_that_some_lack_are_text_in_all(nothing: Record) -> None:
    some: Record = {"m": {"n": [0.5]}, "a": {"n": 1}}
    one, other = packed(some, {"a": {"n": 2}, **nothing})
    assert one == {"a": {"n": 1}, "sparse": '{"m":{"n":[0.5]}}'}
    assert other["a"] == {"n": 2}
    assert isinstance(other["sparse"], str)
    assert unpack_record(one) == some
    assert comparable(unpack_record(other)) == comparable({"a": {"n": 2}, **nothing})


def test_records_of_other_programs_come_back_as_they_are() -> None:
    for record in ({}, {"a": 1}, {"sparse": {"x": 1}}, {"sparse": 5}):
        assert unpack_record(record) == record


@pytest.mark.parametrize(
    ("values", "kind", "written"),
    [
        ([1, "x", 2.5, None], "string", ["1", "x", "2.5", None]),
        ([True, 1], "string", ["true", "1"]),
        ([[1], 1], "string", ["[1]", "1"]),
        ([["a"], [1, 2], []], "list<string>", [["a"], ["1", "2"], []]),
        ([["a", 1]], "list<string>", [["a", "1"]]),
        ([[1], [0.5], "x"], "string", ["[1]", "[0.5]", "x"]),
        ([0, []], "string", ["0", "[]"]),
        ([[[1]], [], [2], [[]]], "list<string>", [["[1]"], [], ["2"], ["[]"]]),
    ],
)
def test_a_column_of_several_types_is_text_in_all(values: list[Any], kind: str, written: list[Any]) -> None:
    records = [{"m": {"n": value}} for value in values]
    schema = schema_of(*records)
    assert schema.mixed == (("m.n", kind),)
    assert comparable({"l": [unpack_record(pack_record(record, schema)) for record in records]}) == comparable(
        {"l": [{"m": {"n": value}} for value in written]}
    )
    assert [one_type(record, schema) for record in records] == [{"m": {"n": value}} for value in written], "as the ledger has it"


def test_columns_of_one_type_are_not_mixed() -> None:
    assert schema_of({"m": {"n": 1, "l": [1]}}, {"m": {"n": 2.5, "l": [0.5]}}, {"m": {"n": None, "l": []}}).mixed == ()


def test_values_that_records_cannot_hold_are_refused() -> None:
    with pytest.raises(ShardError, match=r"column m\.n holds a bytes"):
        schema_of({"m": {"n": b""}})
    with pytest.raises(ShardError, match=r"column m\.n holds a dict"):
        schema_of({"m": {"n": [{"x": 1}]}})


def test_the_fields_own_name_is_refused() -> None:
    with pytest.raises(ShardError, match=r"column sparse\.x: a packed record has a field 'sparse' of its own"):
        schema_of({"sparse": {"x": 1}})


values = {
    "x": st.integers(-9, 9) | st.text(max_size=2) | st.booleans() | st.lists(st.integers(-9, 9) | st.text(max_size=1), max_size=2),
    "d": st.lists(st.lists(st.integers(-9, 9), max_size=1) | st.booleans(), max_size=2),
    "n": st.integers(-9, 9),
    "f": st.floats(-9, 9),
    "s": st.text(max_size=3),
    "l": st.lists(st.floats(-9, 9), max_size=2),
}
records = st.dictionaries(st.sampled_from("ab"), st.fixed_dictionaries({}, optional=values), max_size=2)


@given(st.lists(records, max_size=5), st.integers(0, 5))
def test_any_records_come_back_with_one_schema_for_all(made: list[Mapping[str, Any]], cut: int) -> None:
    first, second, whole = RecordTypes(), RecordTypes(), RecordTypes()
    for place, record in enumerate(made):
        (first if place < cut else second).add(record)
        whole.add(record)
    second.merge(first)
    assert second.schema(second.mixed_columns()) == whole.schema(whole.mixed_columns()), "counted in parts or at once"
    out = packed(*made)
    schema = whole.schema(whole.mixed_columns())
    assert [comparable(unpack_record(record)) for record in out] == [comparable(one_type(record, schema)) for record in made]
    record_columns([one_type(record, schema) for record in made], {})
    assert len({canonical_json(shape(record)) for record in out}) <= 1
    assert '"null"' not in canonical_json([shape(record) for record in out])


def shape(value: Any) -> Any:
    """The names and types that a reader infers."""
    if isinstance(value, dict):
        return {name: shape(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return next(([inner] for inner in map(shape, value) if inner != "null"), "null")
    return "null" if value is None else type(value).__name__
