"""Opening any set by its URL, packed or not: what the commands and the Python API read with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from shardprep.packed.packing import open_packing, standing_packing
from shardprep.shards.join import View, fates_of, open_view
from shardprep.shards.lineage import stand
from shardprep.shards.set import Committed, ShardSet, read_info
from shardprep.shards.store import Store


def open_set(url: str, storage_options: Mapping[str, Any] | None = None, *, partial: bool = False) -> View:
    """Open a shard set joined with the sets that it builds on, or the packing that counts of a packed set.

    IncompleteSet where shards are missing or made from something else than is there now, unless `partial` asks for what there
    is; a torn packing is refused all the same.
    """
    store = Store(url, storage_options)
    if not _is_packed(store):
        return open_view(url, storage_options, partial=partial)
    packing = standing_packing(store) if partial else open_packing(url, storage_options)
    shards = tuple(tar.shard for tar in packing.manifest.shards)
    return View([packing.ledgers()], shards, [packing.manifest.committed()], storage_options)


def counting_ledgers(url: str, storage_options: Mapping[str, Any] | None = None) -> tuple[ShardSet, Mapping[str, Committed]]:
    """Return a set without what it builds on, and those of its shards that count; a torn packing has none, and is refused."""
    store = Store(url, storage_options)
    if _is_packed(store):
        packing = standing_packing(store)
        return packing.ledgers(), packing.manifest.committed()
    standing = stand(url, storage_options)
    return standing.set, standing.current


def fates_table(url: str, storage_options: Mapping[str, Any] | None = None, *, fate: str | None = None, key: str | None = None) -> pa.Table:
    """Return the fates in a set's own ledgers, as `fates_of` does; of a packed set those in the packing that counts."""
    return fates_of(*counting_ledgers(url, storage_options), fate=fate, key=key)


def _is_packed(store: Store) -> bool:
    info = read_info(store)
    return info is not None and info.kind == "packed"
