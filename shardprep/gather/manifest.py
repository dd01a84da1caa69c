"""The manifest and the index of a packed set: all that a loader opens besides the tars."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from shardprep.core.fingerprint import FORMAT_VERSION, digest
from shardprep.errors import ShardError
from shardprep.shards.columns import leaf_names
from shardprep.shards.ledger import ROW_TYPES, footer_of, read_table
from shardprep.shards.names import parse_ledger_name
from shardprep.shards.set import ShardSet
from shardprep.shards.store import NewFile, Store

MANIFEST_FILE = "manifest.json"
INDEX_FILE = "index.parquet"

_MEMBER = pa.struct([("suffix", pa.string()), ("offset", pa.int64()), ("size", pa.int64()), ("crc32", pa.uint32())])
INDEX_SCHEMA = pa.schema([("key", pa.string()), ("shard", pa.string()), ("members", pa.list_(_MEMBER)), ("tensors", ROW_TYPES["tensors"])])
"""One row per sample in the order of the shards, a row group per shard; offsets are in bytes from the start of the tar, tensors named
role/tensor."""

_RANDOM = "RANDOM MODEL"


@dataclass(frozen=True, kw_only=True)
class PackedTar:
    """One training shard as the manifest lists it."""

    name: str
    size: int
    sha256: str
    num_samples: int
    bucket: str


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a packed set is; written last, so that a set with a manifest is whole."""

    fingerprint: str
    """Digest of everything that the set was made from."""
    dataset_digest: str
    """Digest of what it holds: the names and sha256 of its tars and of its index."""
    shards: tuple[PackedTar, ...]
    buckets: Mapping[str, Any]
    """What all samples of a bucket have in common, by its name: media suffixes, tensors with dtype and shape, width and height, values."""
    index: Mapping[str, Any]
    num_samples: int
    members: tuple[str, ...]
    """Suffixes of the members of a sample, over all shards."""
    random_models: tuple[str, ...] = ()
    """Scorers and encoders whose weights were random: their numbers mean nothing."""
    format: int = field(default=FORMAT_VERSION)


@dataclass(frozen=True)
class Contents:
    """What the ledger of a packed shard says, as the index and the manifest have it."""

    tar: PackedTar
    index: pa.Table
    suffixes: frozenset[str]
    random_models: frozenset[str]


def read_manifest(store: Store) -> Manifest | None:
    """Return the manifest, or None where there is none."""
    if store.size(MANIFEST_FILE) is None:
        return None
    try:
        values = json.loads(store.read(MANIFEST_FILE))
        version = values["format"]
        if version == FORMAT_VERSION:
            shards = tuple(PackedTar(**shard) for shard in values["shards"])
            lists = {name: tuple(values[name]) for name in ("members", "random_models")}
            return Manifest(**{**values, **lists, "shards": shards})
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ShardError(
            f"{store.url}/{MANIFEST_FILE} cannot be read ({type(error).__name__}: {error}). Delete it and run the recipe again"
        ) from error
    raise ShardError(f"{store.url}/{MANIFEST_FILE} has format {version}; this version of shardprep reads {FORMAT_VERSION}. Pack again")


def remove_manifest(store: Store) -> None:
    """Take the manifest away: from here until it is written again the set is not whole."""
    store.remove(MANIFEST_FILE)


def write_manifest(store: Store, ledgers: ShardSet, fingerprint: str, buckets: Mapping[str, Any]) -> Manifest:
    """Write the index from the ledgers of the set, shard by shard, then the manifest."""
    tars: list[PackedTar] = []
    suffixes: set[str] = set()
    random: set[str] = set()
    with store.create(INDEX_FILE) as file:
        sink = _Hashed(file)
        with pq.ParquetWriter(pa.PythonFile(sink, "w"), INDEX_SCHEMA, compression="zstd") as writer:
            for name in sorted(name for name in ledgers.store.names() if parse_ledger_name(name)):
                contents = read_contents(ledgers.store, name)
                tars.append(contents.tar)
                suffixes |= contents.suffixes
                random |= contents.random_models
                writer.write_table(contents.index, row_group_size=max(1, len(contents.index)))
        file.commit(replace=True)
    manifest = Manifest(
        fingerprint=fingerprint,
        dataset_digest=dataset_digest(tars, sink.sha256),
        shards=tuple(tars),
        buckets=buckets,
        index={"name": INDEX_FILE, "size": sink.size, "sha256": sink.sha256},
        num_samples=sum(tar.num_samples for tar in tars),
        members=tuple(sorted(suffixes)),
        random_models=tuple(sorted(random)),
    )
    store.replace_bytes(MANIFEST_FILE, (json.dumps(asdict(manifest), indent=1, sort_keys=True) + "\n").encode())
    return manifest


def dataset_digest(tars: list[PackedTar], index_sha256: str) -> str:
    """Return the digest of what a packed set holds."""
    return digest([[tar.name, tar.sha256] for tar in tars] + [index_sha256])


def read_contents(ledgers: Store, name: str) -> Contents:
    """Return what one ledger of a packed set says."""
    where = f"{ledgers.url}/{name}"
    table = read_table(ledgers.blob(name), where)
    footer = footer_of(table, where)
    if footer.tar is None:
        raise ShardError(f"{where} is no ledger of a packed shard: it names no tar. Delete it and run the recipe again")
    rows = table.filter(pc.equal(table["role"], "output")).combine_chunks()
    tar = PackedTar(
        name=footer.tar.name,
        size=footer.tar.size,
        sha256=footer.tar.sha256,
        num_samples=len(rows),
        bucket=footer.tar.name.partition("-")[0],
    )
    members = _only_chunk(rows["members"])
    fields = members.flatten()
    suffixes = frozenset(pc.unique(fields.field("suffix")).to_pylist())
    return Contents(tar, _index(rows, members, tar.name), suffixes, _random_models(rows))


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
                found |= {text for text in pc.unique(values).to_pylist() if text and _RANDOM in text}
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
