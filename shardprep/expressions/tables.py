"""Arrow tables of records: built from dicts, put together, and reduced to the columns that a query reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from shardprep.core.plan import nearest
from shardprep.errors import RecipeError

Path = tuple[str, ...]


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


def column_paths(schema: pa.Schema) -> list[Path]:
    """Return the leaves of a schema as paths."""
    return [path for field in schema for path in _leaves(field, ())]


def resolve(schema: pa.Schema, path: Path) -> Path | None:
    """Return the fields that a reference means: exact names first, else the only one equal but for case; None where there is none.

    A path ends at the first field that is no struct.
    """
    found: list[str] = []
    fields: Sequence[pa.Field] = list(schema)
    for name in path:
        match = [f for f in fields if f.name == name] or [f for f in fields if f.name.lower() == name.lower()]
        if len(match) != 1:
            return None
        found.append(match[0].name)
        if not pa.types.is_struct(match[0].type):
            # a struct that is null in every row has lost its fields
            return path if pa.types.is_null(match[0].type) else tuple(found)
        fields = [match[0].type.field(i) for i in range(match[0].type.num_fields)]
    return tuple(found)


def unknown_column(what: str, path: Path, schema: pa.Schema) -> RecipeError:
    """Return the error for a reference that `resolve` did not find."""
    name, known = ".".join(path), sorted(".".join(known) for known in column_paths(schema))
    hint = nearest(name, known, "; there is")
    some = f"; there is {', '.join(known[:12])}{', …' if len(known) > 12 else ''}" if known else "; the table has no columns"
    return RecipeError(f"{what}: unknown column {name}{hint or some}")


def project(table: pa.Table, paths: Iterable[Path]) -> pa.Table:
    """Return a table of only the fields under `paths`; a field that is absent becomes a column of nulls."""
    tree = _tree(paths)
    columns = {name: _prune(table[name] if name in table.column_names else None, inner, len(table)) for name, inner in tree.items()}
    return pa.table(columns)


def table_of(records: Sequence[Mapping[str, Any]], paths: Iterable[Path]) -> pa.Table:
    """Return a table of only the values under `paths`, names matched as `resolve` does; an absent value is null."""
    tree = _tree(paths)
    columns = {name: _gather(name, [_get(record, name) for record in records], inner) for name, inner in tree.items()}
    return pa.table(columns)


def _gather(name: str, values: list[Any], tree: Mapping[str, Any] | None) -> pa.Array:
    """Return the column of `values`; one that holds no dicts (a list, JSON text) is taken whole, the query looks into it."""
    if tree is None or any(value is not None and not isinstance(value, Mapping) for value in values):
        return _array(name, values)
    parts = [_gather(f"{name}.{field}", [_get(value, field) for value in values], below) for field, below in tree.items()]
    return pa.StructArray.from_arrays(parts, names=list(tree))


def _get(record: Mapping[str, Any] | None, name: str) -> Any:
    if record is None or name in record:
        return None if record is None else record[name]
    folded = [other for other in record if other.lower() == name.lower()]
    return record[folded[0]] if len(folded) == 1 else None


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


def _leaves(field: pa.Field, prefix: Path) -> Iterator[Path]:
    path = (*prefix, field.name)
    if pa.types.is_struct(field.type):
        for i in range(field.type.num_fields):
            yield from _leaves(field.type.field(i), path)
    else:
        yield path


def _tree(paths: Iterable[Path]) -> dict[str, Any]:
    """Return the paths as nested dicts; None marks a field that is wanted whole."""
    root: dict[str, Any] = {}
    for path in sorted(dict.fromkeys(paths), key=len):
        tree = root
        for name in path[:-1]:
            inner = tree.setdefault(name, {})
            if inner is None:
                break
            tree = inner
        else:
            tree.setdefault(path[-1], None)
    _check_case(root, "")
    return root


def _check_case(tree: Mapping[str, Any], prefix: str) -> None:
    # DuckDB takes `A` for `a` without a word, and would read the wrong column
    seen: dict[str, str] = {}
    for name, inner in tree.items():
        if other := seen.get(name.lower()):
            raise RecipeError(f"{prefix}{other} and {prefix}{name} differ in case only and cannot be used in one query; rename one")
        seen[name.lower()] = name
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
