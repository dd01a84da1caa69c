"""Verifying a shard set against what its ledgers say: every byte read, every row and every key accounted for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from shardprep.core.blob import Blob, read_blob
from shardprep.core.quantity import counted
from shardprep.core.sample import RECORD_SUFFIX
from shardprep.errors import REPAIR, ShardprepError
from shardprep.shards.checksums import crc32_of, sha256_of
from shardprep.shards.counts import count_rows
from shardprep.shards.join import View, view_of
from shardprep.shards.ledger import Ledger, OutputRow, TarRef, comparable, shard_digest
from shardprep.shards.lineage import Standing, stand
from shardprep.shards.names import DIGESTS_FILE, SET_FILE, SOURCE_TARS, parse_ledger_name, shard_of
from shardprep.shards.packed_record import unpack_record
from shardprep.shards.set import Committed, damage_of_digests
from shardprep.shards.store import Store
from shardprep.shards.tar import index_tar


@dataclass(frozen=True)
class Problem:
    """Something that is not as it must be."""

    where: str
    what: str
    remedy: str

    def __str__(self) -> str:
        # An error that became a problem may say by itself where it is, and what to do.
        what = self.what.removeprefix(f"{self.where}: ").rstrip(".").removesuffix(f". {self.remedy}")
        return f"{self.where}: {what}. {self.remedy}"


_BRING_UP = "Run the recipe again"
_REBUILT = "Run the recipe again: it is a cache, and read anew from the ledgers"


def verify_set(url: str, storage_options: Mapping[str, object] | None = None) -> Iterator[Problem]:
    """Yield what is wrong with one set, its files and its relation to the sets that it was made from."""
    standing = stand(url, storage_options)
    shard_set = standing.set
    for shard in standing.shards:
        if why := standing.missing.get(shard) or standing.stale.get(shard):
            yield Problem(f"{url}/{shard}", why, _BRING_UP)
    yield from _same_shards(url, standing)
    if why := damage_of_digests(shard_set.store):
        yield Problem(f"{url}/{DIGESTS_FILE}", why, _REBUILT)
    yield from _unlisted(standing)
    parent = None
    try:
        parent = _parent(standing, storage_options)
    except ShardprepError as error:
        yield Problem(url, str(error), _BRING_UP)
    for shard, committed in standing.current.items():
        where = f"{url}/{committed.ledger}"
        try:
            ledger = shard_set.ledger(committed.ledger)
            yield from _cached(where, committed, ledger)
            yield from verify_ledger(shard_set.store, ledger, where, committed.ledger)
            if parent is not None and shard in parent.shards and set(parent.keys(shard)) != {row.key for row in ledger.inputs}:
                yield Problem(where, "its input rows are not the samples of its input shard", REPAIR)
        except ShardprepError as error:
            yield Problem(where, str(error), REPAIR)


def verify_ledger(tars: Store, ledger: Ledger, where: str, name: str) -> Iterator[Problem]:
    """Yield what is wrong with one shard: its digest, its counts, its rows, its tar's bytes, its members; `name` is its ledger's."""
    footer = ledger.footer
    if shard_digest(ledger.inputs, ledger.outputs, footer.tar) != footer.digest:
        yield Problem(where, "its rows do not have the digest that its footer says", REPAIR)
    if count_rows(ledger.inputs, ledger.outputs) != dict(footer.counts):
        yield Problem(where, "its rows are not as many as its footer says", REPAIR)
    parsed = parse_ledger_name(name)
    if parsed is None or (parsed.shard, parsed.fingerprint) != (footer.shard, footer.fingerprint[:8]):
        yield Problem(where, f"it is the ledger of shard {footer.shard} with fingerprint {footer.fingerprint[:8]}, renamed", REPAIR)
    yield from _rows(ledger, where)
    if footer.tar is not None:
        yield from _verify_tar(tars, ledger, footer.tar, where)
    elif any(row.members for row in ledger.outputs):
        yield Problem(where, "rows have members, but there is no tar", REPAIR)


def _rows(ledger: Ledger, where: str) -> Iterator[Problem]:
    """Every key has one row per role, and input and output rows name each other."""
    for role, rows in (("input", ledger.inputs), ("output", ledger.outputs)):
        keys = [row.key for row in rows]
        if len(set(keys)) < len(keys):
            yield Problem(where, f"a key has two {role} rows", REPAIR)
    outputs = {row.key for row in ledger.outputs if row.fate == "kept"}
    for row in ledger.inputs:
        if lost := sorted(set(row.into) - outputs):
            yield Problem(where, f"{row.key} went into {lost[0]}, which no row keeps", REPAIR)
        if (row.fate == "kept") != bool(row.into):
            yield Problem(where, f"{row.key} is {row.fate} and went into {counted(len(row.into), 'sample')}", REPAIR)
    claimed = {key for row in ledger.inputs for key in row.into}
    parents = {row.key for row in ledger.inputs}
    for output in ledger.outputs:
        if output.parent not in parents or (output.fate == "kept" and output.key not in claimed):
            yield Problem(where, f"{output.key} came out of {output.parent}, but no input row says so", REPAIR)


def _verify_tar(tars: Store, ledger: Ledger, ref: TarRef, where: str) -> Iterator[Problem]:
    if tars.size(ref.name) is None:
        yield Problem(where, f"its tar {ref.name} is missing", REPAIR)
        return
    tar = tars.blob(ref.name)
    if (tar.size, sha256_of(tar)) != (ref.size, ref.sha256):
        yield Problem(f"{tars.url}/{ref.name}", "its bytes do not have the sha256 that its ledger says", REPAIR)
    listed = {(row.key, m.suffix): m for row in ledger.outputs for m in row.members}
    found = {(m.key, m.suffix): (m.offset, m.size) for m in index_tar(tar, name=ref.name)}
    for name, placed in listed.items():
        if found.get(name) != (placed.offset, placed.size):
            yield Problem(where, f"member {'.'.join(name)} does not lie where the ledger says", REPAIR)
        elif crc32_of(tars.blob(ref.name, placed.offset, placed.size)) != placed.crc32:
            yield Problem(where, f"member {'.'.join(name)} does not have its crc32", REPAIR)
    for name in sorted(found.keys() - listed.keys()):
        yield Problem(where, f"member {'.'.join(name)} is in the tar but not in the ledger", REPAIR)
    for row in ledger.outputs:
        for placed in row.members:
            if placed.suffix == RECORD_SUFFIX and not _says_the_same(tars.blob(ref.name, placed.offset, placed.size), row):
                yield Problem(where, f"{row.key}.{RECORD_SUFFIX} does not say what the ledger's columns say", REPAIR)


def _says_the_same(record: Blob, row: OutputRow) -> bool:
    try:
        return bool(comparable(unpack_record(json.loads(read_blob(record)))) == comparable(row.record))
    except (ValueError, AttributeError):
        return False


def _cached(where: str, committed: Committed, ledger: Ledger) -> Iterator[Problem]:
    """What `digests.json` says of a ledger is what its footer says."""
    if committed != Committed.from_footer(committed.ledger, ledger.footer):
        yield Problem(where, f"{DIGESTS_FILE} says something else of it than its footer", _REBUILT)


def _unlisted(standing: Standing) -> Iterator[Problem]:
    """The files that no shard of the set needs; those of a shard that is missing or out of date are told with the shard."""
    shard_set = standing.set
    needed = {SET_FILE, DIGESTS_FILE, shard_set.info.assignment}
    is_source = not shard_set.info.parents
    for file in shard_set.store.walk():
        where = f"{shard_set.store.url}/{file.name}"
        if standing.supersedes(file.name):
            yield Problem(where, "no shard of the set needs this file", "Remove it with shardprep clean")
        elif shard_of(file.name) is None and file.name not in needed and not (is_source and file.name.startswith(f"{SOURCE_TARS}/")):
            yield Problem(where, "no shard of the set needs this file", "Remove it")


def _parent(standing: Standing, storage_options: Mapping[str, object] | None) -> View | None:
    """Return the join that the set was made from; None where its samples came from a source, or from sets that are gone."""
    if standing.set.info.kind == "sidecar":
        view_of(standing, storage_options, partial=True)
    if not standing.parents or None in standing.parents:
        return None
    last = standing.parents[-1]
    return view_of(last, storage_options, partial=True) if last else None


def _same_shards(url: str, standing: Standing) -> Iterator[Problem]:
    if standing.superfluous:
        yield Problem(f"{url}/{standing.superfluous[0]}", "what it was made from lacks that shard", _BRING_UP)
    if standing.unlisted:
        yield Problem(f"{url}/{standing.unlisted[0]}", f"what it was made from has this shard, {SET_FILE} does not list it", _BRING_UP)
