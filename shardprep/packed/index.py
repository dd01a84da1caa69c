"""The index of a packing: where every member and every tensor lies, as the ledgers say it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from shardprep.errors import REPAIR, ShardError
from shardprep.models.weights import RANDOM_WORDS
from shardprep.packed.manifest import FailedSamples, IndexFile, PackedTar
from shardprep.packed.names import INDEX_FILE, MANIFEST_FILE
from shardprep.shards.checksums import sha256_of
from shardprep.shards.columns import leaf_names
from shardprep.shards.ledger import ROW_TYPES, footer_of, read_table
from shardprep.shards.parquet import open_parquet, write_groups
from shardprep.shards.store import NewFile, Store

_MEMBER = pa.struct([("suffix", pa.string()), ("offset", pa.int64()), ("size", pa.int64()), ("crc32", pa.uint32())])
INDEX_SCHEMA = pa.schema([("key", pa.string()), ("shard", pa.string()), ("members", pa.list_(_MEMBER)), ("tensors", ROW_TYPES["tensors"])])
"""One row per sample in the order of the shards, a row group per shard; offsets are in bytes from the start of the tar, tensors named
role/tensor."""


@dataclass(frozen=True)
class Contents:
    """What the ledger of a packed shard says, as the index and the manifest have it."""

    tar: PackedTar
    index: pa.Table
    suffixes: frozenset[str]
    random_models: frozenset[str]


def read_contents(ledgers: Store, name: str) -> Contents:
    """Return what one ledger of a packing says."""
    where = f"{ledgers.url}/{name}"
    blob = ledgers.blob(name)
    table = read_table(blob, where)
    footer = footer_of(table, where)
    if footer.tar is None:
        raise ShardError(f"{where} is no ledger of a packed shard: it names no tar. {REPAIR}")
    rows = table.filter(pc.equal(table["role"], "output")).combine_chunks()
    tar = PackedTar(
        name=footer.tar.name,
        size=footer.tar.size,
        sha256=footer.tar.sha256,
        num_samples=len(rows),
        bucket=footer.tar.name.partition("-")[0],
        ledger=name,
        ledger_size=blob.size,
        digest=footer.digest,
    )
    members = _only_chunk(rows["members"])
    fields = members.flatten()
    suffixes = frozenset(pc.unique(fields.field("suffix")).to_pylist())
    return Contents(tar, _index(rows, members, tar.name), suffixes, _random_models(rows))


def read_failed(ledgers: Store, name: str) -> FailedSamples:
    """Return what the ledger of the failed samples says."""
    where = f"{ledgers.url}/{name}"
    blob = ledgers.blob(name)
    table = read_table(blob, where)
    reasons = Counter(table["reason"].to_pylist())
    return FailedSamples(ledger=name, ledger_size=blob.size, digest=footer_of(table, where).digest, reasons=dict(sorted(reasons.items())))


def write_index(store: Store, tables: Iterable[pa.Table]) -> IndexFile:
    """Write the index, a row group per table, and return it as it lies there; an equal one of another run stays."""
    with store.create(INDEX_FILE) as file:
        sink = _Hashed(file)
        write_groups(tables, INDEX_SCHEMA, sink)
        mine = IndexFile(name=INDEX_FILE, size=sink.size, sha256=sink.sha256)
        if file.commit():
            return mine
        there = store.blob(INDEX_FILE)
        # Damaged, unless an equal run with another release of Arrow has come to its end: then its manifest stands and counts.
        if (there.size, sha256_of(there)) != (mine.size, mine.sha256) and store.size(MANIFEST_FILE) is None:
            file.commit(replace=True)
    return mine


def index_groups(store: Store) -> Iterator[pa.Table]:
    """Yield the index shard by shard."""
    index = open_parquet(store.blob(INDEX_FILE))
    for number in range(index.num_row_groups):
        yield index.read_row_group(number, use_threads=False)


def _index(rows: pa.Table, members: pa.ListArray, tar: str) -> pa.Table:
    fields = [members.values.field(_MEMBER.field(i).name) for i in range(_MEMBER.num_fields)]
    kept = pa.ListArray.from_arrays(members.offsets, pa.StructArray.from_arrays(fields, fields=list(_MEMBER)))
    has_tensors = "tensors" in rows.column_names
    tensors = rows["tensors"] if has_tensors else pa.array([[]] * len(rows), ROW_TYPES["tensors"])
    return pa.table([rows["key"], pa.array([tar] * len(rows), pa.string()), kept, tensors], schema=INDEX_SCHEMA)


def _random_models(rows: pa.Table) -> frozenset[str]:
    """Return the scorers and models in the records that say that their weights were random."""
    found: set[str] = set()
    for leaf in leaf_names(rows.drop_columns([name for name in rows.column_names if name in ROW_TYPES]).schema):
        if leaf.startswith("scorers.") or leaf.endswith(".model"):
            first, *path = leaf.split(".")
            values = _only_chunk(rows[first])
            values = pc.struct_field(values, path) if path else values
            if pa.types.is_string(values.type):
                found |= {text for text in pc.unique(values).to_pylist() if text and RANDOM_WORDS in text}
    return frozenset(found)


def _only_chunk(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)


class _Hashed:
    """A new file that counts and hashes what is written to it."""

    def __init__(self, file: NewFile) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self.size = 0
        self.closed = False

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def write(self, data: bytes) -> int:
        self._hash.update(data)
        self.size += len(data)
        return self._file.write(data)

    def tell(self) -> int:
        return self.size

    def flush(self) -> None:
        self._file.flush()

    def writable(self) -> bool:
        return True

    def close(self) -> None:
        # The file is closed by whoever commits it.
        self.closed = True
