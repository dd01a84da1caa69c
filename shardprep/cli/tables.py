"""Tables of columns as text, CSV, JSON lines and Parquet."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from shardprep.cli.reporters import make_console
from shardprep.cli.text_table import cell, lay_out
from shardprep.core.hints import nearest
from shardprep.core.reads import clashing
from shardprep.errors import RecipeError
from shardprep.shards.parquet import write_parquet


def samples(url: str, storage_options: Mapping[str, Any] | None = None) -> pa.Table:
    """Return a row per sample of a set, joined with the sets that it builds on: the key, the record's columns, the members' suffixes."""
    from shardprep.packed.sets import open_set

    return open_set(url, storage_options).table()


def fates(url: str, fate: str, storage_options: Mapping[str, Any] | None = None) -> pa.Table:
    """Return the samples with this fate: of `kept` those that the set holds, else inputs, and children that did not come to be.

    A row of an input sample has the role `input`; one of a sample that came out, or should have, `output` with its parent's key.
    """
    from shardprep.packed.sets import fates_table

    rows = fates_table(url, storage_options, fate=fate).drop_columns(["step", "shard"])
    return rows.filter(pc.equal(rows["role"], "output")) if fate == "kept" else rows


def flatten(table: pa.Table) -> pa.Table:
    """Return the table with structs as dotted columns, all levels."""
    while any(pa.types.is_struct(field.type) for field in table.schema):
        table = table.flatten()
    return table


def pick(table: pa.Table, names: Sequence[str] | None) -> pa.Table:
    """Return the columns named, in that order: whole names, or structs with all they hold (`scores`)."""
    if names is None:
        return table
    chosen: dict[str, None] = {}
    for name in filter(None, (name.strip() for name in names)):
        found = [column for column in table.column_names if column == name or column.startswith(f"{name}.")]
        if not found and len(alike := clashing(name, table.column_names)) > 1:
            raise RecipeError(f"{name} is ambiguous; there is {', '.join(alike)}")
        if not found:
            raise RecipeError(f"there is no column {name!r}{nearest(name, table.column_names)}; there are {', '.join(table.column_names)}")
        chosen |= dict.fromkeys(found)
    return table.select(list(chosen))


def write(table: pa.Table, form: str, sink: BinaryIO) -> None:
    """Write a flat table: `csv` (lists as JSON), `json` (a line per row), `parquet`, or `text` (tabs)."""
    if form == "parquet":
        write_parquet(table, sink)
    elif form == "json":
        for row in table.to_pylist():
            sink.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
    elif form == "csv":
        pyarrow.csv.write_csv(_without_lists(table), sink)
    else:
        for row in [table.column_names, *([cell(value) for value in row.values()] for row in table.to_pylist())]:
            sink.write("\t".join(row).encode() + b"\n")


def print_text(table: pa.Table, *, asked: bool, width: int | None = None) -> None:
    """Print the table for people, as wide as the terminal (160 columns elsewhere); `asked`: its columns were chosen by name."""
    rows, names = table.to_pylist(), table.column_names
    for line in lay_out(rows, names, width or make_console().width, asked=asked):
        print(line)


def _without_lists(table: pa.Table) -> pa.Table:
    for place, field in enumerate(table.schema):
        if pa.types.is_nested(field.type):
            texts = [None if value is None else json.dumps(value, ensure_ascii=False) for value in table.column(place).to_pylist()]
            table = table.set_column(place, field.name, pa.array(texts, pa.string()))
    return table
