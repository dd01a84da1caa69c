"""Parses expressions with DuckDB's own parser and refuses all that is more than a function of one row."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from shardprep.core.hints import nearest
from shardprep.core.reads import fold
from shardprep.errors import RecipeError
from shardprep.expressions.engine import ROW, TABLE
from shardprep.expressions.functions import ALLOWED_FUNCTIONS
from shardprep.expressions.growth import growth_problem

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
_ALLOWED = frozenset(map(str.lower, ALLOWED_FUNCTIONS))
_EMPTY_CLAUSES = ("where_clause", "group_expressions", "group_sets", "having", "sample", "qualify")

_HINT = 'write a condition such as scores.aesthetic >= 5 AND text.area < 0.1 (a name that is a word of SQL goes in quotes: "end")'

_EXTRACTS = ("ARRAY_EXTRACT", "STRUCT_EXTRACT", "struct_extract", "array_extract")
"""`s['x']`, `(s).x` and the functions behind them: with a text they mean a field of a struct."""


@contextmanager
def nesting_told(what: str) -> Iterator[None]:
    """Raise RecipeError where a syntax tree is too deep to be walked."""
    try:
        yield
    except RecursionError as error:
        raise RecipeError(f"{what}: is nested too deeply; write it flatter") from error


def parse_expression(connection: duckdb.DuckDBPyConnection, expression: str) -> tuple[tuple[str, ...], ...]:
    """Return the columns that an expression refers to as paths, in order; RecipeError where it is not one plain expression."""
    with nesting_told(f"expression {expression!r}"):
        node = _parse(connection, expression, f"SELECT (\n{expression}\n)")
        if len(node["select_list"]) != 1 or node["modifiers"]:
            raise RecipeError(f"expression {expression!r}: more than one expression")
        return _columns(connection, expression, node["select_list"][0])


def parse_order(connection: duckdb.DuckDBPyConnection, order: str) -> tuple[tuple[str, ...], ...]:
    """Return the columns that an `a.b DESC, c` refers to as paths."""
    with nesting_told(f"order {order!r}"):
        return _ordered(connection, order)


def _ordered(connection: duckdb.DuckDBPyConnection, order: str) -> tuple[tuple[str, ...], ...]:
    node = _parse(connection, order, f"SELECT 1 ORDER BY\n{order}")
    kinds = [modifier["type"] for modifier in node["modifiers"]]
    if kinds != ["ORDER_MODIFIER"] or len(node["select_list"]) != 1:
        raise RecipeError(f"order {order!r}: expected columns or expressions, each with ASC or DESC if wanted")
    terms = [one["expression"] for one in node["modifiers"][0]["orders"]]
    columns = _columns(connection, order, terms)
    # DuckDB takes 2 for the second thing that is selected, and nothing is selected here
    if any(not _columns(connection, order, term) for term in terms):
        raise RecipeError(f"order {order!r}: a number or another constant orders nothing; name columns, such as scores.flow DESC")
    return columns


def syntax_tree(connection: duckdb.DuckDBPyConnection, sql: str) -> dict[str, Any]:
    """Return the syntax tree of a SELECT that was parsed before."""
    return _parse(connection, sql, sql)


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
    inner: set[int] = set()
    for node, bound in _walk(tree, frozenset()):
        kind = node["class"]
        if kind not in ALLOWED_CLASSES:
            raise RecipeError(f"expression {text!r}: {_REFUSED_CLASSES.get(kind, f'{kind.lower()} is not allowed')}")
        if kind == "FUNCTION":
            name = _function_name(text, node)
            functions[name] = None
            if growth := growth_problem(name, [argument["expression"] for argument in node["arguments"]]):
                raise RecipeError(f"expression {text!r}: {growth}")
        chain = () if id(node) in inner else _field_path(node)
        if chain:
            inner.update(id(part) for part in _chained(node))
            if fold(chain[0]) not in bound:
                _check_hidden(text, chain)
                columns[chain] = None
    _check_functions(connection, text, list(functions))
    return tuple(columns)


def _check_hidden(text: str, path: tuple[str, ...]) -> None:
    """Refuse what the engine alone knows: its table, whatever database and schema stand before it, and the numbers of its rows."""
    if fold(path[0]).startswith(ROW) or TABLE in map(fold, path[:3]):
        raise RecipeError(f"expression {text!r}: {'.'.join(path)} is no column; names that begin with {ROW} are taken")


def _field_path(node: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the path of a column, or of the field that is taken out of one by its name; () for any other expression."""
    if node["class"] == "COLUMN_REF":
        return tuple(node["column_names"])
    taken = _extracted(node)
    path = _field_path(taken[0]) if taken else ()
    return (*path, taken[1]) if taken and path else ()


def _chained(node: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the expressions out of which the fields of a path are taken."""
    while taken := _extracted(node):
        node = taken[0]
        yield node


def _extracted(node: Mapping[str, Any]) -> tuple[Mapping[str, Any], str] | None:
    """Return from what and by which name a field is taken; None where the expression is something else or the name is computed."""
    if node["class"] == "OPERATOR" and node["type"] in _EXTRACTS:
        operands = node["children"]
    elif node["class"] == "FUNCTION" and node["function_name"].lower() in _EXTRACTS:
        operands = [argument["expression"] for argument in node["arguments"]]
    else:
        return None
    is_name = len(operands) == 2 and operands[1]["class"] == "CONSTANT" and operands[1]["literal"]["kind"] == "STRING"
    return (operands[0], str(operands[1]["literal"]["text"])) if is_name else None


def _walk(tree: Any, bound: frozenset[str]) -> Iterator[tuple[Mapping[str, Any], frozenset[str]]]:
    """Yield every expression node with the names that lambdas around it bind."""
    if isinstance(tree, list):
        for item in tree:
            yield from _walk(item, bound)
    elif isinstance(tree, dict):
        if "class" in tree:
            yield tree, bound
        if tree.get("class") == "LAMBDA":
            names = frozenset(map(fold, _lambda_names(tree["lhs"])))
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
    for name in (name for name in names if name not in _ALLOWED):
        with connection.cursor() as cursor:
            known = cursor.execute("SELECT 1 FROM duckdb_functions() WHERE lower(function_name) = ?", [name]).fetchone()
        refused = (
            "is refused: only functions of one row's values, no clock, no random numbers, no aggregate over rows, nothing of the machine"
        )
        what = refused if known else f"is no function{nearest(name, sorted(ALLOWED_FUNCTIONS))}"
        raise RecipeError(f"expression {text!r}: {name}() {what}")
