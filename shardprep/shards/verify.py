"""Verifying a shard set against what its ledgers say: every byte read, every row and every key accounted for."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from shardprep.core.blob import Blob
from shardprep.errors import ShardprepError
from shardprep.shards.join import open_view
from shardprep.shards.ledger import Ledger, TarRef, shard_digest
from shardprep.shards.names import DIGESTS_FILE, SET_FILE
from shardprep.shards.set import Committed, ShardSet
from shardprep.shards.store import Store
from shardprep.shards.tar import index_tar

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Problem:
    """Something that is not as it must be."""

    where: str
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}. {self.remedy}"


RUN_AGAIN = "Delete its ledger and run the recipe again"


def verify_set(url: str, storage_options: Mapping[str, object] | None = None) -> Iterator[Problem]:
    """Yield what is wrong with one set, its files and its relation to the sets that it was made from."""
    shard_set = ShardSet.open(Store(url, storage_options))
    current = shard_set.current(partial=True)
    for shard in shard_set.info.shards:
        if shard not in current:
            yield Problem(f"{url}/{shard}", "no valid ledger", "Run the recipe again")
    yield from _unlisted(shard_set, current)
    for shard, committed in current.items():
        try:
            ledger = shard_set.ledger(committed.ledger)
            yield from verify_ledger(shard_set.store, ledger, f"{url}/{committed.ledger}")
        except ShardprepError as error:
            yield Problem(f"{url}/{shard}", str(error), RUN_AGAIN)
    yield from _relation(url, shard_set, current, storage_options)


def verify_ledger(tars: Store, ledger: Ledger, where: str) -> Iterator[Problem]:
    """Yield what is wrong with one shard: its digest, its tar's bytes, its members."""
    footer = ledger.footer
    if shard_digest(ledger.inputs, ledger.outputs, footer.tar) != footer.digest:
        yield Problem(where, "its rows do not have the digest that its footer says", RUN_AGAIN)
    for role, rows in (("input", ledger.inputs), ("output", ledger.outputs)):
        keys = [row.key for row in rows]
        if len(set(keys)) < len(keys):
            yield Problem(where, f"a key has two {role} rows", RUN_AGAIN)
    if footer.tar is not None:
        yield from _verify_tar(tars, ledger, footer.tar, where)
    elif any(row.members for row in ledger.outputs):
        yield Problem(where, "rows have members, but there is no tar", RUN_AGAIN)


def _verify_tar(tars: Store, ledger: Ledger, ref: TarRef, where: str) -> Iterator[Problem]:
    if ref.name not in tars.names():
        yield Problem(where, f"its tar {ref.name} is missing", RUN_AGAIN)
        return
    tar = tars.blob(ref.name)
    if _sha256(tar) != ref.sha256:
        yield Problem(f"{tars.url}/{ref.name}", "its bytes do not have the sha256 that its ledger says", RUN_AGAIN)
    listed = {(row.key, m.suffix): m for row in ledger.outputs for m in row.members}
    found = {(m.key, m.suffix): (m.offset, m.size) for m in index_tar(tar, name=ref.name)}
    for name, placed in listed.items():
        if found.get(name) != (placed.offset, placed.size):
            yield Problem(where, f"member {'.'.join(name)} does not lie where the ledger says", RUN_AGAIN)
        elif _crc32(tars.blob(ref.name, placed.offset, placed.size)) != placed.crc32:
            yield Problem(where, f"member {'.'.join(name)} does not have its crc32", RUN_AGAIN)
    for name in sorted(found.keys() - listed.keys()):
        yield Problem(where, f"member {'.'.join(name)} is in the tar but not in the ledger", RUN_AGAIN)


def _unlisted(shard_set: ShardSet, current: Mapping[str, Committed]) -> Iterator[Problem]:
    needed = {SET_FILE, DIGESTS_FILE, shard_set.info.assignment}
    needed |= {c.ledger for c in current.values()} | {c.tar for c in current.values()}
    for name in shard_set.store.names():
        if name not in needed:
            yield Problem(f"{shard_set.store.url}/{name}", "no shard of the set needs this file", "Remove it with verify --clean")


def _relation(
    url: str, shard_set: ShardSet, current: Mapping[str, Committed], storage_options: Mapping[str, object] | None
) -> Iterator[Problem]:
    """Every kept sample of the parent must have one input row here, and the parents must be those it was made from."""
    parents = shard_set.info.parents
    if not parents:
        return
    try:
        parent = open_view(f"{url.rstrip('/').rsplit('/', 1)[0]}/{parents[-1].removeprefix('../')}", storage_options, partial=True)
    except ShardprepError as error:
        yield Problem(url, str(error), "Run the recipe again")
        return
    for shard in parent.shards:
        if shard not in current:
            continue
        try:
            ledger = shard_set.ledger(current[shard].ledger)
            samples = {sample.key for sample in parent.shard(shard)}
            made_from = {ref.set: ref.digest for ref in ledger.footer.inputs}
            stale = [at.set for at in parent.chain(shard) if made_from.get(at.set) != at.digest]
        except ShardprepError as error:
            yield Problem(f"{url}/{shard}", str(error), RUN_AGAIN)
            continue
        if stale:
            yield Problem(
                f"{url}/{current[shard].ledger}",
                f"it was made from another {stale[0]}/{shard} than the one that is there",
                "Run the recipe again",
            )
        elif samples != {row.key for row in ledger.inputs}:
            yield Problem(f"{url}/{current[shard].ledger}", "its input rows are not the samples of its input shard", RUN_AGAIN)


def _sha256(blob: Blob) -> str:
    digest = hashlib.sha256()
    with blob.open() as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _crc32(blob: Blob) -> int:
    value = 0
    with blob.open() as file:
        while chunk := file.read(_CHUNK):
            value = zlib.crc32(chunk, value)
    return value
