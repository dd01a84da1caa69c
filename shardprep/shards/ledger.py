"""The ledger of a shard: a Parquet file with a row per input and per output sample, and what the shard was made from."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from shardprep.core.blob import Blob, read_blob
from shardprep.core.fingerprint import FORMAT_VERSION, digest
from shardprep.core.sample import Record
from shardprep.errors import REPAIR, ShardError
from shardprep.redaction import redact
from shardprep.shards.columns import is_plain, pick_leaves, record_columns
from shardprep.shards.parquet import open_parquet_bytes
from shardprep.shards.refusal import refusals
from shardprep.shards.tar import Placed

Fate = Literal["kept", "dropped", "failed"]

_METADATA_KEY = b"shardprep"
_CHECKSUM_KEY = b"shardprep.footer-sha256"
_SEAL_KEY = b"shardprep.file-sha256"
_UNSEALED = b"sha256 of this file as it is with these words in the place of it"
# Thrift's compact protocol: the next field, a text, of 64 bytes. The words above are as long as a digest.
_SEAL_HEAD = b"\x18\x40"
_WORDS = {"fate": {"kept", "dropped", "failed"}, "role": {"input", "output"}}
_PLACED = pa.struct(
    [("suffix", pa.string()), ("offset", pa.int64()), ("size", pa.int64()), ("crc32", pa.uint32()), ("sha256", pa.string())]
)
_TENSOR = pa.struct(
    [("name", pa.string()), ("dtype", pa.string()), ("shape", pa.list_(pa.int64())), ("offset", pa.int64()), ("num_bytes", pa.int64())]
)
ROW_TYPES = {
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
    "tensors": pa.list_(_TENSOR),
}
"""A ledger's own columns, whose names a record may not use; `tensors` is only there in a packed set."""


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
class PlacedTensor:
    """Where a tensor's data lies in the tar; `name` is role/tensor."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    num_bytes: int


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
    tensors: tuple[PlacedTensor, ...] = ()
    """Only in a packed set, for its index."""


@dataclass(frozen=True, kw_only=True, slots=True)
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
    reused_seconds: float = 0.0
    """What these had taken when they were worked on."""
    halved: int = 0
    """Batches that were halved for want of memory: their bytes may differ from an undisturbed run's."""
    versions: Mapping[str, str] = field(default_factory=dict)
    code: Mapping[str, str] = field(default_factory=dict)
    """Digests of the code of stages that were not shardprep's own, by name."""
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
            comparable(row.record),
            [list(vars(m).values()) for m in row.members],
        ]
        for row in outputs
    ]
    return digest([tar.sha256 if tar else None, sorted(rows, key=lambda row: (row[0], row[1]))])


def encode_ledger(ledger: Ledger, types: Mapping[str, str]) -> bytes:
    """Return the Parquet bytes; `types` gives the declared type of columns by dotted name, others are inferred.

    ShardError where a column's values have no type in common, or its name is a ledger's own.
    """
    footer = ledger.footer
    rows = [_values("input", row) for row in ledger.inputs] + [_values("output", row) for row in ledger.outputs]
    own = {name: kind for name, kind in ROW_TYPES.items() if name != "tensors" or any(row.tensors for row in ledger.outputs)}
    try:
        columns = record_columns([row.get("record", {}) for row in rows], {name: kind for name, kind in types.items() if kind != "member"})
    except ShardError as error:
        raise ShardError(f"shard {footer.shard}: {error}") from error
    if clash := sorted(columns.keys() & ROW_TYPES.keys()):
        raise ShardError(f"shard {footer.shard}: the record has {clash[0]!r}, a name that the ledger itself uses; rename the column")
    table = pa.table({name: pa.array([row.get(name) for row in rows], kind) for name, kind in own.items()} | columns)
    text = json.dumps(asdict(footer), sort_keys=True).encode()
    metadata = {_METADATA_KEY: text, _CHECKSUM_KEY: _sha256(text), _SEAL_KEY: _UNSEALED}
    sink = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(metadata), sink, compression="zstd")
    return _sealed(sink.getvalue())


def read_ledger(blob: Blob, name: str) -> Ledger:
    """Read a whole ledger; ShardError where it is cut short, damaged or no ledger."""
    table = read_table(blob, name)
    footer = footer_of(table, name)
    own = [column for column in table.column_names if column in ROW_TYPES]
    records = table.drop_columns(own).to_pylist() if len(own) < table.num_columns else [{}] * len(table)
    inputs: list[InputRow] = []
    outputs: list[OutputRow] = []
    for row, record in zip(table.select(own).to_pylist(), records, strict=True):
        common = {column: row[column] for column in ("key", "fate", "stage", "reason", "detail")}
        if row["role"] == "input":
            inputs.append(InputRow(**common, into=tuple(row["into"] or ()), digest=row["digest"]))
        else:
            members = tuple(Placed(**member) for member in row["members"] or ())
            tensors = tuple(PlacedTensor(**{**tensor, "shape": tuple(tensor["shape"])}) for tensor in row.get("tensors") or ())
            outputs.append(OutputRow(**common, parent=row["parent"], record=without_nulls(record), members=members, tensors=tensors))
    return Ledger(tuple(inputs), tuple(outputs), footer)


