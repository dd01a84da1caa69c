"""The ledger of a shard: a Parquet file with a row per input and per output sample, and what the shard was made from."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from shardprep.core.blob import Blob
from shardprep.core.fingerprint import FORMAT_VERSION, digest
from shardprep.core.sample import Record, flatten
from shardprep.errors import ShardError
from shardprep.shards.tar import Placed

Fate = Literal["kept", "dropped", "failed"]

ROW_COLUMNS = ("role", "key", "parent", "fate", "stage", "reason", "detail", "into", "digest", "members")
"""Names of a ledger's own columns; a record may not use them."""

_METADATA_KEY = b"shardprep"
_PLACED = pa.struct(
    [("suffix", pa.string()), ("offset", pa.int64()), ("size", pa.int64()), ("crc32", pa.uint32()), ("sha256", pa.string())]
)
_ROW_TYPES = {
    "role": pa.string(),
    "key": pa.string(),
    "parent": pa.string(),
    "fate": pa.string(),
    "stage": pa.string(),
    "reason": pa.string(),
    "detail": pa.string(),
    "into": pa.list_(pa.string()),
    "digest": pa.string(),
    "members": pa.list_(_PLACED),
}
_ARROW_TYPES = {
    "double": pa.float64(),
    "int64": pa.int64(),
    "bool": pa.bool_(),
    "string": pa.string(),
    "list<double>": pa.list_(pa.float64()),
    "list<int64>": pa.list_(pa.int64()),
    "list<string>": pa.list_(pa.string()),
}


@dataclass(frozen=True, kw_only=True)
class InputRow:
    """What became of one input sample."""

    key: str
    fate: Fate
    stage: str | None = None
    """The stage that dropped or failed it."""
    reason: str | None = None
    detail: str | None = None
    into: tuple[str, ...] = ()
    """The keys it became or went into."""
    digest: str | None = None
    """Digest of what the step read of it, so that its outcome can be used again."""


@dataclass(frozen=True, kw_only=True)
class OutputRow:
    """One sample that came out, or a child that did not."""

    key: str
    parent: str
    fate: Fate
    stage: str | None = None
    reason: str | None = None
    detail: str | None = None
    record: Record = field(default_factory=dict)
    members: tuple[Placed, ...] = ()


@dataclass(frozen=True, kw_only=True)
class InputRef:
    """A shard that this one was made from."""

    set: str
    ledger: str
    digest: str


@dataclass(frozen=True, kw_only=True)
class TarRef:
    """The tar beside the ledger."""

    name: str
    sha256: str
    size: int


@dataclass(frozen=True, kw_only=True)
class Footer:
    """What the shard is and was made from; everything that is not a row."""

    step: str
    shard: str
    fingerprint: str
    step_fingerprint: str
    digest: str = ""
    """Digest of the shard: its tar's sha256 and its rows in canonical form."""
    inputs: tuple[InputRef, ...] = ()
    tar: TarRef | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    """Rows by role and fate, such as `{"input.kept": 3}`."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Wall seconds per stage."""
    decodes: int = 0
    """How often a video was decoded."""
    reused: int = 0
    """Input samples whose outcomes were copied from an earlier ledger."""
    halved: int = 0
    """Batches that were halved for want of memory: their bytes may differ from an undisturbed run's."""
    versions: Mapping[str, str] = field(default_factory=dict)
    supersedes: tuple[str, ...] = ()
    """Earlier ledgers of the shard that this one takes the place of."""
    format: int = FORMAT_VERSION


@dataclass(frozen=True)
class Ledger:
    """A ledger in memory."""

    inputs: tuple[InputRow, ...]
    outputs: tuple[OutputRow, ...]
    footer: Footer


def shard_digest(inputs: Sequence[InputRow], outputs: Sequence[OutputRow], tar: TarRef | None) -> str:
    """Return the digest of a shard: tar and rows; `detail`, times, versions and digests of inputs stay outside."""
    rows: list[list[Any]] = [["input", row.key, row.fate, row.stage, row.reason, list(row.into)] for row in inputs]
    rows += [
        [
            "output",
            row.key,
            row.parent,
            row.fate,
            row.stage,
            row.reason,
            _comparable(row.record),
            [list(asdict(m).values()) for m in row.members],
        ]
        for row in outputs
    ]
    return digest([tar.sha256 if tar else None, sorted(rows, key=lambda row: (row[0], row[1]))])


def count_rows(inputs: Sequence[InputRow], outputs: Sequence[OutputRow]) -> dict[str, int]:
    """Return the number of rows by role and fate, and by reason (`input.dropped:too-short`)."""
    counts: dict[str, int] = {}
    rows: list[tuple[str, InputRow | OutputRow]] = [("input", row) for row in inputs]
    rows += [("output", row) for row in outputs]
    for role, row in rows:
        names = [f"{role}.{row.fate}"]
        if row.fate != "kept":
            names.append(f"{role}.{row.fate}:{row.reason}")
        for name in names:
            counts[name] = counts.get(name, 0) + 1
    return counts


