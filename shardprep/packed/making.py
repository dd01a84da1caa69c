"""Making a packing whole: its index and, last, its manifest, from its ledgers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from shardprep.errors import ShardError
from shardprep.packed.index import read_contents, read_failed, write_index
from shardprep.packed.manifest import Manifest, PackedTar, create_manifest, dataset_digest
from shardprep.packed.packing import whole_packing
from shardprep.shards.names import LEDGERS
from shardprep.shards.set import SetInfo
from shardprep.shards.store import Store


def make_manifest(
    store: Store, info: SetInfo, fingerprint: str, ledgers: Sequence[str], failed: str | None, buckets: Mapping[str, Any]
) -> None:
    """Write the index from the ledgers in their order, shard by shard, then the manifest; an equal run may have been first."""
    tars: list[PackedTar] = []
    suffixes: set[str] = set()
    random: set[str] = set()

    def tables() -> Iterator[pa.Table]:
        for name in sorted(ledgers):
            contents = read_contents(store.at(LEDGERS), name)
            tars.append(contents.tar)
            suffixes.update(contents.suffixes)
            random.update(contents.random_models)
            yield contents.index

    index = write_index(store, tables())
    manifest = Manifest(
        step=info.step,
        step_fingerprint=info.step_fingerprint,
        fingerprint=fingerprint,
        dataset_digest=dataset_digest(tars, index.sha256),
        shards=tuple(tars),
        buckets=buckets,
        index=index,
        num_samples=sum(tar.num_samples for tar in tars),
        members=tuple(sorted(suffixes)),
        random_models=tuple(sorted(random)),
        failed=read_failed(store.at(LEDGERS), failed) if failed else None,
    )
    if not create_manifest(store, manifest):
        first = whole_packing(store).manifest
        if {tar.name: tar.sha256 for tar in first.shards} != {tar.name: tar.sha256 for tar in tars}:
            raise ShardError(
                f"{store.url}: another run packed other bytes from the same samples. Delete that folder and run the recipe again"
            )
