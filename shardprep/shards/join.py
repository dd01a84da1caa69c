"""Reading a set as its users see it: the base samples joined by key with what later steps added or decided."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from shardprep.core.blob import FileBlob
from shardprep.core.sample import RECORD_SUFFIX, Member, Record, Sample, merge_records, role_of
from shardprep.errors import REPAIR, ShardError
from shardprep.expressions.tables import concat
from shardprep.shards.checked import CheckedBlob
from shardprep.shards.columns import MEMBERS, join_tables, suffixes_of
from shardprep.shards.ledger import ROW_TYPES, Footer, InputRef, OutputRow, footer_of, read_ledger, read_table
from shardprep.shards.lineage import Standing, stand
from shardprep.shards.names import LEDGERS, set_name
from shardprep.shards.set import Committed, ShardSet, relative_url
from shardprep.shards.store import Store
from shardprep.shards.tar import Placed

_FATE_COLUMNS = ("key", "role", "parent", "fate", "stage", "reason", "detail")
_NO_SAMPLES = pa.schema([("key", pa.string()), (MEMBERS, pa.list_(pa.string()))]).empty_table()
_READ_AHEAD = 4
"""Ledgers that are read at once; Arrow decodes them beside Python."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LedgerAt:
    """Where one ledger of a chain lies, and the digest that it must have."""

    url: str
    set: str
    """The set's name for messages and for references between ledgers: the last part of its URL."""
    ledger: str
    digest: str
    tar: str | None = None
    tar_bytes: int = 0
    tars: str | None = None
    """The folder of the tar, where it does not lie beside the ledger."""
    roles: tuple[str, ...] = ()
    """The roles that a sidecar adds: the members in its tar."""
    tar_copy: str | None = None
    """A local copy of the tar, where one was fetched."""

    def reference(self) -> InputRef:
        return InputRef(set=self.set, ledger=self.ledger, digest=self.digest)


Chain = tuple[LedgerAt, ...]
"""The ledgers of one shard, from the base set to the set that is read."""


@dataclass(frozen=True)
class MemberAt:
    """Where a member lies: in which ledger's tar of the chain, counted from the base, and where in it."""

    depth: int
    tar: str
    placed: Placed


@dataclass(frozen=True)
class JoinedRow:
    """A sample as the ledgers of a chain have it, its members by role."""

    key: str
    record: Record
    members: Mapping[str, MemberAt]