def encode_ledger(ledger: Ledger, types: Mapping[str, str]) -> bytes:
    """Return the Parquet bytes; `types` gives the declared type of columns by dotted name, others are inferred."""
    rows: list[dict[str, Any]] = [_input_values(row) for row in ledger.inputs]
    rows += [_output_values(row) for row in ledger.outputs]
    records = [dict[str, Any]()] * len(ledger.inputs) + [dict(row.record) for row in ledger.outputs]
    arrays: dict[str, pa.Array] = {name: pa.array([row.get(name) for row in rows], kind) for name, kind in _ROW_TYPES.items()}
    declared = {name: _ARROW_TYPES[kind] for name, kind in types.items() if kind != "member"}
    structs = _struct_types(records, declared)
    if clash := sorted(set(structs) & set(ROW_COLUMNS)):
        raise ShardError(f"shard {ledger.footer.shard}: the record has {clash[0]!r}, a name that the ledger itself uses; rename the column")
    for name, kind in structs.items():
        arrays[name] = pa.array([record.get(name) for record in records], kind)
    table = pa.table(arrays)
    metadata = {_METADATA_KEY: json.dumps(asdict(ledger.footer), sort_keys=True).encode()}
    sink = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(metadata), sink, compression="zstd")
    return sink.getvalue()


def read_ledger(blob: Blob, name: str) -> Ledger:
    """Read a whole ledger; ShardError where it is cut short or no ledger."""
    table = read_table(blob, name)
    footer = _footer(table.schema.metadata, name)
    record_names = [column for column in table.column_names if column not in ROW_COLUMNS]
    inputs: list[InputRow] = []
    outputs: list[OutputRow] = []
    for row in table.to_pylist():
        common = {column: row[column] for column in ("key", "fate", "stage", "reason", "detail")}
        if row["role"] == "input":
            inputs.append(InputRow(**common, into=tuple(row["into"] or ()), digest=row["digest"]))
        else:
            record = _canonical({column: row[column] for column in record_names})
            members = tuple(Placed(**member) for member in row["members"] or ())
            outputs.append(OutputRow(**common, parent=row["parent"], record=record, members=members))
    return Ledger(tuple(inputs), tuple(outputs), footer)


def read_table(blob: Blob, name: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a ledger as an Arrow table, its footer in the schema's metadata; `columns` are top-level names."""
    try:
        with blob.open() as file:
            return pq.ParquetFile(file).read(columns=list(columns) if columns else None)
    except (pa.ArrowException, OSError) as error:
        raise ShardError(_damaged(name, error)) from error


def read_footer(blob: Blob, name: str) -> Footer:
    """Read only a ledger's footer."""
    try:
        with blob.open() as file:
            metadata = pq.ParquetFile(file).schema_arrow.metadata
    except (pa.ArrowException, OSError) as error:
        raise ShardError(_damaged(name, error)) from error
    return _footer(metadata, name)


def _damaged(name: str, error: Exception) -> str:
    return f"ledger {name} cannot be read ({error}). Delete it and run again: only its shard is made anew"


def _footer(metadata: Mapping[bytes, bytes] | None, name: str) -> Footer:
    try:
        values = json.loads((metadata or {})[_METADATA_KEY])
        values["inputs"] = tuple(InputRef(**ref) for ref in values["inputs"])
        values["tar"] = TarRef(**values["tar"]) if values["tar"] else None
        values["supersedes"] = tuple(values["supersedes"])
        footer = Footer(**values)
    except (KeyError, TypeError, ValueError) as error:
        raise ShardError(f"{name} is Parquet but no ledger of shardprep ({error!r})") from error
    if footer.format != FORMAT_VERSION:
        raise ShardError(f"ledger {name} has format {footer.format}; this version reads {FORMAT_VERSION}. Make the set again")
    return footer


def _input_values(row: InputRow) -> dict[str, Any]:
    return asdict(row) | {"role": "input", "into": list(row.into)}


def _output_values(row: OutputRow) -> dict[str, Any]:
    values = {name: getattr(row, name) for name in ("key", "parent", "fate", "stage", "reason", "detail")}
    return values | {"role": "output", "members": [asdict(member) for member in row.members]}


def _canonical(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the record without null leaves and empty structs, which Parquet cannot tell from absent ones."""
    plain: dict[str, Any] = {}
    for name, value in record.items():
        inner = _canonical(value) if isinstance(value, Mapping) else value
        if inner is not None and inner != {}:
            plain[name] = inner
    return plain


def _comparable(value: Any) -> Any:
    """Return the value with whole floats as ints: a column of whole numbers comes back from Parquet as either."""
    if isinstance(value, Mapping):
        return {name: _comparable(inner) for name, inner in _canonical(value).items()}
    if isinstance(value, (list, tuple)):
        return [_comparable(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _struct_types(records: Sequence[Record], declared: Mapping[str, pa.DataType]) -> dict[str, pa.DataType]:
    """Return the Arrow type of every top-level name: declared leaves as declared, others as their values say."""
    leaves: dict[str, list[Any]] = {name: [] for name in declared}
    for record in records:
        for name, value in flatten(record):
            leaves.setdefault(name, []).append(value)
    tree: dict[str, Any] = {}
    for name in sorted(leaves):
        kind = declared.get(name) or _inferred(name, leaves[name])
        *path, last = name.split(".")
        node = tree
        for part in path:
            node = node.setdefault(part, {})
        node[last] = kind
    return {name: _struct(node) for name, node in tree.items()}


def _inferred(name: str, values: Iterable[Any]) -> pa.DataType:
    try:
        return pa.infer_type(list(values))
    except pa.ArrowInvalid:
        raise ShardError(
            f"column {name} mixes types that have nothing in common ({_kinds(values)}); give it one type in the source list"
        ) from None


def _kinds(values: Iterable[Any]) -> str:
    return ", ".join(sorted({type(value).__name__ for value in values}))


def _struct(node: Any) -> pa.DataType:
    if not isinstance(node, dict):
        return node
    return pa.struct([(name, _struct(inner)) for name, inner in node.items()])
