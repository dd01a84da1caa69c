"""Reads the rows of a list: CSV, TSV, JSON, JSONL and Parquet."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from shardprep.core.blob import Blob, read_blob
from shardprep.core.quantity import counted
from shardprep.errors import SourceError, WrongSource
from shardprep.sources.captions import decode_text
from shardprep.sources.columns import MAX_COLUMNS
from shardprep.sources.json_text import named_twice, parse_json
from shardprep.sources.keys import printable

Row = Mapping[str, Any]
MAX_FIELD_CHARACTERS = 16 << 20
_UNDECODED = re.compile("[\\udc80-\\udcff]+")
"""Bytes that are no UTF-8, as `surrogateescape` writes them."""


def read_rows(blob: Blob, suffix: str, what: str, texts: Collection[str] = (), path_column: str = "path") -> list[Row]:
    """Return the rows as plain JSON data; SourceError naming the row where the file is damaged, or is no UTF-8.

    Only in `path_column` bytes that are no UTF-8 are kept, as lone surrogates: a file may be called so.

    CSV has no types: a column all of whose values are whole numbers, numbers, or true and false is one of these; an empty
    field is null, and a number that would not be written back as it came (`007`) makes its column text, as are `texts`.
    """
    if suffix == "parquet":
        return _read_parquet(blob, what)
    try:
        text = decode_text(read_blob(blob), what, "surrogateescape")
    except MemoryError as error:
        raise SourceError(f"{what} has {blob.size} bytes, more than memory holds; write it as Parquet or in parts") from error
    if suffix in ("csv", "tsv"):
        rows = _read_csv(text, "," if suffix == "csv" else "\t", what, texts)
    else:
        rows = _read_jsonl(text, what) if suffix == "jsonl" else _read_json(text, what)
    if _UNDECODED.search(text):
        _check_text(rows, what, path_column)
    return rows


def _check_text(rows: Iterable[Row], what: str, path_column: str) -> None:
    """Raise WrongSource where a name, or a value that is no path, holds bytes that are no UTF-8."""
    for number, row in enumerate(rows, 1):
        values: list[tuple[str, Any]] = list(row.items())
        while values:
            column, value = values.pop()
            if isinstance(value, Mapping):
                values += ((f"{column}.{name}", inner) for name, inner in value.items())
            elif isinstance(value, list):
                values += ((f"{column}.{index}", inner) for index, inner in enumerate(value))
            if _UNDECODED.search(column):
                raise WrongSource(f"{what} row {number}: the name of column {printable(column)!r} is no UTF-8; save the list as UTF-8")
            if column != path_column and isinstance(value, str) and (found := _UNDECODED.search(value)):
                at = f"{printable(column)!r} is no UTF-8 ({printable(found[0])} at character {found.start() + 1})"
                raise WrongSource(f"{what} row {number}: the text in column {at}; save the list as UTF-8")


def _read_csv(text: str, delimiter: str, what: str, texts: Collection[str]) -> list[Row]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    # The module's own limit is one for the whole process, and refuses a long caption.
    before = csv.field_size_limit(MAX_FIELD_CHARACTERS)
    try:
        lines = [(reader.line_num, fields) for fields in reader if fields]
    except csv.Error as error:
        cure = (
            f"at most {MAX_FIELD_CHARACTERS} characters are read; is a quote missing?" if "limit" in str(error) else "mend the quotes there"
        )
        raise SourceError(f"{what} line {reader.line_num}: {error}; {cure}") from error
    finally:
        csv.field_size_limit(before)
    if not lines:
        raise WrongSource(f"{what} is empty; its first line names the columns")
    names = lines[0][1]
    if len(names) > MAX_COLUMNS:
        raise SourceError(f"{what} has {len(names)} columns; a list may have {MAX_COLUMNS}. Leave out those that nobody reads")
    if problem := named_twice(names):
        raise SourceError(f"{what}: {problem}")
    for number, fields in lines[1:]:
        if len(fields) != len(names):
            there = f"{counted(len(fields), 'field')}, but {counted(len(names), 'column')} ({', '.join(names)})"
            raise SourceError(f"{what} line {number}: {there}; quote the field")
    raw = {name: [fields[i] for _, fields in lines[1:]] for i, name in enumerate(names)}
    columns = [[field or None for field in fields] if name in texts else _typed(fields) for name, fields in raw.items()]
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


def _typed(fields: list[str]) -> list[Any]:
    present = [field for field in fields if field]
    kinds: tuple[Callable[[str], Any], ...] = (_as_int, _as_bool, _as_float)
    for kind in kinds:
        if present and all(kind(field) is not None for field in present):
            return [kind(field) if field else None for field in fields]
    return [field or None for field in fields]


def _as_int(field: str) -> int | None:
    try:
        return int(field) if len(field) < 20 and str(int(field)) == field else None
    except ValueError:
        return None


def _as_bool(field: str) -> bool | None:
    return {"true": True, "false": False}.get(field.lower())


def _as_float(field: str) -> float | None:
    digits = field.lstrip("+-")
    if (digits[:1] == "0" and digits[1:2].isdigit()) or "_" in field:
        return None
    try:
        value = float(field)
    except ValueError:
        return None
    # a whole number beyond a double's digits is an identifier
    exact = not digits.isdigit() or (math.isfinite(value) and int(value) == int(field))
    return value if exact and not math.isinf(value) else None


def _read_json(text: str, what: str) -> list[Row]:
    value = parse_json(text, what)
    rows = [value] if isinstance(value, dict) else value
    if not isinstance(rows, list):
        raise SourceError(f"{what} holds a JSON {type(value).__name__}, expected a list of objects")
    return _objects(enumerate(rows, 1), f"{what} row")


def _read_jsonl(text: str, what: str) -> list[Row]:
    lines = ((number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip())
    return _objects(((number, parse_json(line, f"{what} line {number}")) for number, line in lines), f"{what} line")


def _objects(rows: Iterable[tuple[int, Any]], what: str) -> list[Row]:
    checked: list[Row] = []
    for number, row in rows:
        if not isinstance(row, dict):
            raise SourceError(f"{what} {number} is a JSON {type(row).__name__}, expected an object with the columns as fields")
        checked.append(row)
    return checked


def _read_parquet(blob: Blob, what: str) -> list[Row]:
    import pyarrow as pa

    from shardprep.shards.parquet import open_parquet

    try:
        table = open_parquet(blob).read(use_threads=False)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise SourceError(f"{what} is no Parquet file: {error}") from error
    if problem := _fields_named_twice(table.schema):
        raise SourceError(f"{what}: {problem}")
    try:
        rows: list[Row] = table.to_pylist()
    except UnicodeDecodeError as error:
        raise WrongSource(f"{what}{_undecoded_at(table)} is no UTF-8 ({error.reason}); write the list as UTF-8") from error
    except (pa.ArrowException, ValueError) as error:
        raise SourceError(f"{what} is no Parquet file: {error}") from error
    return [{name: _plain(value) for name, value in row.items()} for row in rows]


def _fields_named_twice(kind: Any) -> str | None:
    """Say that two columns of a schema, or two fields of a type, have one name; of types within types too."""
    own = [kind.field(place) for place in range(kind.num_fields)] if hasattr(kind, "num_fields") else list(kind)
    inner = (_fields_named_twice(one.type) for one in own)
    return named_twice(one.name for one in own) or next(filter(None, inner), None)


def _undecoded_at(table: Any) -> str:
    """Say which text of a table is no UTF-8: ` row 2: the text in column 'text'`."""
    for name in table.column_names:
        for number, value in enumerate(table[name], 1):
            try:
                value.as_py()
            except UnicodeDecodeError:
                return f" row {number}: the text in column {name!r}"
    return ""


def _plain(value: Any) -> Any:
    """Return Parquet's richer values (times, decimals, bytes, maps) as JSON data."""
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if isinstance(value, bytes):
        return value.hex()
    return value if value is None or isinstance(value, (str, bool, int, float)) else str(value)
