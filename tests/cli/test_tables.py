"""Tables as flat columns, picked by name, written as text, CSV, JSON lines and Parquet."""

from __future__ import annotations

import csv
import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shardprep.cli import tables
from shardprep.errors import RecipeError


@pytest.fixture
def table() -> pa.Table:
    rows = [
        {"key": "a", "scores": {"flow": 1.5, "deep": {"x": 1}}, "per_frame": {"flow": [1.0, 2.0]}},
        {"key": "b\x1b[31m", "scores": None, "per_frame": None},
    ]
    return tables.flatten(pa.Table.from_pylist(rows))


def test_structs_become_dotted_columns(table: pa.Table) -> None:
    assert table.column_names == ["key", "scores.flow", "scores.deep.x", "per_frame.flow"]
    assert table.to_pylist()[1] == {"key": "b\x1b[31m", "scores.flow": None, "scores.deep.x": None, "per_frame.flow": None}


def test_columns_are_picked_by_name_or_prefix(table: pa.Table) -> None:
    assert tables.pick(table, ["scores", "key"]).column_names == ["scores.flow", "scores.deep.x", "key"]
    assert tables.pick(table, None) is table
    with pytest.raises(RecipeError, match=r"there is no column 'scores.flo'; did you mean scores.flow"):
        tables.pick(table, ["scores.flo"])


def test_formats(table: pa.Table) -> None:
    written = {}
    for form in ("csv", "json", "parquet", "text"):
        sink = io.BytesIO()
        tables.write(table, form, sink)
        written[form] = sink.getvalue()
    rows = list(csv.DictReader(io.StringIO(written["csv"].decode())))
    assert (rows[0]["scores.flow"], json.loads(rows[0]["per_frame.flow"]), rows[1]["scores.flow"]) == ("1.5", [1.0, 2.0], "")
    assert [json.loads(line) for line in written["json"].splitlines()] == table.to_pylist()
    assert pq.read_table(io.BytesIO(written["parquet"])).equals(table)
    assert written["text"].splitlines()[1] == b"a\t1.5\t1\t[1.0, 2.0]"


def test_nothing_drives_the_terminal(table: pa.Table, capsys: pytest.CaptureFixture[str]) -> None:
    tables.print_text(table, asked=True)
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert "2 rows" in printed


def test_a_key_is_never_cut(capsys: pytest.CaptureFixture[str]) -> None:
    key = "k" * 40 + "-0123456789ab"
    tables.print_text(pa.table({"key": [key], **{f"scores.of_something_{n}": ["words " * 9] for n in range(9)}}), asked=True)
    assert key in capsys.readouterr().out
