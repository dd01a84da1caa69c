"""Whether an expression makes sense on columns of known types: asked of DuckDB on rows that have no values, before anything runs."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from shardprep.core.reads import Column, fold
from shardprep.core.stage import ColumnType, ColumnTypes
from shardprep.errors import RecipeError
from shardprep.expressions.engine import TABLE, DuckDBError, QueryLimits, first_line, run_sql, shared
from shardprep.expressions.syntax import nesting_told, parse_expression, parse_order, syntax_tree
from shardprep.expressions.tables import ARROW_TYPES

if TYPE_CHECKING:
    import duckdb

_WORDS: Mapping[ColumnType, str] = {
    "double": "a number",
    "int64": "a whole number",
    "bool": "true or false",
    "string": "text",
    "list<double>": "a list of numbers",
    "list<int64>": "a list of whole numbers",
    "list<string>": "a list of texts",
}
_EXAMPLES: Mapping[ColumnType, Any] = {"double": 1.5, "int64": 1, "bool": True, "string": "some text"}
"""Values of which a text is neither a number nor a date: what takes one for such a thing, unasked, fails."""
_TAKEN_FOR = "takes text for a number, a date or a truth value; compare it with text in single quotes, or cast it, such as a.b::DOUBLE"
_MAYBE: tuple[ColumnType | None, ...] = (None, "string", "double", "bool", "list<string>", "list<double>")
"""What a column of unknown type may hold; None: nothing, which fits everywhere."""
_MOST_COMBINATIONS = 216


def check_condition(expression: str, types: ColumnTypes) -> None:
    """Raise RecipeError where the expression gives no true or false, or compares what cannot be compared.

    Of a column whose type only the source knows every type is tried: an error is one that all of them give.
    """
    connection = shared(QueryLimits())
    _check(connection, f"expression {expression!r}", expression, parse_expression(connection, expression), types, is_condition=True)


def check_order(order: str, types: ColumnTypes) -> None:
    """Raise RecipeError where an order such as `a.b DESC, c + d` cannot be computed from columns of these types."""
    connection = shared(QueryLimits())
    paths = parse_order(connection, order)
    with nesting_told(f"order {order!r}"):
        parts = syntax_tree(connection, f"SELECT 1 ORDER BY\n{order}")["modifiers"][0]["orders"]
    for part in parts:
        _check(connection, f"order {order!r}", _text_of(connection, part["expression"]), paths, types, is_condition=False)


def _check(
    connection: duckdb.DuckDBPyConnection,
    what: str,
    expression: str,
    paths: Sequence[tuple[str, ...]],
    types: ColumnTypes,
    *,
    is_condition: bool,
) -> None:
    unknown = [path for path, kind in types.items() if kind is None]
    if len(_MAYBE) ** len(unknown) > _MOST_COMBINATIONS:
        combinations: Iterable[tuple[ColumnType | None, ...]] = ((kind,) * len(unknown) for kind in _MAYBE)
    else:
        combinations = itertools.product(_MAYBE, repeat=len(unknown))
    first: str | None = None
    for kinds in combinations:
        with nesting_told(what):
            wrong = _problem(connection, expression, {**types, **dict(zip(unknown, kinds, strict=True))}, is_condition)
        if wrong is None:
            return
        first = first or wrong
    raise RecipeError(f"{what}: {first}{_described(paths, types)}")


def _problem(connection: duckdb.DuckDBPyConnection, expression: str, types: ColumnTypes, is_condition: bool) -> str | None:
    """Return what is wrong with the expression where the columns have these types."""
    try:
        result = run_sql(connection, _one_row(types, {}), f"SELECT (\n{expression}\n) FROM {TABLE}")
    except DuckDBError as error:
        return first_line(error)
    kind = result.schema.field(0).type
    if is_condition and not pa.types.is_boolean(kind) and not _may_be_null(kind, types):
        return f"gives {kind}, expected true or false; write a comparison"
    try:
        lenient = _text_of(connection, _lenient(syntax_tree(connection, f"SELECT (\n{expression}\n)")["select_list"][0]))
        run_sql(connection, _one_row(types, _EXAMPLES), f"SELECT (\n{lenient}\n) FROM {TABLE}")
    except DuckDBError as error:
        # Whatever else an example does, such as being out of range, says nothing of the values to come.
        return _TAKEN_FOR if str(error).startswith("Conversion Error") else None
    return None


def _may_be_null(kind: pa.DataType, types: ColumnTypes) -> bool:
    # DuckDB gives whole numbers for a null without a type
    return (pa.types.is_null(kind) or kind == pa.int32()) and None in types.values()


def _one_row(types: ColumnTypes, values: Mapping[ColumnType, Any]) -> pa.Table:
    """Return a table of one row with a column of each type, structs around them; a value without an example is null."""
    leaves = {path: pa.array([values.get(kind) if kind else None], ARROW_TYPES.get(kind) if kind else None) for path, kind in types.items()}
    return pa.table(_structs(leaves)) if leaves else pa.table({"": pa.nulls(1)})


def _structs(leaves: Mapping[tuple[str, ...], pa.Array]) -> dict[str, pa.Array]:
    """Return arrays by name; those with a path of their own as structs, names that differ in case only together."""
    groups: dict[str, dict[tuple[str, ...], pa.Array]] = {}
    names: dict[str, str] = {}
    columns: dict[str, pa.Array] = {}
    for path, array in leaves.items():
        name = names.setdefault(fold(path[0]), path[0])
        if len(path) == 1:
            columns[name] = array
        else:
            groups.setdefault(name, {})[path[1:]] = array
    for name, inner in groups.items():
        fields = _structs(inner)
        columns[name] = pa.StructArray.from_arrays(list(fields.values()), names=list(fields))
    return columns


def _lenient(tree: Any) -> Any:
    """Return the syntax tree with casts that the user wrote made such that they give null instead of an error."""
    if isinstance(tree, list):
        return [_lenient(item) for item in tree]
    if not isinstance(tree, dict):
        return tree
    inner = {name: _lenient(item) for name, item in tree.items()}
    return {**inner, "try_cast": True} if inner.get("class") == "CAST" else inner


def _text_of(connection: duckdb.DuckDBPyConnection, expression: Mapping[str, Any]) -> str:
    """Return an expression of a syntax tree as SQL."""
    with connection.cursor() as cursor:
        row = cursor.execute("SELECT json_serialize_sql('SELECT 1')").fetchone()
        assert row is not None, "a SELECT of a scalar gives one row"
        whole = json.loads(row[0])
        whole["statements"][0]["node"]["select_list"] = [expression]
        text = cursor.execute("SELECT json_deserialize_sql(?::JSON)", [json.dumps(whole)]).fetchone()
    assert text is not None, "a SELECT of a scalar gives one row"
    return str(text[0]).removeprefix("SELECT ")


def _described(paths: Iterable[tuple[str, ...]], types: ColumnTypes) -> str:
    known = {Column(path).folded: kind for path, kind in types.items()}
    words = []
    for path in paths:
        kind = known.get(Column(path).folded)
        if kind is not None:
            words.append(f"{'.'.join(path)} is {_WORDS[kind]}")
    return f" ({', '.join(dict.fromkeys(words))})" if words else ""
