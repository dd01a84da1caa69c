"""Verifying a packed set: manifest, index, tars and ledgers must tell one story."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Mapping

import pyarrow.parquet as pq

from shardprep.errors import ShardprepError
from shardprep.gather.manifest import INDEX_FILE, MANIFEST_FILE, Manifest, index_rows, read_manifest
from shardprep.gather.pack import LEDGERS
from shardprep.shards.ledger import Ledger, read_ledger
from shardprep.shards.names import SET_FILE, parse_ledger_name
from shardprep.shards.store import Store
from shardprep.shards.verify import Problem, verify_ledger

_REMEDY = "Delete manifest.json and run the recipe again"


def verify_packed(url: str, storage_options: Mapping[str, object] | None = None) -> Iterator[Problem]:
    """Yield what is wrong with a packed set."""
    store = Store(url, storage_options)
    manifest = read_manifest(store)
    if manifest is None:
        yield Problem(url, f"it has no {MANIFEST_FILE}: packing did not end", "Run the recipe again")
        return
    ledgers = dict(_ledgers(store))
    listed = {shard.name for shard in manifest.shards}
    for name in store.names():
        if name not in listed | {MANIFEST_FILE, INDEX_FILE, SET_FILE}:
            yield Problem(f"{url}/{name}", "the manifest does not list this file", "Remove it")
    for shard in manifest.shards:
        ledger = ledgers.get(shard.name.removesuffix(".tar"))
        if ledger is None or ledger.footer.tar is None:
            yield Problem(f"{url}/{shard.name}", "it has no ledger", _REMEDY)
            continue
        if (ledger.footer.tar.sha256, ledger.footer.tar.size, len(ledger.outputs)) != (shard.sha256, shard.size, shard.num_samples):
            yield Problem(f"{url}/{shard.name}", "manifest and ledger disagree about it", _REMEDY)
        try:
            yield from verify_ledger(store, ledger, f"{url}/{shard.name}")
        except ShardprepError as error:
            yield Problem(f"{url}/{shard.name}", str(error), _REMEDY)
    yield from _index(url, store, manifest, ledgers)


def _ledgers(store: Store) -> Iterator[tuple[str, Ledger]]:
    folder = store.at(LEDGERS)
    for name in folder.names():
        if parsed := parse_ledger_name(name):
            yield parsed.shard, read_ledger(folder.blob(name), f"{folder.url}/{name}")


def _index(url: str, store: Store, manifest: Manifest, ledgers: Mapping[str, Ledger]) -> Iterator[Problem]:
    data = store.read(INDEX_FILE) if INDEX_FILE in store.names() else b""
    if hashlib.sha256(data).hexdigest() != manifest.index["sha256"]:
        yield Problem(f"{url}/{INDEX_FILE}", "its bytes do not have the sha256 that the manifest says", _REMEDY)
        return
    rows = pq.read_table(io.BytesIO(data)).to_pylist()
    keys = [row["key"] for row in rows]
    if len(set(keys)) < len(keys):
        yield Problem(f"{url}/{INDEX_FILE}", "a key occurs twice", _REMEDY)
    expected = [row for shard in manifest.shards for row in _expected(store, ledgers, shard.name)]
    if rows != expected:
        yield Problem(f"{url}/{INDEX_FILE}", "its rows are not those of the tars", _REMEDY)


def _expected(store: Store, ledgers: Mapping[str, Ledger], tar: str) -> list[dict[str, object]]:
    ledger = ledgers.get(tar.removesuffix(".tar"))
    try:
        return index_rows(store, ledger) if ledger else []
    except ShardprepError:
        # The tar is damaged: that is reported of the tar itself.
        return []
