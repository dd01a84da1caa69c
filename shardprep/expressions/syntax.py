"""Parses expressions with DuckDB's own parser and refuses all that is more than a function of one row."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from shardprep.core.plan import nearest
from shardprep.errors import RecipeError

if TYPE_CHECKING:
    import duckdb

ALLOWED_CLASSES = frozenset("COLUMN_REF CONSTANT COMPARISON CONJUNCTION FUNCTION OPERATOR CASE CAST BETWEEN LAMBDA COLLATE TYPE".split())
"""DuckDB's names. Not among them: SUBQUERY, WINDOW, STAR, PARAMETER, DEFAULT, POSITIONAL_REFERENCE."""
_REFUSED_CLASSES = {
    "SUBQUERY": "a sub-select; an expression sees the columns of its own row only",
    "WINDOW": "a window function; an expression sees the columns of its own row only",
    "STAR": "a star; name the columns",
    "PARAMETER": "a parameter; write the value",
}
_EMPTY_CLAUSES = ("where_clause", "group_expressions", "group_sets", "having", "sample", "qualify")

_HINT = 'write a condition such as scores.aesthetic >= 5 AND text.area < 0.1 (a name that is a word of SQL goes in quotes: "end")'

# Functions of their arguments alone; a random or a clock would make a selection that cannot be made again.
_FUNCTIONS = """
    SELECT DISTINCT function_name, schema_name = 'main' AND NOT starts_with(function_name, 'json_serialize_') AND (
        function_type = 'scalar' AND stability = 'CONSISTENT'
        OR function_type = 'macro' AND macro_definition NOT LIKE '%current_%'
    ) FROM duckdb_functions()
"""


def parse_expression(connection: duckdb.DuckDBPyConnection, expression: str) -> tuple[tuple[str, ...], ...]:
    """Return the columns that an expression refers to as paths, in order; RecipeError where it is not one plain expression."""
    node = _parse(connection, expression, f"SELECT (\n{expression}\n)")
    if len(node["select_list"]) != 1 or node["modifiers"]:
        raise RecipeError(f"expression {expression!r}: more than one expression")
    return _columns(connection, expression, node["select_list"][0])


def parse_order(connection: duckdb.DuckDBPyConnection, order: str) -> tuple[tuple[str, ...], ...]:
    """Return the columns that an `a.b DESC, c` refers to as paths."""
    node = _parse(connection, order, f"SELECT 1 ORDER BY\n{order}")
    kinds = [modifier["type"] for modifier in node["modifiers"]]
    if kinds != ["ORDER_MODIFIER"] or len(node["select_list"]) != 1:
        raise RecipeError(f"order {order!r}: expected columns or expressions, each with ASC or DESC if wanted")
    return _columns(connection, order, [one["expression"] for one in node["modifiers"][0]["orders"]])


def _parse(connection: duckdb.DuckDBPyConnection, text: str, sql: str) -> dict[str, Any]:
    """Return the syntax tree of `SELECT …` when it has no other clause."""
    if "\0" in text or not text.strip():
        raise RecipeError(f"expression {text!r}: is empty or holds a NUL character; {_HINT}")
    with connection.cursor() as cursor:
        row = cursor.execute("SELECT json_serialize_sql(?)", [sql]).fetchone()
    assert row is not None, "a SELECT of a scalar gives one row"
    parsed = json.loads(row[0])
    if parsed["error"]:
        raise RecipeError(f"expression {text!r}: {parsed['error_message']}; {_HINT}")
    statements = parsed["statements"]
    if len(statements) != 1:
        raise RecipeError(f"expression {text!r}: {len(statements)} statements, expected one expression")
    node: dict[str, Any] = statements[0]["node"]
    plain = node["type"] == "SELECT_NODE" and node["from_table"]["type"] == "EMPTY" and not node["cte_map"]["map"]
    if not plain or any(node[clause] for clause in _EMPTY_CLAUSES):
        raise RecipeError(f"expression {text!r}: more than an expression over the columns; {_HINT}")
    return node


def _columns(connection: duckdb.DuckDBPyConnection, text: str, tree: Any) -> tuple[tuple[str, ...], ...]:
    columns: dict[tuple[str, ...], None] = {}
    functions: dict[str, None] = {}
    for node, bound in _walk(tree, frozenset()):
        kind = node["class"]
        if kind not in ALLOWED_CLASSES:
            raise RecipeError(f"expression {text!r}: {_REFUSED_CLASSES.get(kind, f'{kind.lower()} is not allowed')}")
        if kind == "COLUMN_REF" and node["column_names"][0] not in bound:
            columns[tuple(node["column_names"])] = None
        elif kind == "FUNCTION":
            functions[_function_name(text, node)] = None
    _check_functions(connection, text, list(functions))
    return tuple(columns)


def _walk(tree: Any, bound: frozenset[str]) -> Iterator[tuple[Mapping[str, Any], frozenset[str]]]:
    """Yield every expression node with the names that lambdas around it bind."""
    if isinstance(tree, list):
        for item in tree:
            yield from _walk(item, bound)
    elif isinstance(tree, dict):
        if "class" in tree:
            yield tree, bound
        if tree.get("class") == "LAMBDA":
            names = frozenset(_lambda_names(tree["lhs"]))
            # `value -> 'field'` of JSON parses as a lambda too; its left side binds nothing
            yield from _walk(tree["expr"] if names else [tree["lhs"], tree["expr"]], bound | names)
        else:
            for item in tree.values():
                yield from _walk(item, bound)


def _lambda_names(parameters: Mapping[str, Any]) -> list[str]:
    """Return the parameters of `x -> …` and `(x, i) -> …`; none where the left side is a value."""
    if parameters["class"] == "COLUMN_REF":
        return list(parameters["column_names"]) if len(parameters["column_names"]) == 1 else []
    if parameters["class"] == "FUNCTION" and parameters["function_name"] == "row":
        return [name for argument in parameters["arguments"] for name in _lambda_names(argument["expression"])]
    return []


def _function_name(text: str, node: Mapping[str, Any]) -> str:
    path = node["qualified_name"]["path"]
    if len(path) != 1:
        raise RecipeError(f"expression {text!r}: {'.'.join(path)}(...) is not a function; write {path[-1]}(column)")
    return str(path[0]).lower()


def _check_functions(connection: duckdb.DuckDBPyConnection, text: str, names: list[str]) -> None:
    if not names:
        return
    with connection.cursor() as cursor:
        rows = cursor.execute(_FUNCTIONS).fetchall()
    allowed = {name for name, is_plain in rows if is_plain}
    known_names = {name for name, _ in rows}
    for name in names:
        if name not in allowed:
            refused = "is refused: only functions of one row's values, no clock, no random numbers, no aggregate over rows"
            what = refused if name in known_names else f"is no function{nearest(name, sorted(allowed))}"
            raise RecipeError(f"expression {text!r}: {name}() {what}")
