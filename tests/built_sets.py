"""Shard sets written by hand, in this process and without a stage: what a run would leave behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shardprep.core.blob import BytesBlob
from shardprep.core.fingerprint import canonical_json, digest
from shardprep.core.sample import Member
from shardprep.shards.counts import count_rows
from shardprep.shards.join import Chain, View, open_view
from shardprep.shards.ledger import Footer, InputRow, Ledger, OutputRow, TarRef, encode_ledger, shard_digest
from shardprep.shards.names import ledger_name, tar_name
from shardprep.shards.set import Committed, SetInfo, ShardSet, write_info
from shardprep.shards.store import Store
from shardprep.shards.tar import TarWriter


@dataclass(frozen=True)
class Made:
    """A sample to write: what the step adds, or all of it in a base set."""

    key: str
    record: Mapping[str, Any] = field(default_factory=dict)
    members: Mapping[str, bytes] = field(default_factory=dict)
    dropped: str | None = None
    """The reason, where it is not kept."""


Shards = Mapping[str, Sequence[Made]]


def write_base(folder: Path, shards: Shards, adds: Mapping[str, str] | None = None) -> ShardSet:
    """Write a base set whose samples came from nowhere: the record and the members of each in the tar."""
    return _write(folder, shards, (), "base", adds or {})


def write_sidecar(folder: Path, shards: Shards, parents: Sequence[ShardSet], adds: Mapping[str, str] | None = None) -> ShardSet:
    """Write what a step added to the join of `parents`, base first; samples that `shards` leaves out are not in its input."""
    return _write(folder, shards, parents, "sidecar", adds or {})


def chains_of(folder: Path) -> dict[str, Chain]:
    """Return the chain of every shard of a set."""
    view: View = open_view(str(folder))
    return {shard: view.chain(shard) for shard in view.shards}


def _write(folder: Path, shards: Shards, parents: Sequence[ShardSet], kind: Any, adds: Mapping[str, str]) -> ShardSet:
    store = Store(str(folder))
    info = SetInfo(
        step=folder.name,
        kind=kind,
        step_fingerprint=digest([folder.name, dict(adds)]),
        identity={"format": 1, "stages": []},
        parents=tuple(f"../{parent.info.step}" for parent in parents),
        shards=tuple(shards),
        adds=adds,
    )
    write_info(store, info)
    for shard, samples in shards.items():
        _write_shard(store, info, shard, samples, [parent.current()[shard] for parent in parents], parents)
    return ShardSet(store, info)


def _write_shard(
    store: Store, info: SetInfo, shard: str, samples: Sequence[Made], inputs: Sequence[Committed], parents: Sequence[ShardSet]
) -> None:
    ins, outs = [], []
    tar: TarRef | None = None
    with store.create() as file:
        writer = TarWriter(file, shard)
        for sample in samples:
            if sample.dropped is not None:
                ins.append(InputRow(key=sample.key, fate="dropped", stage="stage", reason=sample.dropped, detail="because"))
                continue
            members = [Member(suffix, BytesBlob(data)) for suffix, data in sorted(sample.members.items())]
            if info.kind == "base":
                members.insert(0, Member("json", BytesBlob(canonical_json(sample.record).encode())))
            placed = tuple(writer.add(sample.key, member) for member in members)
            ins.append(InputRow(key=sample.key, fate="kept", into=(sample.key,), digest=digest(sample.key)))
            outs.append(OutputRow(key=sample.key, parent=sample.key, fate="kept", record=sample.record, members=placed))
        done = writer.close()
        if any(row.members for row in outs):
            tar = TarRef(name=tar_name(shard, done.sha256), sha256=done.sha256, size=done.size)
            file.commit(tar.name)
    refs = tuple(at.reference() for at in _references(inputs, parents))
    fingerprint = digest([info.step_fingerprint, shard, [ref.digest for ref in refs]])
    footer = Footer(
        step=info.step,
        shard=shard,
        fingerprint=fingerprint,
        step_fingerprint=info.step_fingerprint,
        digest=shard_digest(ins, outs, tar),
        inputs=refs,
        tar=tar,
        counts=count_rows(ins, outs),
        seconds={"stage": 0.125},
    )
    data = encode_ledger(Ledger(tuple(ins), tuple(outs), footer), info.adds)
    assert store.create_bytes(str(ledger_name(shard, fingerprint)), data)


def _references(inputs: Sequence[Committed], parents: Sequence[ShardSet]) -> Chain:
    from shardprep.shards.join import chain_of

    return chain_of(list(zip(parents, inputs, strict=True)))
