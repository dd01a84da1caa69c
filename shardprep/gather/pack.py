"""Pack: whole samples copied into one training shard, every sample with the same members, tensors aligned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from zlib_ng import zlib_ng

from shardprep.core.blob import Blob, BytesBlob, read_blob
from shardprep.core.fingerprint import canonical_json
from shardprep.core.outcome import Failed
from shardprep.core.sample import RECORD_SUFFIX, Member
from shardprep.core.tensors import ALIGNMENT, TensorInfo, align_header, read_header
from shardprep.errors import ShardError, StoreError
from shardprep.expressions.tables import ARROW_TYPES
from shardprep.gather.outline import TEXT_SUFFIX, PackRow, empty_member, from_line, is_fillable
from shardprep.gather.planning import PlannedShard
from shardprep.runtime.journal import Journal
from shardprep.shards.checksums import sha256_of
from shardprep.shards.counts import count_rows
from shardprep.shards.hashed import TarDigest
from shardprep.shards.join import MemberAt
from shardprep.shards.ledger import (
    Footer,
    InputRef,
    InputRow,
    Ledger,
    OutputRow,
    PlacedTensor,
    TarRef,
    encode_ledger,
    read_footer,
    shard_digest,
)
from shardprep.shards.names import LEDGERS, ledger_name
from shardprep.shards.packed_record import one_type, pack_record
from shardprep.shards.refusal import refusals
from shardprep.shards.set import Committed
from shardprep.shards.store import NewFile, Store
from shardprep.shards.tar import Placed, TarWriter


@dataclass(frozen=True, kw_only=True)
class PackTask:
    """One training shard to write: picklable, complete."""

    step: str
    shard: str
    out_url: str
    """The folder of the packing."""
    fingerprint: str
    step_fingerprint: str
    planned: PlannedShard
    roles: tuple[str, ...] | None
    """Roles that are packed; None: all."""
    tars: tuple[str, ...]
    """The folders of the tars of the sets that are joined, base first."""
    inputs: tuple[InputRef, ...]
    """The shards that samples are taken from."""
    storage_options: Mapping[str, Any] | None = None
    verdicts: Mapping[str, Failed] = field(default_factory=dict)
    alone: frozenset[str] = frozenset()
    journal: str | None = None


@dataclass(frozen=True, kw_only=True)
class PackedShard:
    """A committed training shard."""

    shard: str
    committed: Committed
    worked_on: int
    seconds: Mapping[str, float] = field(default_factory=dict)
    adopted: bool = False
    """Whether another run committed it first."""


@dataclass(frozen=True)
class _Packed:
    """A member as it is written, with its tensors."""

    member: Member
    tensors: Mapping[str, TensorInfo] = field(default_factory=dict)


def pack_shard(task: PackTask) -> PackedShard:
    """Write one training shard and its ledger, whose creation is the commit; ShardError where an input shard is damaged."""
    store = Store(task.out_url, task.storage_options)
    if standing := _standing(task, store):
        return standing
    try:
        with closing(Journal(task.journal)) as journal:
            return _write(task, store, journal)
    except (ShardError, StoreError):
        # An equal run that was first has taken away the rows, as the packing is whole.
        if standing := _standing(task, store):
            return standing
        raise


def _standing(task: PackTask, store: Store) -> PackedShard | None:
    """Return the shard where it is there already."""
    ledgers = store.at(LEDGERS)
    name = str(ledger_name(task.shard, task.fingerprint))
    if ledgers.size(name) is None:
        return None
    footer = read_footer(ledgers.blob(name), f"{ledgers.url}/{name}")
    if footer.tar is None or store.size(footer.tar.name) != footer.tar.size:
        return None
    return PackedShard(shard=task.shard, committed=Committed.from_footer(name, footer), worked_on=0, adopted=True)


def _write(task: PackTask, store: Store, journal: Journal) -> PackedShard:
    ledgers = store.at(LEDGERS)
    tars = [Store(url, task.storage_options) for url in task.tars]
    rows: list[OutputRow] = []
    with store.create() as file:
        tar = TarWriter(file, task.shard, journal.beat)
        for row in _rows(task, ledgers):
            journal.beat()
            placed: list[Placed] = []
            tensors: list[PlacedTensor] = []
            for packed in _whole(row, task, tars):
                with refusals(f"copying {row.key}.{packed.member.suffix} into {task.shard}.tar"):
                    at = tar.add(row.key, packed.member)
                placed.append(at)
                tensors += _placed_tensors(packed, at.offset)
            record = one_type(row.record, task.planned.schema)
            rows.append(OutputRow(key=row.key, parent=row.key, fate="kept", record=record, members=tuple(placed), tensors=tuple(tensors)))
        done = tar.close()
        with journal.commit(done.size):
            _publish(file, store, f"{task.shard}.tar", done)
            return _commit(task, ledgers, tuple(rows), TarRef(name=f"{task.shard}.tar", sha256=done.sha256, size=done.size))


def _publish(file: NewFile, store: Store, name: str, done: TarDigest) -> None:
    """Give the tar its name; one that is there already stays where it has the same bytes, as all of one packing do."""
    if not file.commit(name):
        there = store.blob(name)
        if (there.size, sha256_of(there)) != (done.size, done.sha256):
            file.commit(name, replace=True)


def _commit(task: PackTask, ledgers: Store, rows: tuple[OutputRow, ...], tar: TarRef) -> PackedShard:
    inputs = tuple(InputRow(key=row.key, fate="kept", into=(row.key,)) for row in rows)
    footer = Footer(
        step=task.step,
        shard=task.shard,
        fingerprint=task.fingerprint,
        step_fingerprint=task.step_fingerprint,
        digest=shard_digest(inputs, rows, tar),
        inputs=task.inputs,
        tar=tar,
        counts=count_rows(inputs, rows),
    )
    name = str(ledger_name(task.shard, task.fingerprint))
    types = {column: kind for column, kind in task.planned.schema.columns if kind in ARROW_TYPES}
    mine = ledgers.create_bytes(name, encode_ledger(Ledger(inputs, rows, footer), types))
    if not mine:
        footer = read_footer(ledgers.blob(name), f"{ledgers.url}/{name}")
    return PackedShard(shard=task.shard, committed=Committed.from_footer(name, footer), worked_on=len(rows), adopted=not mine)


def _rows(task: PackTask, ledgers: Store) -> Iterator[PackRow]:
    for file, offset, length in task.planned.places.tolist():
        name = task.planned.files[file]
        with refusals(f"reading {ledgers.url}/{name}"):
            row = from_line(read_blob(ledgers.blob(name, offset, length)))
        assert isinstance(row, PackRow), "a plan holds samples that can be packed"
        yield row


def _whole(row: PackRow, task: PackTask, tars: Sequence[Store]) -> Iterator[_Packed]:
    """Yield the sample's members in the order of the set, record first, absent ones empty, tensors aligned."""
    record = pack_record(row.record, task.planned.schema)
    yield _Packed(Member(RECORD_SUFFIX, BytesBlob(canonical_json(record).encode())))
    own = row.packed(task.roles)
    text = row.text(task.roles)
    for suffix in sorted({*task.planned.members, *own}):
        if suffix in own:
            yield _copied(row, own[suffix], tars[own[suffix].depth])
        elif suffix == TEXT_SUFFIX and text is not None:
            yield _Packed(Member(suffix, BytesBlob(text.encode())))
        else:
            assert is_fillable(suffix), f"{suffix} of {row.key} cannot stand empty"
            yield _new(suffix, empty_member(suffix))


