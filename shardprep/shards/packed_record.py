"""The record of a packed sample as its JSON member holds it: the columns that every sample has, typed, and the others as one text."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
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
    mixed: tuple[tuple[str, str], ...] = ()
    """(name, type) of the columns whose values were of several types, in whatever place they stand: they become text."""


class RecordTypes:
    """The types of the columns of many records, taken in one by one or from another such count."""

    def __init__(self) -> None:
        self.num_records = 0
        self.columns: dict[str, tuple[str, int]] = {}
        """By name: the type, and how many records have a value whose type is known."""
        self.mixed: set[str] = set()
        """The columns that hold several types, numbers apart."""

    def add(self, record: Record) -> None:
        """Take in a record."""
        self.num_records += 1
        for name, value in flatten(record):
            kind = _type_of(name, value)
            if isinstance(value, (list, tuple)) and _mixes(name, value):
                self.mixed.add(name)
            self._add(name, kind, int(_is_known(kind)))

    def merge(self, other: RecordTypes) -> None:
        """Take in what another one has counted."""
        self.num_records += other.num_records
        self.mixed |= other.mixed
        for name, (kind, count) in other.columns.items():
            self._add(name, kind, count)

    def mixed_columns(self) -> dict[str, str]:
        """Return the type that the values of each mixed column take."""
        return {name: kind for name in sorted(self.mixed) if _is_known(kind := self.columns[name][0])}

    def schema(self, mixed: Mapping[str, str]) -> RecordSchema:
        """Return the columns that all records have, those of `mixed` in the types that it says.

        ShardError where a column takes the name of the field for the others.
        """
        everywhere = {
            name: mixed.get(name, kind) for name, (kind, count) in self.columns.items() if _is_known(kind) and count == self.num_records
        }
        if clash := [name for name in self.columns if name.split(".")[0] == SPARSE]:
            raise ShardError(f"column {clash[0]}: a packed record has a field {SPARSE!r} of its own; rename the column")
        return RecordSchema(tuple(sorted(everywhere.items())), len(everywhere) < len(self.columns), tuple(sorted(mixed.items())))

    def _add(self, name: str, kind: str, count: int) -> None:
        known, counted = self.columns.get(name, ("null", 0))
        common = _common(known, kind)
        if _is_mixed(known, kind):
            self.mixed.add(name)
        self.columns[name] = (common, counted + count)


def one_type(record: Record, schema: RecordSchema) -> Record:
    """Return the record with the values of mixed columns as text, so that all records of a set agree."""
    mixed = dict(schema.mixed)
    changed = {name: _cast(value, mixed[name]) for name, value in flatten(record) if name in mixed}
    return Sample("", record).with_columns(changed).record if changed else record


def pack_record(record: Record, schema: RecordSchema) -> dict[str, Any]:
    """Return the record as it is packed: the columns of the schema in their types, the others as text under `sparse`."""
    leaves = dict(flatten(one_type(record, schema)))
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


def _type_of(name: str, value: Any) -> str:
    """Return the type that a value says: `null` where it says none, so that the empty list is `list<null>`."""
    match value:
        case None:
            return "null"
        case bool():
            return "bool"
        case int():
            return "int64"
        case float():
            return "double"
        case str():
            return "string"
        case list() | tuple():
            return f"list<{_common_of(_type_of(name, element) for element in value)}>"
    raise ShardError(f"column {name} holds a {type(value).__name__}; records hold text, numbers, booleans and lists of them")


def _is_known(kind: str) -> bool:
    return "null" not in kind


def _common_of(kinds: Iterable[str]) -> str:
    common = "null"
    for kind in kinds:
        common = _common(common, kind)
    return common


def _common(one: str, other: str) -> str:
    """Return the type that holds both: the wider number, else text; lists element by element."""
    if one == other or other == "null":
        return one
    if one == "null":
        return other
    if {one, other} == {"int64", "double"}:
        return "double"
    if _is_list(one) and _is_list(other):
        return f"list<{_common(one[5:-1], other[5:-1])}>"
    return "string"


def _is_mixed(one: str, other: str) -> bool:
    """Whether values of the types become text where they were none."""
    if "null" in (one, other) or one == other:
        return False
    if _is_list(one) and _is_list(other):
        return _is_mixed(one[5:-1], other[5:-1])
    return {one, other} != {"int64", "double"}


def _mixes(name: str, values: Iterable[Any]) -> bool:
    """Whether elements of a list, or of a list in it, have several types."""
    common = "null"
    for value in values:
        kind = _type_of(name, value)
        if _is_mixed(common, kind) or (isinstance(value, (list, tuple)) and _mixes(name, value)):
            return True
        common = _common(common, kind)
    return False


def _is_list(kind: str) -> bool:
    return kind.startswith("list<")


def _cast(value: Any, kind: str) -> Any:
    if value is None:
        return None
    if _is_list(kind) and isinstance(value, (list, tuple)):
        return [_cast(element, kind[5:-1]) for element in value]
    if kind == "string" and not isinstance(value, str):
        return canonical_json(value)
    # A reader that saw 25 first would cut 29.97 to 29.
    return float(value) if kind == "double" and isinstance(value, int) else value
