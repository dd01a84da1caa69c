"""An expression is a function of one record: no clock, nothing of the machine or of the session, nothing of other records."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from shardprep.errors import RecipeError
from shardprep.expressions.functions import ALLOWED_FUNCTIONS
from shardprep.expressions.query import Query, evaluate, run_query
from shardprep.expressions.tables import arrow_table, resolve

CLOCKS_AND_MACHINES = """
    age(timestamp '2020-01-01') | age(date '2020-01-01') | now() | today() | current_localtime() | current_localtimestamp()
    get_current_time()
    get_current_timestamp() | transaction_timestamp() | ago(INTERVAL 1 DAY) | random() | uuid() | gen_random_uuid() | uuidv4() | uuidv7()
    setseed(1) | nextval('s') | currval('s') | txid_current() | current_setting('TimeZone') | getvariable('x') | version() | typeof(1)
    pg_typeof(1) | hash(1) | create_sort_key(1, 'ASC') | current_user() | session_user() | current_database() | current_schema()
    getenv('HOME')
    get_block_size('memory') | in_search_path('memory', 'main') | pg_postmaster_start_time() | error('x') | sleep_ms(1) | write_log('x')
    geomean(x) | wavg(x, x) | json_group_array(x) | sum(x) | approx_quantile(x, 0.5) | any_value(x) | unnest([1]) | alias(x) | stats(x)
    vector_type(x) | __internal_barrier(x) | icu_sort_key('a', 'de') | json_serialize_sql('SELECT 1')
    json_deserialize_sql('{}') | nosuch(1)
