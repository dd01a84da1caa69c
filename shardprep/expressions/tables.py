"""Arrow tables of records: built from dicts, put together, and reduced to the columns that a query reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from shardprep.core.hints import nearest
from shardprep.core.reads import Column, clashing, field_named, fold, tree_of
from shardprep.errors import RecipeError

ColumnPath = tuple[str, ...]

_INT64 = 1 << 63

ARROW_TYPES = {
    "double": pa.float64(),
    "int64": pa.int64(),
    "bool": pa.bool_(),
    "string": pa.string(),
    "list<double>": pa.list_(pa.float64()),
    "list<int64>": pa.list_(pa.int64()),
    "list<string>": pa.list_(pa.string()),
}
"""Arrow's types by the names in which stages declare them."""


def arrow_table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Return a table with a column per top-level name, nested dicts as structs; an absent value is null, so is an empty dict."""
    names = dict.fromkeys(name for row in rows for name in row)
    arrays = [_array(name, [row.get(name) for row in rows]) for name in names]
    if not names:
        return pa.table({"": pa.nulls(len(rows))}).select([])
    return pa.table(arrays, names=list(names))


def concat(tables: Iterable[pa.Table]) -> pa.Table:
    """Return the rows of all tables; a column absent in one is null there, null and integer types give way to wider ones."""
    listed = [table for table in tables if table.num_columns or table.num_rows]
    if not listed:
        return pa.table({})
    try:
        schema = pa.unify_schemas([table.schema.remove_metadata() for table in listed], promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise RecipeError(f"tables do not go together: {error}; a column needs one type in all of them") from error
    return pa.concat_tables([_conform_table(table, schema) for table in listed])


def column_paths(schema: pa.Schema) -> list[ColumnPath]:
    """Return the leaves of a schema as paths."""
    return [path for field in schema for path in _leaves(field, ())]


def resolve(schema: pa.Schema, path: ColumnPath) -> ColumnPath | None:
    """Return the fields that a reference means: exact names first, else the only one equal but for case; None where there is none.

    A path ends at the first field that is no struct. RecipeError where several fields differ in case only from what is asked for.
    """
    found: list[str] = []
    fields = {field.name: field.type for field in schema}
    for name in path:
        match = field_named(fields, name, found)
        if match is None:
            return None
        found.append(match)
        kind = fields[match]
        if not pa.types.is_struct(kind):
            # a struct that is null in every row has lost its fields
            return path if pa.types.is_null(kind) else tuple(found)
        fields = {kind.field(i).name: kind.field(i).type for i in range(kind.num_fields)}
    return tuple(found)


def unknown_column(what: str, path: ColumnPath, schema: pa.Schema) -> RecipeError:
    """Return the error for a reference that `resolve` did not find."""
    name, known = ".".join(path), sorted(".".join(known) for known in column_paths(schema))
    if len(alike := clashing(name, known)) > 1:
        return RecipeError(f"{what}: {name} is ambiguous; there is {', '.join(alike)}")
    hint = nearest(name, known, "; there is")
    some = f"; there is {', '.join(known[:12])}{', …' if len(known) > 12 else ''}" if known else "; the table has no columns"
    return RecipeError(f"{what}: unknown column {name}{hint or some}")


def project(table: pa.Table, paths: Iterable[ColumnPath]) -> pa.Table:
    """Return a table of only the fields under `paths`; a field that is absent becomes a column of nulls."""
    tree = _tree(paths)
    columns = {name: _prune(table[name] if name in table.column_names else None, inner, len(table)) for name, inner in tree.items()}
    return pa.table(columns)


def table_of(records: Sequence[Mapping[str, Any]], paths: Iterable[ColumnPath]) -> pa.Table:
    """Return a table of only the values under `paths`, names matched as `resolve` does; an absent value is null."""
    tree = _tree(paths)
    columns = {name: _gather((name,), [_get(record, (name,)) for record in records], inner) for name, inner in tree.items()}
    return pa.table(columns)


def by_types(records: Sequence[Mapping[str, Any]]) -> list[tuple[list[int], list[dict[str, Any]]]]:
    """Return the records in groups whose values have the same types, each with the places of its records.

    In columns of `UNTYPED_GROUPS`, and in structs that are read whole, a value has the type that it shows, so that it does not
    depend on other records: 3.0 is 3, as JSON has it. Elsewhere the stage that writes a column says its type.
    """
    groups: dict[Any, tuple[list[int], list[dict[str, Any]]]] = {}
    for place, record in enumerate(records):
        plain = {name: _plain(value) if Column((name,)).is_untyped else value for name, value in record.items()}
        shape = tuple(sorted((name, _shape(value, Column((name,)).is_untyped)) for name, value in plain.items()))
        places, members = groups.setdefault(shape, ([], []))
        places.append(place)
        members.append(plain)
    return list(groups.values())


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        inner = {name: _plain(one) for name, one in value.items()}
        return {name: one for name, one in inner.items() if one is not None} or None
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < _INT64 else value


def _shape(value: Any, is_untyped: bool) -> str:
    """Return the types of a value as text; of a plain value of a stage's column nothing: they are all of one type."""
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{name!r}:{_shape(one, is_untyped)}' for name, one in sorted(value.items()))}}}"
    if not is_untyped:
        return ""
    if isinstance(value, (list, tuple)):
        return f"[{','.join(sorted({_shape(one, is_untyped) for one in value}))}]"
    return type(value).__name__


