"""Conditions over columns: what they give, what they refuse, what they cost."""

from __future__ import annotations

import pickle
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardprep.errors import RecipeError
from shardprep.expressions import query
from shardprep.expressions.engine import QueryLimits
from shardprep.expressions.query import Query, evaluate, run_query
from shardprep.expressions.tables import arrow_table

ROWS = [
    {
        "key": "a",
        "scores": {"aesthetic": 5.5, "flow": 1.0},
        "text": {"area": 0.01},
        "end": 3,
        "meta": {"A": 1, "a": 2, "my col": "x", "select": 7},
    },
    {
        "key": "b",
        "scores": {"aesthetic": 4.0, "flow": None},
        "text": {"area": 0.2},
        "end": 9,
        "meta": {"A": 1, "a": 9, "my col": "y", "select": None},
    },
    {"key": "c", "scores": {"aesthetic": None, "flow": 2.0}, "text": {"area": 0.05}, "end": None, "meta": None},
    {"key": "d"},
]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("scores.aesthetic >= 5 AND text.area < 0.1", [True, False, None, None]),
        ("scores.aesthetic >= 5 OR text.area < 0.1", [True, False, True, None]),
        ("NOT scores.aesthetic >= 5", [False, True, None, None]),
        ("scores.flow IS NULL", [False, True, False, True]),
        ("coalesce(scores.flow, 0) > 0", [True, False, True, False]),
        ('"end" BETWEEN 1 AND 5', [True, False, None, None]),
        ("meta.select = 7", [True, None, None, None]),
        ("meta.\"my col\" LIKE 'x%'", [True, False, None, None]),
        ("key IN ('a', 'd')", [True, False, False, True]),
        ("KEY = 'a' and Scores.Aesthetic > 1", [True, False, False, False]),
        ("scores['aesthetic'] > 5", [True, False, None, None]),
        ("CASE WHEN key = 'a' THEN true END", [True, None, None, None]),
        ("true -- a comment", [True] * 4),
        ("/* a comment */ key = 'a'", [True, False, False, False]),
    ],
)
def test_three_valued_logic_over_table_and_records(expression: str, expected: list[bool | None]) -> None:
    assert evaluate(expression, ROWS) == expected
    assert query.filter(arrow_table(ROWS), expression) == expected


def test_columns_that_differ_in_case_are_read_apart_or_refused() -> None:
    assert evaluate("meta.a = 9", ROWS) == [False, True, None, None]
    assert evaluate('meta."A" = 1', ROWS) == [True, True, None, None]
    with pytest.raises(RecipeError, match=r"meta\.A and meta\.a differ in case only"):
        evaluate('meta."A" = meta.a', ROWS)


@pytest.mark.parametrize(
    ("expression", "columns"),
    [
        ("scores.aesthetic >= 5 AND text.area < 0.1 AND scores.aesthetic < 9", ("scores.aesthetic", "text.area")),
        ("lower(caption.text) LIKE '%a%'", ("caption.text",)),
        ('"end" > 1 AND meta."a b" IS NULL', ("end", "meta.a b")),
        ("len(list_filter(per_frame.flow, lambda v: v > scores.flow)) > 2", ("per_frame.flow", "scores.flow")),
        ("[v FOR v IN per_frame.flow IF v > 1][1] > 0", ("per_frame.flow",)),
        ("CASE WHEN a.b THEN c.d ELSE e.f END", ("a.b", "c.d", "e.f")),
        ("cast(a.b AS double) BETWEEN c AND d", ("a.b", "c", "d")),
        ("'scores.no' = 'x' OR 1 = 1 -- scores.no", ()),
        ("scores['luma'] > 0.5 AND source['bytes'] > 3", ("scores.luma", "source.bytes")),
        ("struct_extract(scores, 'luma') > (scores).flow", ("scores.luma", "scores.flow")),
        ("a.b['c'].d = array_extract(e, 'f')['g']", ("a.b.c.d", "e.f.g")),
        ("meta.tags[1] = meta.tags[meta.n]", ("meta.tags", "meta.n")),
        ("scores['lu' || 'ma'] > 0.5", ("scores",)),
        ("scores = {'luma': 1}", ("scores",)),
        ("meta.\"a.b\"['c'] > 1", ("meta.a.b.c",)),
        ("list_has_any([X FOR X IN meta.l IF x['y'] > META.z], [1])", ("meta.l", "META.z")),
        ("meta.j->>'a' = 'x' OR meta->'k' IS NULL", ("meta.j", "meta")),
    ],
)
def test_columns_are_those_that_the_expression_reads(expression: str, columns: tuple[str, ...]) -> None:
    assert tuple(".".join(column.path) for column in Query(expression).reads) == columns


def test_lists_are_searched() -> None:
    rows = [{"per_frame": {"flow": [0.1, 3.0]}}, {"per_frame": {"flow": []}}, {"per_frame": None}]
    assert evaluate("len(list_filter(per_frame.flow, lambda v: v > 1)) = 1", rows) == [True, False, None]
    assert evaluate("list_max(per_frame.flow) > 1", rows) == [True, None, None]