"""


@pytest.mark.parametrize("call", [call.strip() for line in CLOCKS_AND_MACHINES.strip().splitlines() for call in line.split("|")])
def test_what_is_no_function_of_the_record_is_refused(call: str) -> None:
    with pytest.raises(RecipeError, match=r"is refused: only functions of one row's values|is no function|more than an expression"):
        Query(f"{call} IS NOT NULL")


def test_the_functions_that_are_allowed_are_there_and_keep_their_promise() -> None:
    # A later DuckDB may take a function away, or make one of these depend on more than its arguments.
    rows = duckdb.connect().execute(
        "SELECT function_name, function_type, bool_and(coalesce(stability, 'CONSISTENT') = 'CONSISTENT'),"
        " bool_or(coalesce(macro_definition, '') SIMILAR TO '.*(current_|now|random|nextval).*') FROM duckdb_functions() GROUP BY 1, 2"
    )
    known: dict[str, list[Any]] = {}
    for name, *facts in rows.fetchall():
        known.setdefault(name, []).append(facts)
    assert sorted(ALLOWED_FUNCTIONS - known.keys()) == []
    aggregates = [name for name in ALLOWED_FUNCTIONS if not {kind for kind, *_ in known[name]} & {"scalar", "macro"}]
    assert aggregates == []
    unstable = [
        name for name in ALLOWED_FUNCTIONS for kind, stable, clock in known[name] if kind in ("scalar", "macro") and (clock or not stable)
    ]
    assert unstable == []


@pytest.mark.parametrize(
    "word", ["current_date", "current_time", "current_timestamp", "localtime", "localtimestamp", "current_user", "user"]
)
def test_words_that_sql_takes_for_a_clock_are_columns_that_are_not_there(word: str) -> None:
    with pytest.raises(RecipeError):
        Query(f"{word} IS NOT NULL").check(pa.schema([("a", pa.int64())]))


ZONED = [
    "'2020-07-01 12:00:00'::TIMESTAMPTZ::VARCHAR = '2020-07-01 12:00:00+00'",
    "to_timestamp(0)::VARCHAR = '1970-01-01 00:00:00+00'",
    "hour(to_timestamp(meta.t)) = 0 AND strftime(to_timestamp(meta.t), '%d %H %Z') = '01 00 UTC'",
    "date_trunc('day', to_timestamp(meta.t))::DATE = date '1970-01-01'",
    "timestamp '2020-07-01 12:00:00' = '2020-07-01 12:00:00+00'::TIMESTAMPTZ",
    "strptime('2020-07-01 12:00 +0200', '%Y-%m-%d %H:%M %z')::VARCHAR = '2020-07-01 10:00:00+00'",
    "make_timestamp(2020, 7, 1, 12, 0, 0)::TIMESTAMPTZ::VARCHAR = '2020-07-01 12:00:00+00'",
    "dayname(date '2020-07-01') = 'Wednesday' AND monthname(date '2020-07-01') = 'July'",
    "'a' < 'B' COLLATE NOCASE AND upper('straße') = 'STRASSE' OR upper('i') = 'I'",
    "timezone('Asia/Tokyo', timestamp '2020-07-01 12:00:00')::VARCHAR = '2020-07-01 03:00:00+00'",
]


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/New_York"])
def test_the_machines_time_zone_and_language_count_for_nothing(zone: str) -> None:
    program = (
        "import sys; from shardprep.expressions.query import evaluate; "
        f"print([evaluate(one, [{{'meta': {{'t': 0}}}}])[0] for one in {ZONED!r}])"
    )
    env = {**os.environ, "TZ": zone, "LC_ALL": "tr_TR.UTF-8", "LANG": "de_DE.UTF-8"}
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == str([True] * len(ZONED))


# --- nothing of other records

MIXED: list[dict[str, Any]] = [
    {"meta": {"n": 1, "s": {"a": 1}, "l": [1]}, "scores": {"x": 1.0}},
    {"meta": {"n": 1.5, "s": {"b": 2.5}, "l": [1.5]}, "scores": {"x": 2.5, "y": 3.0}},
    {"meta": {"n": "1", "s": "text", "l": []}, "scores": {}},
    {"meta": {"n": None, "s": {"a": 1.0}}},
    {"meta": {"n": True, "l": ["x"]}, "scores": {"y": 1.0}},
    {"meta": {"n": 2.0}},
    {},
]


@pytest.mark.parametrize(
    "expression",
    [
        "meta.n::VARCHAR = '1'",
        "meta.n::VARCHAR LIKE '%.%'",
        "coalesce(meta.n, 'none') = 'none'",
        "meta.s::VARCHAR = '{''a'': 1}'",
        "len(struct_keys(meta.s)) = 1",
        "md5(meta::VARCHAR) < '8'",
        "len(struct_keys(scores)) = 1",
        "scores['x'] > 1",
        "meta.l::VARCHAR = '[1]'",
        "scores IS NULL",
    ],
)
def test_a_verdict_hangs_on_its_own_record(expression: str) -> None:
    def alone(record: dict[str, Any]) -> Any:
        try:
            return evaluate(expression, [record])[0]
        except RecipeError as error:
            return str(error)

    expected = [alone(record) for record in MIXED]
    sound = [place for place, verdict in enumerate(expected) if not isinstance(verdict, str)]
    assert len(sound) >= 3, expected
    rng = random.Random(expression)
    for _ in range(20):
        some = rng.sample(sound, rng.randint(1, len(sound)))
        assert evaluate(expression, [MIXED[place] for place in some]) == [expected[place] for place in some]


def test_a_table_gives_what_its_records_give() -> None:
    records = [{"meta": {"n": n, "s": {"a": n}}, "scores": {"x": n / 2}} for n in (1.0, 2.5, None, 3.0) if n is not None]
    for expression in ("meta.n::VARCHAR = '3'", "meta.s::VARCHAR = '{''a'': 3}'", "scores.x > 0.7", "meta.n > 2 AND scores.x < 1.4"):
        verdicts = evaluate(expression, records)
        assert Query(expression).filter(arrow_table(records)) == verdicts, expression
        assert run_query(arrow_table(records), where=expression).num_rows == verdicts.count(True), expression


def test_a_name_that_may_mean_two_columns_is_refused() -> None:
    records = [{"scores": {"Flow": 1.0, "flow": 2.0}}]
    assert evaluate("scores.flow = 2 AND true", records) == [True]
    assert evaluate("scores['Flow'] = 1", records) == [True]
    with pytest.raises(RecipeError, match=r"column scores\.FLOW may be scores\.Flow or scores\.flow"):
        evaluate("scores.FLOW = 1", records)
    with pytest.raises(RecipeError, match=r"column scores\.FLOW may be scores\.Flow or scores\.flow"):
        resolve(arrow_table(records).schema, ("scores", "FLOW"))
    with pytest.raises(RecipeError, match=r"scores\.Flow and scores\.flow differ in case only"):
        evaluate("len(struct_keys(scores)) = 2", records)


def test_untyped_columns_of_many_rows_are_quick() -> None:
    table = arrow_table([{"meta": {"views": n if n % 3 else None, "rating": n / 2}} for n in range(100_000)])
    judge = Query("meta.views > 10 AND meta.rating < 1000")
    started = time.process_time()
    verdicts = judge.filter(table)
    assert time.process_time() - started < 8
    assert verdicts[10:14] == [False, True, None, True]
