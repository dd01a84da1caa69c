"""Pack: whole samples copied into shuffled training shards of a target size, one tensor shape per shard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from shardprep.core.blob import BytesBlob, read_blob
from shardprep.core.fingerprint import canonical_json, digest
from shardprep.core.outcome import Failed
from shardprep.core.sample import IMAGE_SUFFIXES, VIDEO_SUFFIXES, Member, Sample
from shardprep.core.tensors import align_header, empty_tensor_file, read_header
from shardprep.gather.settings import Pack
from shardprep.shards.join import LedgerAt, read_chain
from shardprep.shards.ledger import Footer, InputRow, Ledger, OutputRow, TarRef, count_rows, encode_ledger, read_footer, shard_digest
from shardprep.shards.names import ledger_name, parse_ledger_name
from shardprep.shards.set import Committed
from shardprep.shards.store import Store
from shardprep.shards.tar import TarWriter

LEDGERS = "ledgers"
"""The subfolder of a packed set that holds its ledgers, so that loaders which glob the folder see tars only."""

VARYING_ROLES = frozenset({"t5", "ar", "scene", "text"})
"""Roles whose length differs from sample to sample; they do not decide the shape of a shard."""

TAR_BLOCK = 512


@dataclass(frozen=True)
class Bucket:
    """What is equal in all samples of a shard."""

    media: tuple[tuple[str, str], ...]
    """(role, suffix) of videos and pictures, in the order of their roles."""
    shapes: tuple[tuple[str, str, tuple[int, ...]], ...]
    """(role/tensor, dtype, shape) of every tensor of fixed shape."""
    values: tuple[Any, ...]
    """Values of the columns in `bucket_by`, and width and height of the media."""


@dataclass(frozen=True, kw_only=True)
class PackTask:
    """One training shard to write: picklable, complete."""

    step: str
    shard: str
    out_url: str
    fingerprint: str
    step_fingerprint: str
    members: tuple[str, ...]
    """Suffixes that every sample has, in this order; absent ones are written empty."""
    columns: tuple[str, ...]
    """Columns that every record has; absent ones are null."""
    roles: tuple[str, ...] | None
    """Roles that are packed; None: all."""
    keys: Mapping[str, tuple[str, ...]]
    """Keys to take from each input shard."""
    order: tuple[str, ...]
    chains: Mapping[str, tuple[LedgerAt, ...]]
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


def bucket_of(sample: Sample, settings: Pack) -> Bucket:
    """Return the bucket of a sample; reads the headers of its tensor files."""
    roles = _packed_roles(sample, settings)
    media = tuple((role, m.suffix) for role, m in sorted(roles.items()) if m.suffix.rsplit(".", 1)[-1] in VIDEO_SUFFIXES | IMAGE_SUFFIXES)
    shapes = [
        (f"{role}/{name}", tensor.dtype, tensor.shape)
        for role, member in sorted(roles.items())
        if member.suffix.endswith(".safetensors") and role not in VARYING_ROLES
        for name, tensor in sorted(read_header(member.blob).items())
    ]
    size = (sample.get("media.width"), sample.get("media.height")) if media else ()
    return Bucket(media, tuple(shapes), (*size, *(sample.get(column) for column in settings.bucket_by)))


def packed_size(sample: Sample, settings: Pack) -> int:
    """Return about how many bytes the sample takes in a tar."""
    sizes = [member.blob.size for member in _packed_roles(sample, settings).values()]
    sizes.append(len(canonical_json(sample.record)))
    return sum(TAR_BLOCK + -(-size // TAR_BLOCK) * TAR_BLOCK for size in sizes)


def shuffled(keys: Sequence[str], seed: int | None) -> list[str]:
    """Return the keys in the order of a hash of seed and key, or sorted where there is no seed; no library's generator decides."""
    return sorted(keys) if seed is None else sorted(keys, key=lambda key: (digest([seed, key]), key))


def member_suffixes(samples: Sequence[Sample], settings: Pack) -> tuple[str, ...]:
    """Return the suffixes of tensor and text members that any sample has: every packed sample gets them all."""
    found = {m.suffix for sample in samples for m in _packed_roles(sample, settings).values() if _is_fillable(m.suffix)}
    if any(sample.get("caption.text") for sample in samples) and (settings.roles is None or "text" in settings.roles):
        found.add("txt")
    return tuple(sorted(found))