def read_table(blob: Blob, name: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a ledger as an Arrow table, its footer in the schema's metadata; `columns` are leaves or structs by dotted name."""
    # In one go: a ledger is small, and on an object store each read is a request.
    with refusals(f"reading {name}"):
        data = read_blob(blob)
    try:
        file = open_parquet_bytes(data)
        _check_seal(data, file.metadata.metadata, name)
        table = file.read(columns=None if columns is None else pick_leaves(file.schema_arrow, columns), use_threads=False)
        table.validate(full=True)
    except _DAMAGE as error:
        raise ShardError(_damaged(name, error)) from error
    _check_rows(table, name, set(columns if columns is not None else ROW_TYPES.keys() - {"tensors"}))
    return table


def read_footer(blob: Blob, name: str) -> Footer:
    """Read only a ledger's footer."""
    with refusals(f"reading {name}"):
        file = blob.open()
    try:
        with file:
            metadata = pq.ParquetFile(file).metadata.metadata
    except _DAMAGE as error:
        raise ShardError(_damaged(name, error)) from error
    return _footer(metadata, name)


def footer_of(table: pa.Table, name: str) -> Footer:
    """Return the footer of a ledger that was read as a table."""
    return _footer(table.schema.metadata, name)


# What pyarrow raises on bytes that are no Parquet, or no longer.
_DAMAGE = (pa.ArrowException, OSError, ValueError, KeyError, MemoryError)


def _sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).hexdigest().encode()


def _sealed(data: bytes) -> bytes:
    """Return the file with its own sha256 in it, so that a reader notices a changed byte wherever it is."""
    place = _place_of_seal(data, _UNSEALED)
    assert place is not None, "the writer put the words there"
    return data[:place] + _sha256(data) + data[place + len(_UNSEALED) :]


def _place_of_seal(data: bytes, seal: bytes) -> int | None:
    """Return where the seal stands: behind its name, and behind all that a record can bring in, which may hold the same words."""
    found = data.rfind(_SEAL_KEY + _SEAL_HEAD + seal)
    return None if found < 0 else found + len(_SEAL_KEY + _SEAL_HEAD)


def _check_seal(data: bytes, metadata: Mapping[bytes, bytes] | None, name: str) -> None:
    seal = (metadata or {}).get(_SEAL_KEY)
    if seal is None:
        raise _no_ledger(name, "it lacks the metadata of one")
    place = _place_of_seal(data, seal)
    if place is None or len(seal) != len(_UNSEALED) or _sha256(data[:place] + _UNSEALED + data[place + len(seal) :]) != seal:
        raise ShardError(_damaged(name, "a byte of it was changed after it was written"))


def _damaged(name: str, error: Exception | str) -> str:
    words = " ".join(str(error).split())[:300]
    return f"ledger {name} cannot be read ({words}). {REPAIR}: only its shard is made anew"


def _check_rows(table: pa.Table, name: str, expected: set[str]) -> None:
    """Check the ledger's own columns: there, of their types, and with the values that the format knows."""
    for column in expected & ROW_TYPES.keys():
        if column not in table.column_names or table[column].type != ROW_TYPES[column]:
            raise _no_ledger(name, f"its column {column} is not there, or not {ROW_TYPES[column]}")
    for column in expected & {"role", "key", "fate"}:
        known = _WORDS.get(column)
        strange = known and set(pc.unique(table[column]).to_pylist()) - known
        if table[column].null_count or strange:
            raise _no_ledger(name, f"its column {column} has a value that is none of the format")
    for column in table.schema:
        if column.name not in ROW_TYPES and not is_plain(column.type):
            raise _no_ledger(name, f"its column {column.name} is {column.type}; records hold text, numbers, booleans and lists")


def _no_ledger(name: str, what: str) -> ShardError:
    return ShardError(f"{name} is Parquet but no ledger of shardprep ({what}). {REPAIR}: only its shard is made anew")


def _footer(metadata: Mapping[bytes, bytes] | None, name: str) -> Footer:
    text = (metadata or {}).get(_METADATA_KEY, b"")
    try:
        values = json.loads(text)
        version = values["format"]
        if version == FORMAT_VERSION:
            values["inputs"] = tuple(InputRef(**ref) for ref in values["inputs"])
            values["tar"] = TarRef(**values["tar"]) if values["tar"] else None
            values["supersedes"] = tuple(values["supersedes"])
            footer = Footer(**values)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise _no_ledger(name, repr(error)) from error
    if version != FORMAT_VERSION:
        raise ShardError(f"ledger {name} has format {version}; this version of shardprep reads {FORMAT_VERSION}. Make the set again")
    if _sha256(text) != (metadata or {}).get(_CHECKSUM_KEY):
        raise ShardError(_damaged(name, "its footer was changed after it was written"))
    return footer


def _values(role: str, row: InputRow | OutputRow) -> dict[str, Any]:
    """Return a row's values by column name, `record` besides."""
    values: dict[str, Any] = {"role": role, **vars(row)}
    if row.detail is not None:
        values["detail"] = redact(row.detail)
    for name in ("members", "tensors"):
        if name in values:
            values[name] = [vars(one) for one in values[name]]
    return values


def without_nulls(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the record without null leaves and empty structs, which Parquet cannot tell from absent ones."""
    plain: dict[str, Any] = {}
    for name, value in record.items():
        inner = without_nulls(value) if isinstance(value, Mapping) else value
        if inner is not None and inner != {}:
            plain[name] = inner
    return plain


def comparable(value: Any) -> Any:
    """Return the value without nulls and with whole floats as ints: Parquet gives both back as its column's other rows have them."""
    if isinstance(value, Mapping):
        return {name: comparable(inner) for name, inner in without_nulls(value).items()}
    if isinstance(value, (list, tuple)):
        return [comparable(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
