"""Records as Arrow columns: a typed array per dotted name, nested structs around them, and tables of them joined by key."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from shardprep.core.reads import Column
from shardprep.core.sample import Record, flatten
from shardprep.errors import ShardError
from shardprep.expressions.tables import ARROW_TYPES

MEMBERS = "members"
"""A ledger's column of what lies in the tar; in tables of samples the suffixes alone."""
_PLAIN = (pa.float64(), pa.int64(), pa.bool_(), pa.string(), pa.null())
_ArrowErrors = (pa.ArrowException, TypeError, ValueError, OverflowError)


def record_columns(records: Sequence[Record], declared: Mapping[str, str]) -> dict[str, pa.Array]:
    """Return an array per top-level name, nested names as structs; declared leaves in their types, others as their values say.

    A name without any value is left out where no type is declared for it. ShardError names the column whose values do not
    go together, or are not of the declared type.
    """
    leaves: dict[str, list[Any]] = {name: [None] * len(records) for name in declared}
    for row, record in enumerate(records):
        for name, value in flatten(record):
            leaves.setdefault(name, [None] * len(records))[row] = value
    arrays = {name: _leaf(name, values, declared.get(name)) for name, values in leaves.items()}
    return _nested({name: array for name, array in arrays.items() if name in declared or not pa.types.is_null(array.type)})


def leaf_names(schema: pa.Schema) -> Iterator[str]:
    """Yield the dotted names of a schema's columns; lists are leaves."""
    for field in schema:
        yield from _leaf_names(field, "")


def pick_leaves(schema: pa.Schema, wanted: Iterable[str]) -> list[str]:
    """Return the leaves that `wanted` names or lies in, or that lie in a struct that it names; case does not count."""
    columns = [Column(tuple(name.split("."))) for name in wanted]
    return [leaf for leaf in leaf_names(schema) if any(Column(tuple(leaf.split("."))).touches(column) for column in columns)]


def is_plain(kind: pa.DataType) -> bool:
    """Whether all values of the type are what a record may hold."""
    if pa.types.is_struct(kind):
        return all(is_plain(kind.field(index).type) for index in range(kind.num_fields))
    if pa.types.is_list(kind):
        return is_plain(kind.value_type)
    return kind in _PLAIN


def suffixes_of(members: pa.ChunkedArray) -> pa.Array:
    """Return a list of the suffixes per row of a ledger's `members`, sorted."""
    array = _array_of(members)
    return _sorted_lists([pa.ListArray.from_arrays(array.offsets, array.values.field("suffix"))])


def join_tables(base: pa.Table, added: pa.Table) -> pa.Table:
    """Return the rows of `base` whose `key` is in `added`, in the order of `base`, with the leaves of both.

    Where both have a leaf, the value of `added` counts unless it is null; the suffixes in `members` are put together.
    """
    places = pc.index_in(base["key"], value_set=added["key"].combine_chunks())
    base = base.filter(places.is_valid()).combine_chunks()
    added = added.take(places.drop_null()).combine_chunks()
    columns = {name: _array_of(base[name]) for name in base.column_names}
    for name in added.column_names:
        if name == MEMBERS and name in columns:
            columns[name] = _sorted_lists([columns[name], _array_of(added[name])])
        elif name != "key":
            columns[name] = _merged(name, columns.get(name), _array_of(added[name]))
    return pa.table(columns)


def _leaf(name: str, values: list[Any], declared: str | None) -> pa.Array:
    kinds = set(_kinds_in(values))
    # Arrow takes True for 1.0 and cuts 1.5 to 1 without a word.
    mixed = bool in kinds and kinds & {int, float, str}
    if mixed or (float in kinds and declared in ("int64", "list<int64>")):
        raise _wrong_values(name, kinds, declared, None)
    try:
        return pa.array(values, ARROW_TYPES[declared] if declared else None)
    except _ArrowErrors as error:
        raise _wrong_values(name, kinds, declared, error) from error