def pack_shard(task: PackTask) -> PackedShard:
    """Write one training shard and its ledger."""
    samples: dict[str, Sample] = {}
    for shard, chain in task.chains.items():
        wanted = set(task.keys[shard])
        samples |= {sample.key: sample for sample in read_chain(chain, task.storage_options) if sample.key in wanted}
    store = Store(task.out_url, task.storage_options)
    ledgers = store.at(LEDGERS)
    # The tar has a plain name and is replaced, so no ledger of another content may stand beside it.
    for name in ledgers.names():
        if (parsed := parse_ledger_name(name)) and parsed.shard == task.shard and parsed.fingerprint != task.fingerprint[:8]:
            ledgers.remove(name)
    rows: list[OutputRow] = []
    with store.create() as file:
        tar = TarWriter(file)
        for key in task.order:
            sample = samples[key]
            placed = tuple(tar.add(key, member) for member in _whole(sample, task))
            rows.append(OutputRow(key=key, parent=key, fate="kept", record=sample.record, members=placed))
        done = tar.close()
        file.commit(f"{task.shard}.tar", replace=True)
    return _commit(task, ledgers, rows, TarRef(name=f"{task.shard}.tar", sha256=done.sha256, size=done.size))


def _commit(task: PackTask, ledgers: Store, rows: Sequence[OutputRow], tar: TarRef) -> PackedShard:
    inputs = [InputRow(key=row.key, fate="kept", into=(row.key,)) for row in rows]
    footer = Footer(
        step=task.step,
        shard=task.shard,
        fingerprint=task.fingerprint,
        step_fingerprint=task.step_fingerprint,
        digest=shard_digest(inputs, rows, tar),
        inputs=tuple(at.reference() for chain in task.chains.values() for at in chain),
        tar=tar,
        counts=count_rows(inputs, rows),
    )
    name = str(ledger_name(task.shard, task.fingerprint))
    if not ledgers.create_bytes(name, encode_ledger(Ledger(tuple(inputs), tuple(rows), footer), {})):
        footer = read_footer(ledgers.blob(name), name)
    return PackedShard(shard=task.shard, committed=Committed.from_footer(name, footer), worked_on=len(rows))


def _whole(sample: Sample, task: PackTask) -> list[Member]:
    """Return the sample's members in the order of the set, record first, absent ones empty, tensors aligned."""
    record = {column: sample.get(column) for column in task.columns}
    members = [Member("json", BytesBlob(canonical_json(Sample("", {}).with_columns(record).record).encode()))]
    own = {member.suffix: member for role, member in sample.members.items() if task.roles is None or role in task.roles}
    if "txt" in task.members and "txt" not in own:
        own["txt"] = Member("txt", BytesBlob((sample.get("caption.text") or "").encode()))
    media = [suffix for suffix in sorted(own) if not _is_fillable(suffix)]
    for suffix in sorted([*task.members, *media]):
        members.append(_aligned(own[suffix]) if suffix in own else _empty(suffix))
    return members


def _aligned(member: Member) -> Member:
    if not member.suffix.endswith(".safetensors"):
        return member
    tensors = read_header(member.blob)
    if all(tensor.start % 64 == 0 for tensor in list(tensors.values())[:1]):
        return member
    return replace(member, blob=BytesBlob(align_header(read_blob(member.blob))), crc32=None, sha256=None)


def _empty(suffix: str) -> Member:
    role = suffix.partition(".")[0]
    return Member(suffix, BytesBlob(empty_tensor_file(role) if suffix.endswith(".safetensors") else b""))


def _is_fillable(suffix: str) -> bool:
    return suffix.rsplit(".", 1)[-1] not in VIDEO_SUFFIXES | IMAGE_SUFFIXES


def _packed_roles(sample: Sample, settings: Pack) -> dict[str, Member]:
    return {role: member for role, member in sample.members.items() if settings.roles is None or role in settings.roles}
