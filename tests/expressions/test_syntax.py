"""Hostile expressions are refused, and nothing is read or written on the way."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from shardprep.errors import RecipeError
from shardprep.expressions.condition import check_condition, check_order
from shardprep.expressions.engine import TABLE, QueryLimits, connect, run_sql
from shardprep.expressions.query import Query, evaluate, run_query

SECRET = "the-secret-of-the-file"

HOSTILE = [
    "(SELECT content FROM read_text('{secret}')) IS NOT NULL",
    "EXISTS (FROM read_csv('{secret}'))",
    "EXISTS (FROM read_parquet('{secret}'))",
    "EXISTS (FROM '{secret}')",
    "key IN (SELECT file FROM glob('/etc/*'))",
    "1 = (SELECT count(*) FROM duckdb_settings())",
    "true) FROM read_text('{secret}') WHERE (true",
    "true) UNION SELECT (true",
    "true; COPY (SELECT 1) TO '{out}'",
    "true); COPY (SELECT 1) TO '{out}'; SELECT (true",
    "COPY (SELECT 1) TO '{out}'",
    "ATTACH '{out}' AS x",
    "true); ATTACH '{out}' AS x; SELECT (true",
    "EXPORT DATABASE '{out}'",
    "INSTALL httpfs",
    "LOAD httpfs",
    "true); LOAD '{secret}'; SELECT (true",
    "PRAGMA database_list",
    "SET memory_limit = '1TB'",
    "true); SET memory_limit = '1TB'; SELECT (true",
    "CREATE TABLE x (a int)",
    "CALL duckdb_settings()",
    "getenv('HOME') IS NOT NULL",
    "current_setting('memory_limit') IS NOT NULL",
    "getvariable('x') IS NULL",
    "write_log('{out}') IS NULL",
    "setseed(0.5) IS NULL",
    "json_serialize_plan('FROM read_text(''{secret}'')') IS NULL",
    "random() > 0.5",
    "now() IS NOT NULL",
    "ago(INTERVAL 1 DAY) IS NOT NULL",
    "uuid() IS NULL",
    "sleep_ms(100000) IS NULL",
    "error('x')",
    "count(*) > 1",
    "sum(x) > 1",
    "row_number() OVER () > 1",
    "unnest([true, false])",
    "*",
    "COLUMNS('.*')",
    "$1",
    "?",
    "#1",
    "DEFAULT",
    "system.main.lower(key) = 'a'",
    "pg_catalog.pg_get_expr('', 0) IS NULL",
    "true) LIMIT (1",
    "true) ORDER BY (1",
    "true) USING SAMPLE (10",
    "true -- ) \n; COPY (SELECT 1) TO '{out}'",
    "true /* ",
    "true) --",
    "true \0",
    "",
    "   ",
    "'",
    '"',
]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.chdir(tmp_path)
    secret = tmp_path / "secret.csv"
    secret.write_text(f"a\n{SECRET}\n")
    return {"secret": str(secret), "out": str(tmp_path / "out.csv")}


@pytest.mark.parametrize("expression", HOSTILE)
def test_hostile_expressions_are_refused(expression: str, files: dict[str, str], tmp_path: Path) -> None:
    text = expression.replace("{secret}", files["secret"]).replace("{out}", files["out"])
    table = pa.table({"key": ["a"], "x": [1]})
    for attempt in (
        lambda: evaluate(text, [{"key": "a", "x": 1}]),
        lambda: run_query(table, where=text),
        lambda: run_query(table, select=[text]),
        lambda: run_query(table, order_by=text),
    ):
        with pytest.raises(RecipeError) as caught:
            attempt()
        assert SECRET not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["secret.csv"]


@pytest.mark.parametrize("order", ["key LIMIT 1", "key; SELECT 1", "(SELECT 1 FROM read_csv('x'))", "key -- \n LIMIT 1", "random()", "ALL"])
def test_hostile_orders_are_refused(order: str) -> None:
    with pytest.raises(RecipeError):
        run_query(pa.table({"key": ["a", "b"]}), order_by=order)


@pytest.mark.parametrize(
    "sql",
    [
        "FROM read_text('{secret}')",
        "FROM read_csv('{secret}')",
        "FROM '{secret}'",
        "FROM glob('/etc/*')",
        "FROM elsewhere",
        "COPY (SELECT 1) TO '{out}'",
        "ATTACH '{out}'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
        "SET lock_configuration = false",
        "SET memory_limit = '1TB'",
        "SELECT getenv('HOME')",
    ],
)
def test_the_engine_itself_refuses_what_the_parser_would_let_through(sql: str, files: dict[str, str], tmp_path: Path) -> None:
    elsewhere = pa.table({"a": [1]})
    with pytest.raises(duckdb.Error):
        run_sql(connect(QueryLimits()), elsewhere, sql.format(**files))
    assert [path.name for path in tmp_path.iterdir()] == ["secret.csv"]


def test_the_engine_reads_its_own_table() -> None:
    assert run_sql(connect(QueryLimits()), pa.table({"a": [1]}), f"SELECT a FROM {TABLE}").to_pylist() == [{"a": 1}]


def test_messages_say_what_would_be_right() -> None:
    with pytest.raises(RecipeError, match='a name that is a word of SQL goes in quotes: "end"'):
        evaluate("end > 1", [{"end": 2}])
    with pytest.raises(RecipeError, match=r"lowr\(\) is no function; did you mean lower"):
        evaluate("lowr(key) = 'a'", [{"key": "a"}])
    with pytest.raises(RecipeError, match=r"write lower\(column\)"):
        evaluate("key.lower() = 'a'", [{"key": "a"}])


@pytest.mark.parametrize(
    "path",
    [
        "shardprep_row",
        "ShardPrep_Row",
        "shardprep_row_0",
        "shardprep_rows.shardprep_row",
        '"shardprep_rows"."shardprep_row"',
        "SHARDPREP_ROWS.key",
        "shardprep_rows['shardprep_row']",
        "main.shardprep_rows.shardprep_row",
        "temp.main.shardprep_rows.shardprep_row",
        "shardprep_rows",
    ],
)
def test_the_numbers_of_the_rows_and_the_table_are_hidden(path: str) -> None:
    rows = [{"key": "a"}, {"key": "b"}]
    with pytest.raises(RecipeError, match="is no column; names that begin with shardprep_row are taken"):
        evaluate(f"{path} IS NOT NULL", rows)
    with pytest.raises(RecipeError, match="is no column; names that begin with shardprep_row are taken"):
        run_query(pa.Table.from_pylist(rows), order_by=path)


@pytest.mark.parametrize("order", ["1", "1 DESC", "-1", "(1)", "1 + 1", "key, 1", "2 NULLS LAST, key", "'key'", "NULL", "1.5", "true"])
def test_an_order_by_a_place_or_another_constant_is_refused(order: str) -> None:
    table = pa.Table.from_pylist([{"key": "a"}, {"key": "b"}])
    for select in (None, ["key"]):
        with pytest.raises(RecipeError, match="a number or another constant orders nothing"):
            run_query(table, select=select, order_by=order)


def test_an_order_reads_the_columns_of_the_table_not_what_is_selected() -> None:
    table = pa.Table.from_pylist([{"key": "a", "meta": {"key": 2}}, {"key": "b", "meta": {"key": 1}}])
    assert run_query(table, select=["meta.key"], order_by="key")["meta.key"].to_pylist() == [2, 1]


@pytest.mark.parametrize("deep", ["[" * 500 + "]" * 500 + " IS NULL", "(" * 2000 + "true" + ")" * 2000, "+".join(["a.b"] * 900) + " > 1"])
def test_deep_nesting_is_told_in_one_line(deep: str) -> None:
    types = {("a", "b"): "double"}
    for ask in (lambda: Query(deep).evaluate([{"a": {"b": 1.0}}]), lambda: check_condition(deep, types), lambda: check_order(deep, types)):
        with pytest.raises(RecipeError) as error:
            ask()
        assert "\n" not in str(error.value)