def _gather(path: ColumnPath, values: list[Any], tree: Mapping[str, Any] | None) -> pa.Array:
    """Return the column of `values`; one that holds no dicts (a list, JSON text) is taken whole, the query looks into it."""
    if tree is None or any(value is not None and not isinstance(value, Mapping) for value in values):
        for value in values if tree is None else ():
            _check_fields(value, path)
        return _array(".".join(path), values)
    parts = [_gather((*path, field), [_get(value, (*path, field)) for value in values], below) for field, below in tree.items()]
    return pa.StructArray.from_arrays(parts, names=list(tree))


def _get(record: Mapping[str, Any] | None, path: ColumnPath) -> Any:
    """Return the value of the field that the end of a path names."""
    if record is None or path[-1] in record:
        return None if record is None else record[path[-1]]
    found = field_named(record, path[-1], path[:-1])
    return None if found is None else record[found]


def _check_fields(value: Any, path: ColumnPath) -> None:
    """Raise RecipeError where a struct that is read whole has fields that the engine takes for one and the same."""
    if isinstance(value, Mapping):
        _check_case(dict.fromkeys(value), f"{'.'.join(path)}.")
        for name, inner in value.items():
            _check_fields(inner, (*path, name))


def _array(name: str, values: list[Any]) -> pa.Array:
    try:
        array = pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
        raise RecipeError(f"column {name}: {error}; a column needs one type in all rows") from error
    wanted = _without_empty_structs(array.type)
    return array if wanted == array.type else _conform(array, wanted)


def _without_empty_structs(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_struct(kind):
        fields = [pa.field(f.name, _without_empty_structs(f.type)) for f in (kind.field(i) for i in range(kind.num_fields))]
        return pa.struct(fields) if fields else pa.null()
    if pa.types.is_list(kind):
        return pa.list_(_without_empty_structs(kind.value_type))
    return kind


def _conform_table(table: pa.Table, schema: pa.Schema) -> pa.Table:
    columns = []
    for field in schema:
        if field.name not in table.column_names:
            columns.append(pa.chunked_array([pa.nulls(len(table), field.type)], type=field.type))
            continue
        chunks = [_conform(chunk, field.type) for chunk in table[field.name].chunks]
        columns.append(pa.chunked_array(chunks, type=field.type))
    return pa.table(columns, schema=schema)


def _conform(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """Return an array cast to a wider type; Arrow's own cast does not add absent struct fields at every depth."""
    if array.type == kind:
        return array
    if pa.types.is_null(array.type) or pa.types.is_null(kind):
        return pa.nulls(len(array), kind)
    if pa.types.is_struct(kind):
        inner = dict(zip((array.type.field(i).name for i in range(array.type.num_fields)), array.flatten(), strict=True))
        fields = [kind.field(i) for i in range(kind.num_fields)]
        parts = [_conform(inner[f.name], f.type) if f.name in inner else pa.nulls(len(array), f.type) for f in fields]
        return pa.StructArray.from_arrays(parts, fields=fields, mask=array.is_null())
    if pa.types.is_list(kind) and pa.types.is_list(array.type):
        offsets, values = array.offsets, _conform(array.values, kind.value_type)
        mask = array.is_null() if array.null_count else None
        if array.offset:
            return pa.array(array.to_pylist(), kind)
        return pa.ListArray.from_arrays(offsets, values, type=kind, mask=mask)
    return array.cast(kind)


def _leaves(field: pa.Field, prefix: ColumnPath) -> Iterator[ColumnPath]:
    path = (*prefix, field.name)
    if pa.types.is_struct(field.type):
        for i in range(field.type.num_fields):
            yield from _leaves(field.type.field(i), path)
    else:
        yield path


def _tree(paths: Iterable[ColumnPath]) -> dict[str, Any]:
    """Return the paths as `tree_of` does; RecipeError where two of them differ in case only."""
    tree = tree_of(paths)
    _check_case(tree, "")
    return tree


def _check_case(tree: Mapping[str, Any], prefix: str) -> None:
    # DuckDB takes `A` for `a` without a word, and would read the wrong column
    seen: dict[str, str] = {}
    for name, inner in tree.items():
        if other := seen.get(fold(name)):
            raise RecipeError(f"{prefix}{other} and {prefix}{name} differ in case only and cannot be used in one query; rename one")
        seen[fold(name)] = name
        _check_case(inner or {}, f"{prefix}{name}.")


def _prune(column: pa.ChunkedArray | None, tree: Mapping[str, Any] | None, num_rows: int) -> pa.ChunkedArray:
    if column is None:
        return pa.chunked_array([_prune_array(None, tree, num_rows)])
    chunks = [_prune_array(chunk, tree, len(chunk)) for chunk in column.chunks]
    return pa.chunked_array(chunks) if chunks else pa.chunked_array([_prune_array(column.combine_chunks(), tree, 0)])


def _prune_array(array: pa.Array | None, tree: Mapping[str, Any] | None, length: int) -> pa.Array:
    if array is None:
        array = pa.nulls(length)
    if tree is None:
        return array
    if not pa.types.is_struct(array.type):
        inner: dict[str, pa.Array] = {}
    else:
        inner = dict(zip((array.type.field(i).name for i in range(array.type.num_fields)), array.flatten(), strict=True))
    parts = [_prune_array(inner.get(name), below, length) for name, below in tree.items()]
    return pa.StructArray.from_arrays(parts, names=list(tree))
