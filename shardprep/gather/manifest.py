"""The manifest and the index of a packed set: all that a loader opens besides the tars."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from shardprep.core.fingerprint import FORMAT_VERSION, digest
from shardprep.core.tensors import read_header
from shardprep.errors import ShardError
from shardprep.shards.ledger import Ledger
from shardprep.shards.names import parse_ledger_name
from shardprep.shards.set import ShardSet
from shardprep.shards.store import Store

MANIFEST_FILE = "manifest.json"
INDEX_FILE = "index.parquet"

_TENSOR = pa.struct(
    [("name", pa.string()), ("dtype", pa.string()), ("shape", pa.list_(pa.int64())), ("offset", pa.int64()), ("num_bytes", pa.int64())]
)
_MEMBER = pa.struct([("suffix", pa.string()), ("offset", pa.int64()), ("size", pa.int64()), ("crc32", pa.uint32())])
INDEX_SCHEMA = pa.schema([("key", pa.string()), ("shard", pa.string()), ("members", pa.list_(_MEMBER)), ("tensors", pa.list_(_TENSOR))])
"""One row per sample in the order of the shards; offsets are in bytes from the start of the tar, tensors named role/tensor."""


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
    index: Mapping[str, Any]
    num_samples: int
    members: tuple[str, ...]
    """Suffixes of the members of a sample, over all shards."""
    random_models: tuple[str, ...] = ()
    """Scorers and encoders whose weights were random: their numbers mean nothing."""
    format: int = field(default=FORMAT_VERSION)


def read_manifest(store: Store) -> Manifest | None:
    """Return the manifest, or None where there is none."""
    if MANIFEST_FILE not in store.names():
        return None
    try:
        values = json.loads(store.read(MANIFEST_FILE))
        shards = tuple(PackedTar(**shard) for shard in values["shards"])
        lists = {name: tuple(values[name]) for name in ("members", "random_models")}
        return Manifest(**{**values, **lists, "shards": shards})
    except (KeyError, TypeError, ValueError) as error:
        raise ShardError(f"{store.url}/{MANIFEST_FILE} cannot be read ({error!r}). Delete it and run the recipe again") from error


def remove_manifest(store: Store) -> None:
    """Take the manifest away: from here until it is written again the set is not whole."""
    store.remove(MANIFEST_FILE)


def write_manifest(store: Store, ledgers: ShardSet, fingerprint: str) -> Manifest:
    """Write the index from the ledgers of the set, then the manifest."""
    names = sorted(name for name in ledgers.store.names() if parse_ledger_name(name))
    shards: list[PackedTar] = []
    rows: list[dict[str, Any]] = []
    random: set[str] = set()
    suffixes: set[str] = set()
    for name in names:
        ledger = ledgers.ledger(name)
        tar = ledger.footer.tar
        assert tar is not None, f"packed shard {name} without a tar"
        bucket = tar.name.partition("-")[0]
        shards.append(PackedTar(name=tar.name, size=tar.size, sha256=tar.sha256, num_samples=len(ledger.outputs), bucket=bucket))
        rows += index_rows(store, ledger)
        random |= _random(ledger)
        suffixes |= {member.suffix for row in ledger.outputs for member in row.members}
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, INDEX_SCHEMA), sink, compression="zstd")
    store.replace_bytes(INDEX_FILE, sink.getvalue())
    index = {"name": INDEX_FILE, "size": len(sink.getvalue()), "sha256": hashlib.sha256(sink.getvalue()).hexdigest()}
    manifest = Manifest(
        fingerprint=fingerprint,
        dataset_digest=digest([[shard.name, shard.sha256] for shard in shards] + [index["sha256"]]),
        shards=tuple(shards),
        index=index,
        num_samples=len(rows),
        members=tuple(sorted(suffixes)),
        random_models=tuple(sorted(random)),
    )
    store.replace_bytes(MANIFEST_FILE, (json.dumps(asdict(manifest), indent=1, sort_keys=True) + "\n").encode())
    return manifest


def index_rows(store: Store, ledger: Ledger) -> list[dict[str, Any]]:
    """Return the rows of the index for one shard; reads the header of every tensor file in its tar."""
    tar = ledger.footer.tar
    assert tar is not None, "a packed shard has a tar"
    rows = []
    for row in ledger.outputs:
        members = [{"suffix": m.suffix, "offset": m.offset, "size": m.size, "crc32": m.crc32} for m in row.members]
        tensors = []
        for member in row.members:
            if not member.suffix.endswith(".safetensors"):
                continue
            role = member.suffix.partition(".")[0]
            for name, tensor in read_header(store.blob(tar.name, member.offset, member.size)).items():
                place = {"offset": member.offset + tensor.start, "num_bytes": tensor.end - tensor.start}
                tensors.append({"name": f"{role}/{name}", "dtype": tensor.dtype, "shape": list(tensor.shape), **place})
        rows.append({"key": row.key, "shard": tar.name, "members": members, "tensors": tensors})
    return rows


def _random(ledger: Ledger) -> set[str]:
    """Return the scorers in the records that say that their weights were random."""
    found: set[str] = set()
    for row in ledger.outputs:
        found |= {str(value) for value in (row.record.get("scorers") or {}).values() if "RANDOM MODEL" in str(value)}
    return found