def _wrong_values(name: str, kinds: set[type], declared: str | None, error: Exception | None) -> ShardError:
    words = ", ".join(sorted(kind.__name__ for kind in kinds))
    expected = f"declared {declared}" if declared else "a column has one type"
    detail = f" ({str(error).splitlines()[0]})" if error else ""
    return ShardError(
        f"column {name} holds {words}; {expected}{detail}. Give it one type in the source list, or in the stage that writes it"
    )


def _kinds_in(values: Iterable[Any]) -> Iterator[type]:
    for value in values:
        if isinstance(value, (list, tuple)):
            yield from _kinds_in(value)
        elif value is not None:
            yield type(value)


def _nested(leaves: Mapping[str, pa.Array]) -> dict[str, pa.Array]:
    """Return the arrays with equal first parts of their names as structs; a struct is null where all in it is."""
    groups: dict[str, dict[str, pa.Array]] = {}
    columns: dict[str, pa.Array] = {}
    for name in sorted(leaves):
        first, dot, rest = name.partition(".")
        if dot:
            groups.setdefault(first, {})[rest] = leaves[name]
        else:
            columns[name] = leaves[name]
    for first, inner in groups.items():
        if first in columns:
            raise ShardError(f"column {first} is a value in one row and holds columns ({first}.{min(inner)}) in another; rename one")
        columns[first] = _struct(_nested(inner))
    return {name: columns[name] for name in sorted(columns)}


def _struct(fields: Mapping[str, pa.Array]) -> pa.Array:
    arrays = list(fields.values())
    is_null = arrays[0].is_null()
    for array in arrays[1:]:
        is_null = pc.and_(is_null, array.is_null())
    return pa.StructArray.from_arrays(arrays, names=list(fields), mask=is_null)


def _sorted_lists(lists: Sequence[pa.ListArray]) -> pa.ListArray:
    """Return the lists of equal places put together, sorted."""
    lengths = [array.value_lengths().to_numpy() for array in lists]
    rows = np.concatenate([np.repeat(np.arange(len(own)), own) for own in lengths])
    flat = pa.table({"row": rows, "value": pa.concat_arrays([array.flatten() for array in lists])})
    ordered = flat.take(pc.sort_indices(flat, [("row", "ascending"), ("value", "ascending")]))
    offsets = np.concatenate([[0], np.cumsum(np.sum(lengths, axis=0))]).astype(np.int32)
    return pa.ListArray.from_arrays(offsets, _array_of(ordered["value"]))


def _leaf_names(field: pa.Field, prefix: str) -> Iterator[str]:
    if not pa.types.is_struct(field.type):
        yield f"{prefix}{field.name}"
        return
    for index in range(field.type.num_fields):
        yield from _leaf_names(field.type.field(index), f"{prefix}{field.name}.")


def _merged(name: str, base: pa.Array | None, added: pa.Array) -> pa.Array:
    if base is None or pa.types.is_null(base.type):
        return added
    if pa.types.is_null(added.type):
        return base
    if not pa.types.is_struct(base.type) or not pa.types.is_struct(added.type):
        return _preferred(name, base, added)
    fields = _fields(base)
    for inner, array in _fields(added).items():
        fields[inner] = _merged(f"{name}.{inner}", fields.get(inner), array)
    return _struct(fields)


def _fields(array: pa.Array) -> dict[str, pa.Array]:
    """Return a struct array's fields, null where the struct is."""
    names = [array.type.field(index).name for index in range(array.type.num_fields)]
    return dict(zip(names, array.flatten(), strict=True))


def _preferred(name: str, base: pa.Array, added: pa.Array) -> pa.Array:
    """Return the values of `added` where it has one, else those of `base`."""
    if base.null_count == len(base) or not added.null_count:
        return added
    try:
        kind = pa.unify_schemas([pa.schema([("", array.type)]) for array in (base, added)], promote_options="permissive").field(0).type
        base, added = base.cast(kind), added.cast(kind)
    except pa.ArrowException as error:
        raise ShardError(f"column {name} is {base.type} in one set and {added.type} in a later one; rename one ({error})") from error
    return pc.if_else(added.is_valid(), added, base)


def _array_of(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks) if column.num_chunks else column.combine_chunks()
