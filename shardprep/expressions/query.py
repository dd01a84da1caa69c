"""Expressions over the columns of records: `scores.aesthetic >= 5 AND text.area < 0.1`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from shardprep.core.reads import Column, narrowed
from shardprep.errors import RecipeError
from shardprep.expressions.engine import ROW, TABLE, DuckDBError, QueryLimits, connect, first_line, run_sql, shared
from shardprep.expressions.syntax import parse_expression, parse_order
from shardprep.expressions.tables import ColumnPath, by_types, project, resolve, table_of, unknown_column

if TYPE_CHECKING:
    import duckdb

_DEFAULT_LIMITS = QueryLimits()


class Query:
    """One SQL condition, parsed once, so that evaluating it many times is cheap. Pickles as its text."""

    def __init__(self, expression: str, limits: QueryLimits = _DEFAULT_LIMITS) -> None:
        """Raise RecipeError where the text is not one expression over one row."""
        self.expression, self._limits = expression, limits
        self._connection = shared(limits)
        self._paths = parse_expression(self._connection, expression)

    def __reduce__(self) -> tuple[type[Query], tuple[str, QueryLimits]]:
        return Query, (self.expression, self._limits)

    @property
    def reads(self) -> tuple[Column, ...]:
        """The columns referred to, in the order of the text; the expression is shown nothing else of a record."""
        return tuple(map(Column, self._paths))

    def check(self, schema: pa.Schema) -> None:
        """Raise RecipeError where the expression names a column that the schema has not, or is no condition on its types."""
        self.filter(schema.empty_table())

    def filter(self, table: pa.Table) -> list[bool | None]:
        """Return true, false or null per row, as SQL says it: a comparison with null is null."""
        paths = _resolve_all(f"expression {self.expression!r}", table.schema, self._paths)
        shown = project(table, paths)
        if all(_is_typed(shown.schema, path) for path in paths) or not len(table):
            return self._judge(shown, len(table))
        return self._by_types(shown.to_pylist())

    def evaluate(self, records: Sequence[Mapping[str, Any]]) -> list[bool | None]:
        """Return true, false or null per record, a function of that record alone; a column that a record has not is null."""
        return self._by_types([narrowed(record, self.reads) for record in records])

    def _by_types(self, records: Sequence[Mapping[str, Any]]) -> list[bool | None]:
        verdicts: list[bool | None] = [None] * len(records)
        for places, alike in by_types(records):
            for place, verdict in zip(places, self._judge(table_of(alike, self._paths), len(alike)), strict=True):
                verdicts[place] = verdict
        return verdicts

    def _judge(self, table: pa.Table, num_rows: int) -> list[bool | None]:
        sql = f"SELECT {ROW}, (\n{self.expression}\n) FROM {TABLE}"
        result = _run(self._connection, f"expression {self.expression!r}", _numbered(table, num_rows), sql)
        verdicts = result.column(1)
        if not pa.types.is_boolean(verdicts.type) and (verdicts.null_count < num_rows or not num_rows):
            raise RecipeError(f"expression {self.expression!r}: gives {verdicts.type}, expected true or false; write a comparison")
        values: list[bool | None] = [None] * num_rows
        for row, value in zip(result.column(0).to_pylist(), verdicts.to_pylist(), strict=True):
            values[row] = value
        return values


def order_reads(order: str) -> tuple[Column, ...]:
    """Return the columns that an order such as `scores.aesthetic DESC, key` refers to; RecipeError where it is none."""
    return tuple(map(Column, parse_order(shared(_DEFAULT_LIMITS), order)))


def filter(table: pa.Table, expression: str) -> list[bool | None]:
    """Return true, false or null per row of the table."""
    return Query(expression).filter(table)


def evaluate(expression: str, records: Sequence[Mapping[str, Any]]) -> list[bool | None]:
    """Return true, false or null per record; a column that a record has not is null."""
    return Query(expression).evaluate(records)


def run_query(
    table: pa.Table,
    *,
    select: Sequence[str] | None = None,
    where: str | None = None,
    order_by: str | None = None,
    limit: int | None = None,
    limits: QueryLimits = _DEFAULT_LIMITS,
) -> pa.Table:
    """Return the rows for which `where` is true, in the order of `order_by` (nulls last, ties as they came), at most `limit`.

    `select` lists columns or expressions, each named as it is written; without it the columns come back untouched.
    `order_by` reads `scores.aesthetic DESC, key`.
    """
    if limit is not None and limit < 0:
        raise RecipeError(f"limit {limit}: expected 0 or more")
    if where is not None:
        table = table.filter(pa.array([verdict is True for verdict in Query(where, limits).filter(table)], pa.bool_()))
    connection = connect(limits)
    paths = {f"column {text!r}": parse_expression(connection, text) for text in select or ()}
    paths |= {f"order {text!r}": parse_order(connection, text) for text in [order_by] if text is not None}
    wanted = [path for what, found in paths.items() for path in _resolve_all(what, table.schema, found)]
    # each with a name of its own: ORDER BY would take `key` for the `meta.key` that stands here
    shown = (f"(\n{text}\n) AS {ROW}_{place}" for place, text in enumerate(select or ()))
    sql = ", ".join([f"SELECT {ROW}", *shown]) + f" FROM {TABLE}"
    sql += " ORDER BY " + (f"{order_by}\n, {ROW}" if order_by is not None else ROW)
    sql += f" LIMIT {limit}" if limit is not None else ""
    result = _run(connection, next(iter(paths), "query"), _numbered(project(table, wanted), len(table)), sql)
    if select is None:
        return table.take(result.column(0))
    return result.select(range(1, result.num_columns)).rename_columns(list(select))


def _resolve_all(what: str, schema: pa.Schema, paths: Iterable[ColumnPath]) -> list[ColumnPath]:
    found = [(path, resolve(schema, path)) for path in paths]
    for path, fields in found:
        if fields is None:
            raise unknown_column(what, path, schema)
    return [fields for _, fields in found if fields is not None]


def _is_typed(schema: pa.Schema, path: ColumnPath) -> bool:
    """Whether a column's values have the type that a stage declared; of a struct it depends on the row which fields there are."""
    kind = schema.field(path[0]).type
    for name in path[1:]:
        kind = kind.field(name).type if pa.types.is_struct(kind) else kind
    return not Column(path).is_untyped and not pa.types.is_struct(kind)


def _numbered(table: pa.Table, num_rows: int) -> pa.Table:
    columns = {name: table[name] for name in table.column_names}
    return pa.table({ROW: pa.array(range(num_rows), pa.int64()), **columns})


def _run(connection: duckdb.DuckDBPyConnection, what: str, table: pa.Table, sql: str) -> pa.Table:
    try:
        return run_sql(connection, table, sql)
    except DuckDBError as error:
        raise RecipeError(f"{what}: {first_line(error)}") from error
