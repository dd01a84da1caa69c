"""Records become Arrow tables and tables of different shapes go together."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardprep.errors import RecipeError
from shardprep.expressions.tables import arrow_table, column_paths, concat, project, resolve


def test_dicts_become_structs_and_absent_values_null() -> None:
    table = arrow_table([{"key": "a", "scores": {"flow": 1}}, {"scores": {"flow": 2.5, "x": None}, "late": True}])
    assert table.to_pylist() == [
        {"key": "a", "scores": {"flow": 1.0, "x": None}, "late": None},
        {"key": None, "scores": {"flow": 2.5, "x": None}, "late": True},
    ]
    assert table.schema.field("scores").type.field("flow").type == pa.float64()


def test_empty_dicts_and_empty_rows_are_written_as_parquet() -> None:
    table = arrow_table([{"a": {}, "b": {"c": {}, "d": 1}}, {"b": None}])
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    assert pq.read_table(pa.BufferReader(sink.getvalue())).to_pylist() == [{"a": None, "b": {"c": None, "d": 1}}, {"a": None, "b": None}]
    assert arrow_table([{}, {}]).num_columns == 0
    assert arrow_table([]).num_rows == 0


def test_mixed_types_in_one_column_are_named() -> None:
    with pytest.raises(RecipeError, match="column age"):
        arrow_table([{"age": 1}, {"age": "old"}])
    with pytest.raises(RecipeError, match="column big"):
        arrow_table([{"big": 1 << 70}])


def test_concat_widens_types_and_adds_struct_fields_at_every_depth() -> None:
    tables = [
        arrow_table([{"key": "a", "s": {"x": None, "in": {"p": 1}}, "l": [], "e": None}]),
        arrow_table([]),
        arrow_table([{"key": "b", "s": {"x": 2, "y": "q"}, "l": [1], "e": {"z": [{"k": 1}]}}]),
        arrow_table([{"key": "c", "s": None, "l": [2.5], "e": {"z": [{"j": "x"}, None]}, "new": 1.5}]),
    ]
    assert concat(tables).to_pylist() == [
        {"key": "a", "s": {"x": None, "in": {"p": 1}, "y": None}, "l": [], "e": None, "new": None},
        {"key": "b", "s": {"x": 2, "in": None, "y": "q"}, "l": [1.0], "e": {"z": [{"k": 1, "j": None}]}, "new": None},
        {"key": "c", "s": None, "l": [2.5], "e": {"z": [{"k": None, "j": "x"}, None]}, "new": 1.5},
    ]
    assert concat([]).num_rows == 0


def test_concat_refuses_a_column_of_two_types() -> None:
    with pytest.raises(RecipeError, match="age"):
        concat([arrow_table([{"age": 1}]), arrow_table([{"age": "old"}])])


@given(st.lists(st.fixed_dictionaries({"n": st.integers(), "s": st.none() | st.fixed_dictionaries({}, optional={"x": st.integers(0, 9)})})))
def test_concat_of_parts_is_the_table_of_the_whole(rows: list[dict[str, Any]]) -> None:
    rows = [{**row, "n": row["n"] % 100} for row in rows]
    whole = arrow_table(rows).to_pylist()
    parts = concat([arrow_table([row]) for row in rows]).to_pylist()
    assert parts == whole or [_drop_empty(row) for row in parts] == [_drop_empty(row) for row in whole]


def _drop_empty(row: dict[str, Any]) -> dict[str, Any]:
    """An empty dict has no Arrow form of its own, so it is null or a struct of nulls."""
    return {name: None if isinstance(value, dict) and set(value.values()) <= {None} else value for name, value in row.items()}


def test_resolve_prefers_exact_names_and_falls_back_on_case() -> None:
    schema = arrow_table([{"Meta": {"a": 1, "A": 2, "b": 3}, "l": [1], "n": None}]).schema
    assert resolve(schema, ("Meta", "A")) == ("Meta", "A")
    assert resolve(schema, ("meta", "B")) == ("Meta", "b")
    assert resolve(schema, ("l", "x")) == ("l",)
    assert resolve(schema, ("n", "x", "y")) == ("n", "x", "y")
    assert resolve(schema, ("meta", "c")) is None
    assert column_paths(schema) == [("Meta", "a"), ("Meta", "A"), ("Meta", "b"), ("l",), ("n",)]


def test_project_keeps_nulls_of_structs_and_chunks() -> None:
    table = pa.concat_tables([arrow_table([{"s": {"x": 1, "y": 2}}, {"s": None}]), arrow_table([{"s": {"x": 3, "y": 4}}])])
    assert project(table.slice(1), [("s", "y"), ("t", "u")]).to_pylist() == [
        {"s": {"y": None}, "t": {"u": None}},
        {"s": {"y": 4}, "t": {"u": None}},
    ]
    assert project(table.slice(0, 0), [("s", "x")]).num_rows == 0


def test_tables_of_other_columns_are_joined_by_their_names() -> None:
    """Whichever a table lacks, first, last or in between: nothing there is null, and the others keep their place."""
    tables = [
        arrow_table([row]) for row in ({"a": 1, "b": 2, "c": 3}, {"b": 4, "c": 5}, {"a": 6, "c": 7}, {"a": 8, "b": 9}, {"d": "x", "b": 1})
    ]
    assert concat(tables).to_pylist() == [
        {"a": 1, "b": 2, "c": 3, "d": None},
        {"a": None, "b": 4, "c": 5, "d": None},
        {"a": 6, "b": None, "c": 7, "d": None},
        {"a": 8, "b": 9, "c": None, "d": None},
        {"a": None, "b": 1, "c": None, "d": "x"},
    ]