def test_unknown_column_names_the_nearest() -> None:
    with pytest.raises(RecipeError, match=r"unknown column scores\.astetic; there is scores\.aesthetic"):
        query.filter(arrow_table(ROWS), "scores.astetic > 5")
    with pytest.raises(RecipeError, match=r"unknown column quality.*there is"):
        run_query(arrow_table(ROWS), select=["quality"])
    with pytest.raises(RecipeError, match="unknown column current_date"):
        query.filter(arrow_table(ROWS), "current_date > date '2000-01-01'")


def test_a_value_is_no_condition() -> None:
    with pytest.raises(RecipeError, match="gives double, expected true or false"):
        evaluate("scores.flow", ROWS)
    with pytest.raises(RecipeError, match="expected true or false"):
        evaluate("true, true", ROWS)
    with pytest.raises(RecipeError, match="expected true or false"):
        Query("scores.flow + 1").check(arrow_table(ROWS).schema)
    Query("scores.flow > 1").check(arrow_table(ROWS).schema)


def test_a_type_that_does_not_compare_is_a_recipe_error() -> None:
    with pytest.raises(RecipeError, match="Cannot compare values of type VARCHAR"):
        evaluate("key > 5", ROWS)


def test_nulls_everywhere_are_null_whatever_the_type() -> None:
    rows = [{"a": None}, {}]
    for expression in ["a.b > 1", "a.b = 'x'", "lower(a.b) LIKE 'x%'", "list_max(a.b) > 1", "a.b IN ('x')", "NOT a.b"]:
        assert evaluate(expression, rows) == [None, None], expression
    assert evaluate("a.b IS NULL", []) == []


@given(st.lists(st.tuples(st.none() | st.integers(-5, 5), st.none() | st.floats(-5, 5)), max_size=30), st.integers(1, 30))
def test_a_verdict_does_not_depend_on_the_batch(values: list[tuple[int | None, float | None]], size: int) -> None:
    judge = Query("x.a >= 0 AND (x.b < 1 OR x.b IS NULL)")
    rows = [{"x": {"a": a, "b": b}} for a, b in values]
    whole = judge.evaluate(rows)
    assert whole == [verdict for i in range(0, len(rows), size) for verdict in judge.evaluate(rows[i : i + size])]
    python = [None if a is None and (b is None or b < 1) else bool(a is not None and a >= 0 and (b is None or b < 1)) for a, b in values]
    assert whole == python


def test_a_query_travels_and_is_shared_by_threads() -> None:
    judge = pickle.loads(pickle.dumps(Query("x > 10")))  # noqa: S301 - a test of our own pickle
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda start: judge.evaluate([{"x": start + i} for i in range(20)]), range(0, 20, 1)))
    assert results == [[start + i > 10 for i in range(20)] for start in range(0, 20, 1)]


def test_run_query_filters_sorts_and_limits() -> None:
    table = arrow_table(ROWS)
    assert run_query(table, where="text.area < 0.1")["key"].to_pylist() == ["a", "c"]
    assert run_query(table, order_by="scores.aesthetic")["key"].to_pylist() == ["b", "a", "c", "d"]
    assert run_query(table, order_by='"end" DESC, key', limit=2)["key"].to_pylist() == ["b", "a"]
    assert run_query(table, where="key <> 'b'", order_by="key DESC", limit=2).schema == table.schema
    chosen = run_query(table, select=["key", "scores.aesthetic", "scores.flow * 2"], where="key = 'a'")
    assert chosen.to_pylist() == [{"key": "a", "scores.aesthetic": 5.5, "scores.flow * 2": 2.0}]
    assert run_query(table, limit=0).num_rows == 0
    with pytest.raises(RecipeError, match="limit -1"):
        run_query(table, limit=-1)


def test_ties_keep_their_order() -> None:
    table = pa.table({"a": [1, 0] * 5000, "n": list(range(10000))})
    assert run_query(table, order_by="a", limits=QueryLimits(threads=4))["n"].to_pylist() == [*range(1, 10000, 2), *range(0, 10000, 2)]


def test_memory_is_limited_and_spills_only_where_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    table = pa.table({"n": list(range(300_000)), "s": [f"{(i * 7919) % 300_000:0100d}" for i in range(300_000)]})
    with pytest.raises(RecipeError, match="Out of Memory"):
        run_query(table, select=["s", "s || s"], order_by="s || s", limits=QueryLimits(memory_mib=32))
    assert list(tmp_path.iterdir()) == []
    limits = QueryLimits(memory_mib=100, temp_directory=str(tmp_path / "spill"))
    result = run_query(table, select=["n", "s || s"], order_by="s || s", limits=limits)
    assert result.num_rows == 300_000
    assert result["n"][1].as_py() * 7919 % 300_000 == 1


def test_a_filter_over_100k_rows_and_20_columns_is_quick() -> None:
    columns = {f"s{i}": pa.array([(row * (i + 3)) % 1000 / 1000 for row in range(100_000)]) for i in range(20)}
    table = pa.table(
        {"key": [str(row) for row in range(100_000)], "scores": pa.StructArray.from_arrays(list(columns.values()), list(columns))}
    )
    judge = Query(" AND ".join(f"scores.s{i} < 0.99" for i in range(20)))
    start = time.perf_counter()
    verdicts = judge.filter(table)
    assert time.perf_counter() - start < 1
    assert verdicts[:3] == [True, True, True]
    assert verdicts[330] is False