class View:
    """A set joined with its ancestors, shard by shard, in the order of the base."""

    def __init__(
        self,
        sets: Sequence[ShardSet],
        shards: Sequence[str],
        committed: Sequence[Mapping[str, Committed]],
        storage_options: Mapping[str, object] | None = None,
    ) -> None:
        """`sets` are the base and its sidecars, in the order in which they were made; `committed` are those of their shards that count."""
        self.sets = tuple(sets)
        self.shards = tuple(shard for shard in shards if all(shard in found for found in committed))
        self._committed = committed
        self._options = storage_options

    def chain(self, shard: str) -> Chain:
        """Return the ledgers of one shard, base first."""
        return chain_of([(s, found[shard]) for s, found in zip(self.sets, self._committed, strict=True)])

    def shard(self, shard: str) -> list[Sample]:
        """Return the samples of one shard."""
        return read_chain(self.chain(shard), self._options)

    def keys(self, shard: str) -> list[str]:
        """Return the keys of the samples of one shard."""
        keys: list[str] = chain_table(self.chain(shard), self._options, ())["key"].to_pylist()
        return keys

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Return `key` and the columns of all samples, nested as structs, and as `members` their suffixes, in the order of the base.

        `columns` names those to read, as columns or structs by dotted name, case aside, or `members`; others are not read
        from the store. A column that no ledger has is not in the table.
        """
        read = partial(chain_table, storage_options=self._options, columns=columns)
        with ThreadPoolExecutor(_READ_AHEAD) as threads:
            tables = list(threads.map(read, [self.chain(shard) for shard in self.shards]))
        return concat(tables) if tables else _NO_SAMPLES

    def __iter__(self) -> Iterator[Sample]:
        for shard in self.shards:
            yield from self.shard(shard)


def chain_of(parts: Sequence[tuple[ShardSet, Committed]]) -> Chain:
    """Return the chain of one shard from its sets, base first."""
    return tuple(_located(s, committed) for s, committed in parts)


def open_view(url: str, storage_options: Mapping[str, object] | None = None, *, partial: bool = False) -> View:
    """Open a set by its URL together with the sets that it builds on; for packed sets see `packed.sets`.

    Raises IncompleteSet where shards are missing or were made from something else than what stands, unless `partial` asks for the others.
    """
    return view_of(stand(url, storage_options), storage_options, partial=partial)


def view_of(standing: Standing, storage_options: Mapping[str, object] | None = None, *, partial: bool = False) -> View:
    """Return the join of a set with the sets that it builds on; IncompleteSet as `open_view` does, ShardError where one of them is gone."""
    joined = [standing]
    if standing.set.info.kind == "sidecar":
        for parent, name in zip(standing.parents, standing.set.info.parents, strict=True):
            if parent is None:
                raise ShardError(
                    f"{standing.set.store.url} cannot be read without {relative_url(standing.set.store.url, name)}, which is gone; "
                    "run the recipe again to make it"
                )
        joined = [*filter(None, standing.parents), standing]
    committed = [one.require(partial=partial) for one in joined]
    return View([one.set for one in joined], standing.shards, committed, storage_options)


def read_chain(chain: Chain, storage_options: Mapping[str, object] | None = None) -> list[Sample]:
    """Join the ledgers of one shard by key; ShardError where one was made from another shard than the chain holds."""
    stores = [Store(at.tars or at.url, storage_options) for at in chain]
    return [
        Sample(row.key, row.record, {role: _member(row.key, at, chain, stores) for role, at in row.members.items()})
        for row in read_rows(chain, storage_options)
    ]


def read_rows(chain: Chain, storage_options: Mapping[str, object] | None = None) -> list[JoinedRow]:
    """Return what `read_chain` does, with the places of the members instead of what opens them."""
    joined: dict[str, JoinedRow] = {}
    for depth, at in enumerate(chain):
        ledger = read_ledger(Store(at.url, storage_options).small(at.ledger), f"{at.url}/{at.ledger}")
        _check_digests(ledger.footer, at, chain[:depth])
        rows = {row.key: _joined_row(row, ledger.footer, depth) for row in ledger.outputs if row.fate == "kept"}
        if depth == 0:
            joined = rows
            continue
        if strange := sorted(rows.keys() - joined.keys()):
            raise _strange_key(strange[0], at, chain[0])
        joined = {key: _merged(row, rows[key]) for key, row in joined.items() if key in rows}
    return list(joined.values())


def chain_table(chain: Chain, storage_options: Mapping[str, object] | None = None, columns: Sequence[str] | None = None) -> pa.Table:
    """Return what `read_chain` does as an Arrow table of `key` and columns; `columns` as in `View.table`."""
    joined: pa.Table | None = None
    for depth, at in enumerate(chain):
        store = Store(at.url, storage_options)
        names = None if columns is None else [name for name in columns if name == MEMBERS or name.lower() not in ROW_TYPES]
        own = None if names is None else ["role", "key", "fate", *names]
        table = read_table(store.small(at.ledger), f"{at.url}/{at.ledger}", own)
        _check_digests(footer_of(table, f"{at.url}/{at.ledger}"), at, chain[:depth])
        table = table.filter(pc.and_(pc.equal(table["role"], "output"), pc.equal(table["fate"], "kept")))
        table = table.select([name for name in table.column_names if name in ("key", MEMBERS) or name not in ROW_TYPES]).combine_chunks()
        if MEMBERS in table.column_names:
            table = table.set_column(table.column_names.index(MEMBERS), MEMBERS, suffixes_of(table[MEMBERS]))
        if joined is None:
            joined = table
            continue
        strange = table.filter(pc.invert(pc.is_in(table["key"], value_set=joined["key"].combine_chunks())))
        if strange.num_rows:
            raise _strange_key(strange["key"][0].as_py(), at, chain[0])
        joined = join_tables(joined, table)
    assert joined is not None, "a chain has a base"
    return joined.replace_schema_metadata(None)


def fates_of(own: ShardSet, current: Mapping[str, Committed], *, fate: str | None = None, key: str | None = None) -> pa.Table:
    """Return the rows of a set's ledgers without their columns: step, shard, key, role, parent, fate, stage, reason, detail.

    `fate` and the beginning of a `key` choose rows. Only what the set's own step says: the sets that it builds on have their own.
    """
    parts = []
    for shard, committed in current.items():
        rows = read_table(own.store.small(committed.ledger), f"{own.store.url}/{committed.ledger}", _FATE_COLUMNS).select(_FATE_COLUMNS)
        rows = rows.filter(pc.equal(rows["fate"], fate)) if fate is not None else rows
        rows = rows.filter(pc.starts_with(rows["key"], key)) if key is not None else rows
        for name, value in (("shard", shard), ("step", own.info.step)):
            rows = rows.add_column(0, name, pa.array([value] * len(rows), pa.string()))
        parts.append(rows.replace_schema_metadata(None))
    empty = pa.schema([(name, pa.string()) for name in ("step", "shard", *_FATE_COLUMNS)]).empty_table()
    return pa.concat_tables([empty, *parts])


def _located(shard_set: ShardSet, committed: Committed) -> LedgerAt:
    url = shard_set.store.url.rstrip("/")
    home = url.removesuffix(f"/{LEDGERS}") if shard_set.info.kind == "packed" else url
    return LedgerAt(
        url=url,
        set=set_name(home),
        ledger=committed.ledger,
        digest=committed.digest,
        tar=committed.tar,
        tar_bytes=committed.tar_bytes,
        tars=home if home != url else None,
        roles=tuple(name for name, kind in shard_set.info.adds.items() if kind == "member"),
    )


def _check_digests(footer: Footer, at: LedgerAt, ancestors: Chain) -> None:
    if footer.digest != at.digest:
        raise ShardError(
            f"{at.set}/{at.ledger} has the digest {footer.digest[:12]}, not {at.digest[:12]}; it was changed after it was made. {REPAIR}"
        )
    # By place: what a set is called may have changed since. A base builds on no other ledger of the chain.
    made_from = [ref.digest for ref in footer.inputs]
    for place, ancestor in enumerate(ancestors):
        if made_from[place : place + 1] != [ancestor.digest] or len(made_from) != len(ancestors):
            raise ShardError(
                f"{at.set}/{at.ledger} was not made from {ancestor.set}/{ancestor.ledger} (digest {ancestor.digest[:12]}); "
                "run the recipe again to bring it up to date"
            )


def _strange_key(key: str, at: LedgerAt, base: LedgerAt) -> ShardError:
    return ShardError(f"{at.set}/{at.ledger} has the key {key!r}, which the sets before it, from {base.set} on, lack; run the recipe again")


def _joined_row(row: OutputRow, footer: Footer, depth: int) -> JoinedRow:
    members: dict[str, MemberAt] = {}
    for placed in row.members:
        if placed.suffix == RECORD_SUFFIX:
            continue
        if footer.tar is None:
            raise ShardError(f"shard {footer.shard}: {row.key} has members but the ledger names no tar. {REPAIR}")
        members[role_of(placed.suffix)] = MemberAt(depth, footer.tar.name, placed)
    return JoinedRow(row.key, row.record, members)


def _merged(base: JoinedRow, added: JoinedRow) -> JoinedRow:
    return JoinedRow(base.key, merge_records(base.record, added.record), {**base.members, **added.members})


def _member(key: str, at: MemberAt, chain: Chain, stores: Sequence[Store]) -> Member:
    placed, source = at.placed, chain[at.depth]
    place = placed.offset, placed.size
    blob = FileBlob(source.tar_copy, *place) if source.tar_copy else stores[at.depth].blob(at.tar, *place)
    checked = CheckedBlob(blob, placed.crc32, f"{source.set}/{at.tar}: {key}.{placed.suffix}")
    return Member(placed.suffix, checked, placed.crc32, placed.sha256)
