"""Metadata of any origin as columns of a record: one type per column, names that expressions can write."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from shardprep.core.sample import Record
from shardprep.errors import SourceError
from shardprep.redaction import redact
from shardprep.sources.captions import clean_text
from shardprep.sources.safe_names import NameClash, find_clashes, safe_names

MAX_DEPTH = 32
MAX_COLUMNS = 4096
"""What a record, and all records of a source together, may hold: a ledger has a Parquet column for each."""

_INT64 = 1 << 63
NO_COLUMNS: Record = {}
"""Of a sample of which its source says nothing: one for all, as a run holds one for every source."""


def look_up(row: Mapping[str, Any], column: str) -> Any:
    """Return the value of a column, or of a path into nested objects and lists such as `conversations.1.value`; None where absent."""
    if column in row:
        return row[column]
    value: Any = row
    for part in column.split("."):
        if isinstance(value, Mapping) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            return None
    return value


def as_text(value: Any) -> str | None:
    """Return a value as text without space around it; None for null and for what is empty."""
    if value is None or isinstance(value, str):
        return clean_text(value or "")
    return clean_text(_json(value))


class CompactRecord(Mapping[str, Any]):
    """A record held as JSON, which takes a fifth of the memory: a run holds one for every source, and reads it once or twice."""

    __slots__ = ("_json",)

    def __init__(self, record: Mapping[str, Any]) -> None:
        self._json = json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")

    def plain(self) -> dict[str, Any]:
        """Return the record as it was given."""
        record: dict[str, Any] = json.loads(self._json.decode("utf-8", "surrogatepass"))
        return record

    def __getitem__(self, name: str) -> Any:
        return self.plain()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.plain())

    def __len__(self) -> int:
        return len(self.plain())


def caption_and_meta(text: str | None, meta: Mapping[str, Any]) -> Record:
    """Return a caption and metadata as the columns `caption.text` and `meta`; without what is not there."""
    record = {**({"caption": {"text": text}} if text is not None else {}), **({"meta": dict(meta)} if meta else {})}
    return CompactRecord(record) if record else NO_COLUMNS


def shape_problem(document: Mapping[str, Any]) -> str | None:
    """Return why a document cannot become columns: nested too deep, or too many; None where it can."""
    num_columns = 0
    stack: list[tuple[Any, int]] = [(document, 0)]
    while stack:
        value, depth = stack.pop()
        if depth > MAX_DEPTH:
            return f"it nests more than {MAX_DEPTH} levels"
        if isinstance(value, Mapping):
            stack += ((inner, depth + 1) for inner in value.values())
        elif isinstance(value, list):
            stack += ((inner, depth + 1) for inner in value if isinstance(inner, (list, Mapping)))
        if not isinstance(value, (list, Mapping)):
            num_columns += 1
        if num_columns > MAX_COLUMNS:
            return f"it has more than {MAX_COLUMNS} columns"
    return None


def typed_columns(rows: Sequence[Mapping[str, Any]], clashes: Callable[[NameClash], None] = lambda clash: None) -> list[dict[str, Any]]:
    """Return the rows with every value of a column of one type, so that all shards agree.

    Numbers become floats where one of them is; objects are taken field by field; what mixes types, or nests lists of
    objects, becomes text (JSON where it was no text). NaN is null, as are empty objects. Names keep letters, digits and
    `_`, the rest becomes `_`; those of them that would then be equal but for case get a digest each, which `clashes` is told.
    SourceError where all rows together have more columns than a ledger may hold.
    """
    _check_number(rows)
    return [row or {} for row in _one_type([dict(row) for row in rows], ("meta",), clashes)]


def _check_number(rows: Sequence[Mapping[str, Any]]) -> None:
    known: set[tuple[str, ...]] = set()
    for row in rows:
        stack: list[tuple[tuple[str, ...], Any]] = [((), row)]
        while stack:
            path, value = stack.pop()
            if isinstance(value, Mapping):
                stack += (((*path, str(name)), inner) for name, inner in value.items())
            else:
                known.add(path)
        if len(known) > MAX_COLUMNS:
            shown = ", ".join(".".join(path) for path in sorted(known)[:3])
            raise SourceError(
                f"the metadata of the source has more than {MAX_COLUMNS} columns, such as {shown}: are names of its objects data? "
                "Say in source.columns which ones to carry"
            )


def _one_type(values: list[Any], path: tuple[str, ...], clashes: Callable[[NameClash], None]) -> list[Any]:
    present = [value for value in values if value is not None]
    if not present:
        return values
    if all(isinstance(value, Mapping) for value in present):
        return _objects(values, path, clashes)
    if all(isinstance(value, bool) for value in present):
        return values
    if all(_is_int(value) for value in present):
        return values
    if all(_is_int(value) or _is_float(value) for value in present):
        return [None if value is None or math.isnan(value) else float(value) for value in values]
    if all(isinstance(value, list) for value in present):
        return _lists(values, path, clashes)
    return [None if value is None else _text(value) for value in values]


def _objects(values: list[Any], path: tuple[str, ...], clashes: Callable[[NameClash], None]) -> list[Any]:
    fields = dict.fromkeys(str(name) for value in values if value is not None for name in value)
    names = safe_names(list(fields))
    for clash in find_clashes(path, names):
        clashes(clash)
    columns: dict[str, list[Any]] = {}
    for field, name in names.items():
        columns[name] = _one_type([None if value is None else value.get(field) for value in values], (*path, name), clashes)
    rows: list[Any] = []
    for i in range(len(values)):
        row = {name: column[i] for name, column in columns.items() if column[i] is not None}
        rows.append(row or None)
    return rows


def _lists(values: list[Any], path: tuple[str, ...], clashes: Callable[[NameClash], None]) -> list[Any]:
    flat = [item for value in values if value is not None for item in value]
    if any(isinstance(item, (list, Mapping)) for item in flat):
        return [None if value is None else _text(value) for value in values]
    items = iter(_one_type(flat, path, clashes))
    return [None if value is None else [next(items) for _ in value] for value in values]


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and -_INT64 <= value < _INT64


def _is_float(value: Any) -> bool:
    return isinstance(value, float) and not math.isinf(value)


def _text(value: Any) -> str | None:
    if isinstance(value, float) and math.isnan(value):
        return None
    # An address in some column may be signed, as that of the video is.
    return redact(value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else _json(value))


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, default=str).encode("utf-8", "backslashreplace").decode()