def _copied(row: PackRow, at: MemberAt, store: Store) -> _Packed:
    placed = at.placed
    blob = store.blob(at.tar, placed.offset, placed.size)
    member = Member(placed.suffix, blob, placed.crc32, placed.sha256)
    tensors = row.tensors.get(member.role, {})
    if min((tensor.start for tensor in tensors.values()), default=0) % ALIGNMENT:
        return _new(placed.suffix, align_header(_checked(f"{store.url}/{at.tar}: {row.key}.{placed.suffix}", at, blob)))
    return _Packed(member, tensors)


def _checked(where: str, at: MemberAt, blob: Blob) -> bytes:
    """Return the bytes of a member that is not copied as it is; those that are copied are checked by the tar writer."""
    with refusals(f"reading {where}"):
        data = read_blob(blob)
    if zlib_ng.crc32(data) != at.placed.crc32:
        raise ShardError(f"{where} does not have the crc32 that its ledger says; the shard is damaged, make it again")
    return data


def _new(suffix: str, data: bytes) -> _Packed:
    blob = BytesBlob(data)
    return _Packed(Member(suffix, blob), read_header(blob) if suffix.endswith(".safetensors") else {})


def _placed_tensors(packed: _Packed, offset: int) -> Iterator[PlacedTensor]:
    role = packed.member.role
    for name, tensor in packed.tensors.items():
        place = {"offset": offset + tensor.start, "num_bytes": tensor.end - tensor.start}
        yield PlacedTensor(name=f"{role}/{name}", dtype=tensor.dtype, shape=tensor.shape, **place)
