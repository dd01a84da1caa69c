"""Metadata columns: one type each, names that expressions can write."""

from __future__ import annotations

import copy
import gc
import json
import math
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardprep.expressions.tables import arrow_table, concat
from shardprep.sources.columns import CompactRecord, look_up, typed_columns
from shardprep.sources.listing import list_source
from shardprep.sources.spec import SourceSpec


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 2, None], [1, 2, None]),
        ([1, 2.5], [1.0, 2.5]),
        ([1.0, math.nan], [1.0, None]),
        ([math.inf, 1], ["Infinity", "1"]),
        ([True, False], [True, False]),
        ([True, 1], ["true", "1"]),
        ([1, "x", None], ["1", "x", None]),
        ([1 << 70, 2], [str(1 << 70), "2"]),
        ([[1, 2], [0.5], None, []], [[1.0, 2.0], [0.5], None, []]),
        ([["a", 1], ["b"]], [["a", "1"], ["b"]]),
        ([[{"x": 1}], [{"y": 2}]], ['[{"x": 1}]', '[{"y": 2}]']),
        ([{"x": 1}, {"y": "q", "x": 2.5}, {}], [{"x": 1.0}, {"x": 2.5, "y": "q"}, None]),
        ([{"x": 1}, "text"], ['{"x": 1}', "text"]),
        (["\udcff"], ["\\udcff"]),
    ],
)
def test_one_type_per_column(values: list[Any], expected: list[Any]) -> None:
    rows = typed_columns([{"c": value} for value in values])
    assert [row.get("c") for row in rows] == expected
    assert [type(row.get("c")) for row in rows] == [type(value) for value in expected]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@given(st.lists(st.dictionaries(st.sampled_from(["a", "A", "b.c", "ü"]), JSON), max_size=5))
def test_any_json_makes_columns_of_one_type_over_all_shards(rows: list[dict[str, Any]]) -> None:
    typed = typed_columns(rows)
    assert len(typed) == len(rows)
    json.dumps(typed, allow_nan=False, ensure_ascii=False).encode()
    whole = arrow_table(typed)
    parts = concat([arrow_table([row]) for row in typed])
    assert {f.name for f in whole.schema} == {f.name for f in parts.schema}


def test_look_up_goes_into_objects_and_lists() -> None:
    row = {"a.b": 1, "a": {"b": 2, "c": [{"d": 3}]}, "l": [5]}
    assert look_up(row, "a.b") == 1
    assert look_up(row, "a.c.0.d") == 3
    assert look_up(row, "l.0") == 5
    assert [look_up(row, column) for column in ("l.1", "l.-1", "l.x", "a.x", "a.b.c", "")] == [None] * 6


def test_a_source_of_many_rows_is_held_in_little_memory(tmp_path: Path) -> None:
    count = 3000
    for number in range(count):
        (tmp_path / f"v{number:06d}.mp4").touch()
    rows = "".join(f"v{number:06d}.mp4,a caption of number {number},{number},CC{number % 5}\n" for number in range(count))
    (tmp_path / "l.csv").write_text("path,text,views,licence\n" + rows)
    list_source(SourceSpec(list=str(tmp_path / "l.csv")))
    tracemalloc.start()
    try:
        entries = list_source(SourceSpec(list=str(tmp_path / "l.csv")))
        gc.collect()
        held = tracemalloc.get_traced_memory()[0] / count
    finally:
        tracemalloc.stop()
    assert len(entries) == count
    assert held < 1000, "bytes for each row; 1,230 where its columns are dicts"


def test_a_compact_record_is_the_record() -> None:
    record = {"caption": {"text": "ü \ud800 x"}, "meta": {"n": [1, 2.5, None, True], "deep": {"a": {}}}}
    compact = CompactRecord(record)
    assert compact == record == compact.plain() == dict(compact) == copy.deepcopy(compact).plain()
    assert {**compact, "x": 1} == {**record, "x": 1}
    assert (compact.get("spans"), len(compact), "meta" in compact) == (None, 2, True)
