"""The source's own set `raw/`: which source lies in which shard, kept from run to run, and the state of its shards."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from shardprep.core.fingerprint import FORMAT_VERSION, digest
from shardprep.driver.identity import shard_fingerprint
from shardprep.driver.state import StepState
from shardprep.errors import ShardError, StoreError
from shardprep.recipe.model import RAW, Recipe
from shardprep.shards.ledger import read_table
from shardprep.shards.local import ABSENT
from shardprep.shards.names import SOURCE_TARS, parse_ledger_name
from shardprep.shards.set import SetInfo, ShardSet, read_info, write_info
from shardprep.shards.store import Store
from shardprep.sources.assign import assign_shards
from shardprep.sources.entry import SourceEntry
from shardprep.sources.find import UNREACHABLE
from shardprep.sources.listing import list_source
from shardprep.sources.tar_index import TarIndexes

_ASSIGNMENT = "assignment-"
"""What the name of the file begins with that says which source lies in which raw shard."""
_COLUMNS = pa.schema([("shard", pa.string()), ("key", pa.string()), ("version", pa.string()), ("size", pa.int64())])


@dataclass(frozen=True)
class RawState:
    """The source's own set, with the sources of each shard."""

    state: StepState
    entries: Mapping[str, Sequence[SourceEntry]]
    tar_indexes: TarIndexes
    """What the source's tars hold; `write_raw_info` keeps it for the next run."""


def raw_state(recipe: Recipe, retry: bool) -> RawState:
    """List the source and compare it with `raw/`."""
    store = Store(recipe.output, recipe.settings.storage_options).at(RAW)
    was = read_info(store)
    known = _read_assignment(store, was)
    tar_indexes = TarIndexes(store.at(SOURCE_TARS))
    listed = list_source(recipe.source, (Store(recipe.output, recipe.settings.storage_options).url,), tar_indexes)
    assigned = assign_shards(
        _as_they_were(listed, known), _keys_by_shard(known), recipe.source.samples_per_shard, recipe.source.shard_mib << 20
    )
    identity = {"format": FORMAT_VERSION, "source": "raw"}
    info = SetInfo(
        step=RAW,
        kind="base",
        step_fingerprint=digest(identity),
        identity=identity,
        parents=(),
        shards=tuple(assigned),
    )
    fingerprints = {
        shard: shard_fingerprint(info.step_fingerprint, [entry.identity() for entry in entries]) for shard, entries in assigned.items()
    }
    state = StepState(RAW, ShardSet(store, info), was, (), fingerprints)
    state.refresh(retry)
    return RawState(state, assigned, tar_indexes)


def write_raw_info(raw: RawState) -> None:
    """Write which source lies in which shard, then `set.json`; remove what said so before."""
    store = raw.state.set.store
    raw.tar_indexes.save()
    sink = io.BytesIO()
    pq.write_table(_assignment(raw.entries), sink, compression="zstd")
    name = f"{_ASSIGNMENT}{hashlib.sha256(sink.getbuffer()).hexdigest()[:12]}.parquet"
    if store.size(name) is None or store.read(name) != sink.getvalue():
        store.replace_bytes(name, sink.getvalue())
    raw.state.set.info = replace(raw.state.info, assignment=name)
    write_info(store, raw.state.info)
    for other in store.names():
        if other.startswith(_ASSIGNMENT) and other != name:
            store.remove(other)


def _assignment(entries: Mapping[str, Sequence[SourceEntry]]) -> pa.Table:
    """Return a row of `shard`, `key`, `version` and `size` per source."""
    held = [entry for of_shard in entries.values() for entry in of_shard]
    return pa.table(
        {
            "shard": pa.array((shard for shard, of_shard in entries.items() for _ in of_shard), pa.string()),
            "key": pa.array((entry.key for entry in held), pa.string()),
            "version": pa.array((entry.version for entry in held), pa.string()),
            "size": pa.array((entry.size for entry in held), pa.int64()),
        },
        _COLUMNS,
    )


def _read_assignment(store: Store, was: SetInfo | None) -> pa.Table:
    """Return which source every raw shard has so far; from the ledgers where the file that says so is lost or damaged."""
    names = store.names()
    if was is not None and was.assignment in names:
        try:
            with store.blob(str(was.assignment)).open() as file:
                return pq.ParquetFile(file).read(use_threads=False).cast(_COLUMNS)
        except (pa.ArrowException, OSError, ValueError, StoreError):
            # Damaged, or taken away by another run: the ledgers know as well.
            pass
    rows = [{"shard": shard, "key": key} for shard, key in _in_ledgers(store, names)]
    return pa.Table.from_pylist(rows, _COLUMNS)


def _in_ledgers(store: Store, names: Iterable[str]) -> Iterator[tuple[str, str]]:
    for name in names:
        if parsed := parse_ledger_name(name):
            try:
                table = read_table(store.blob(name), f"{store.url}/{name}", ["role", "key"])
            except ShardError:
                continue
            yield from ((parsed.shard, row["key"]) for row in table.to_pylist() if row["role"] == "input")


def _keys_by_shard(known: pa.Table) -> dict[str, list[str]]:
    grouped: dict[str, list[str]] = {}
    for shard, key in zip(known["shard"].to_pylist(), known["key"].to_pylist(), strict=True):
        grouped.setdefault(shard, []).append(key)
    return grouped


def _as_they_were(entries: list[SourceEntry], known: pa.Table) -> list[SourceEntry]:
    """Return the entries, those as they were known whose web server gives no answer now: what was made of them stays."""
    lost = {entry.key for entry in entries if entry.version == UNREACHABLE}
    if not lost:
        return entries
    rows = known.filter(pc.and_(pc.is_in(known["key"], pa.array(lost)), pc.is_valid(known["version"]))).to_pylist()
    were = {row["key"]: (row["version"], row["size"]) for row in rows}
    return [_with_version(entry, *were[entry.key]) if entry.key in were else entry for entry in entries]


def _with_version(entry: SourceEntry, version: str, size: int) -> SourceEntry:
    if version in (ABSENT, UNREACHABLE):
        return entry
    members = tuple(replace(member, size=size) for member in entry.members)
    return replace(entry, version=version, size=size, members=members, problem=None)
