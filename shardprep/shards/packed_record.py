"""The record of a packed sample as its JSON member holds it: the columns that every sample has, typed, and the others as one text."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from shardprep.core.fingerprint import canonical_json
from shardprep.core.sample import Record, Sample, flatten, merge_records
from shardprep.errors import ShardError

SPARSE = "sparse"
"""The field for columns that not every sample has: their JSON as text, as readers infer a type from the first samples alone."""


@dataclass(frozen=True)
class RecordSchema:
    """What is alike in the JSON of all samples with the same media."""

    columns: tuple[tuple[str, str], ...]
    """(name, type) of the columns that all of them have, sorted by name; types such as `double` or `list<int64>`."""
    has_sparse: bool
    """Whether some have other columns besides."""


class ColumnTypes:
    """The types of the columns of many records, taken in one by one or from another such count."""

    def __init__(self) -> None:
        self.num_records = 0
        self.columns: dict[str, tuple[str | None, int]] = {}
        """By name: the type, and how many records have a value that says one."""

    def add(self, record: Record) -> None:
        """Take in a record."""
        self.num_records += 1
        for name, value in flatten(record):
            kind = _type_of(name, value)
            self._add(name, kind, int(kind is not None))

    def merge(self, other: ColumnTypes) -> None:
        """Take in what another one has counted."""
        self.num_records += other.num_records
        for name, (kind, count) in other.columns.items():
            self._add(name, kind, count)

    def schema(self) -> RecordSchema:
        """Return the columns that all records have; ShardError where a column takes the name of the field for the others."""
        everywhere = {name: kind for name, (kind, count) in self.columns.items() if kind is not None and count == self.num_records}
        if clash := [name for name in self.columns if name.split(".")[0] == SPARSE]:
            raise ShardError(f"column {clash[0]}: a packed record has a field {SPARSE!r} of its own; rename the column")
        return RecordSchema(tuple(sorted(everywhere.items())), len(everywhere) < len(self.columns))

    def _add(self, name: str, kind: str | None, count: int) -> None:
        known, counted = self.columns.get(name, (None, 0))
        self.columns[name] = (_common(name, known, kind), counted + count)


def pack_record(record: Record, schema: RecordSchema) -> dict[str, Any]:
    """Return the record as it is packed: the columns of the schema in their types, the others as text under `sparse`."""
    leaves = dict(flatten(record))
    typed = {name: _cast(leaves.pop(name), kind) for name, kind in schema.columns}
    packed = dict(Sample("", {}).with_columns(typed).record)
    if schema.has_sparse:
        packed[SPARSE] = canonical_json(Sample("", {}).with_columns(leaves).record)
    return packed


def unpack_record(packed: Record) -> dict[str, Any]:
    """Return a record whose columns all stand where they belong; one without `sparse` text comes back as it is."""
    if not isinstance(packed.get(SPARSE), str):
        return dict(packed)
    record = {name: value for name, value in packed.items() if name != SPARSE}
    return merge_records(record, json.loads(packed[SPARSE]))


def _type_of(name: str, value: Any) -> str | None:
    """Return the type that a value says; None where it says none, as null and the empty list."""
    match value:
        case None:
            return None
        case bool():
            return "bool"
        case int():
            return "int64"
        case float():
            return "double"
        case str():
            return "string"
        case list() | tuple():
            inner = _common_of(name, (_type_of(name, element) for element in value))
            return f"list<{inner}>" if inner else None
    raise ShardError(f"column {name} holds a {type(value).__name__}; records hold text, numbers, booleans and lists of them")


def _common_of(name: str, kinds: Iterable[str | None]) -> str | None:
    common = None
    for kind in kinds:
        common = _common(name, common, kind)
    return common


def _common(name: str, one: str | None, other: str | None) -> str | None:
    if one == other or other is None:
        return one
    if one is None:
        return other
    wider = other.replace("int64", "double")
    if one.replace("int64", "double") == wider:
        return wider
    raise ShardError(f"column {name} is {one} in some samples and {other} in others; give it one type in the source list")


def _cast(value: Any, kind: str) -> Any:
    # A reader that saw 25 first would cut 29.97 to 29.
    if isinstance(value, (list, tuple)):
        return [_cast(element, kind) for element in value]
    return float(value) if "double" in kind and isinstance(value, int) else value
