"""Reading a set as its users see it: the base samples joined by key with what later steps added or decided."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from shardprep.core.sample import Member, Sample, merge_records
from shardprep.errors import ShardError
from shardprep.shards.ledger import InputRef, Ledger, OutputRow, read_ledger
from shardprep.shards.set import Committed, ShardSet, relative_url
from shardprep.shards.store import Store


@dataclass(frozen=True, kw_only=True)
class LedgerAt:
    """Where one ledger of a chain lies, and the digest that it must have."""

    url: str
    set: str
    """The set's name for messages and for references between ledgers: the last part of its URL."""
    ledger: str
    digest: str

    def reference(self) -> InputRef:
        return InputRef(set=self.set, ledger=self.ledger, digest=self.digest)


Chain = tuple[LedgerAt, ...]
"""The ledgers of one shard, from the base set to the set that is read."""


class View:
    """A set joined with its ancestors, shard by shard, in the order of the base."""

    def __init__(self, sets: Sequence[ShardSet], storage_options: Mapping[str, object] | None = None, *, partial: bool = False) -> None:
        """`sets` are the base and its sidecars, in the order in which they were made."""
        self.sets = tuple(sets)
        self._options = storage_options
        committed = [s.current(partial=partial) for s in self.sets]
        self.shards = tuple(shard for shard in self.sets[-1].info.shards if all(shard in found for found in committed))
        self._committed = committed

    def chain(self, shard: str) -> Chain:
        """Return the ledgers of one shard, base first."""
        return chain_of([(s, found[shard]) for s, found in zip(self.sets, self._committed, strict=True)])

    def shard(self, shard: str) -> list[Sample]:
        """Return the samples of one shard."""
        return read_chain(self.chain(shard), self._options)

    def __iter__(self) -> Iterator[Sample]:
        for shard in self.shards:
            yield from self.shard(shard)


def chain_of(parts: Sequence[tuple[ShardSet, Committed]]) -> Chain:
    """Return the chain of one shard from its sets, base first."""
    return tuple(
        LedgerAt(url=s.store.url, set=s.store.url.rstrip("/").rsplit("/", 1)[-1], ledger=committed.ledger, digest=committed.digest)
        for s, committed in parts
    )


def open_view(url: str, storage_options: Mapping[str, object] | None = None, *, partial: bool = False) -> View:
    """Open a set by its URL together with the sets that it builds on."""
    own = ShardSet.open(Store(url, storage_options))
    if own.info.kind != "sidecar":
        return View([own], storage_options, partial=partial)
    parents = [ShardSet.open(Store(relative_url(url, parent), storage_options)) for parent in own.info.parents]
    return View([*parents, own], storage_options, partial=partial)


def read_chain(chain: Chain, storage_options: Mapping[str, object] | None = None) -> list[Sample]:
    """Join the ledgers of one shard by key; ShardError where one was made from another shard than the chain holds."""
    samples: dict[str, Sample] = {}
    for depth, at in enumerate(chain):
        store = Store(at.url, storage_options)
        ledger = read_ledger(store.blob(at.ledger), f"{at.url}/{at.ledger}")
        _check_digests(ledger, at, chain[:depth])
        rows = {row.key: row for row in ledger.outputs if row.fate == "kept"}
        if depth == 0:
            samples = {key: _sample(row, ledger, store) for key, row in rows.items()}
            continue
        if strange := sorted(rows.keys() - samples.keys()):
            raise ShardError(
                f"{at.set}/{at.ledger} has the key {strange[0]!r}, which {chain[0].set}/{chain[0].ledger} lacks; run the recipe again"
            )
        samples = {key: _joined(sample, _sample(rows[key], ledger, store)) for key, sample in samples.items() if key in rows}
    return list(samples.values())


def _check_digests(ledger: Ledger, at: LedgerAt, ancestors: Chain) -> None:
    if ledger.footer.digest != at.digest:
        raise ShardError(
            f"{at.set}/{at.ledger} has the digest {ledger.footer.digest[:12]}, not {at.digest[:12]}; it was changed after it was made"
        )
    made_from = {ref.set: ref.digest for ref in ledger.footer.inputs}
    for ancestor in ancestors:
        if made_from.get(ancestor.set) != ancestor.digest:
            raise ShardError(
                f"{at.set}/{at.ledger} was not made from {ancestor.set}/{ancestor.ledger} (digest {ancestor.digest[:12]}); "
                "run the recipe again to bring it up to date"
            )


def _sample(row: OutputRow, ledger: Ledger, store: Store) -> Sample:
    members: dict[str, Member] = {}
    for placed in row.members:
        if placed.suffix == "json":
            continue
        if ledger.footer.tar is None:
            raise ShardError(f"shard {ledger.footer.shard}: {row.key} has members but the ledger names no tar")
        blob = store.blob(ledger.footer.tar.name, placed.offset, placed.size)
        member = Member(placed.suffix, blob, placed.crc32, placed.sha256)
        members[member.role] = member
    return Sample(row.key, row.record, members)


def _joined(base: Sample, added: Sample) -> Sample:
    return Sample(base.key, merge_records(base.record, added.record), {**base.members, **added.members})
