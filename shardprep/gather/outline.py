"""The outline of an input shard: what packing must know of its samples, and their rows written down so that each is read once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from shardprep.core.fingerprint import canonical_json, digest
from shardprep.core.outcome import Failed
from shardprep.core.sample import Record, Sample
from shardprep.core.tensors import ALIGNMENT, TensorInfo, empty_tensor_file, read_header
from shardprep.errors import ShardError
from shardprep.gather.settings import Pack
from shardprep.packed.names import ROWS_SUFFIX
from shardprep.runtime.journal import Journal
from shardprep.shards.checksums import crc32_of
from shardprep.shards.join import Chain, JoinedRow, MemberAt, read_rows
from shardprep.shards.packed_record import RecordTypes
from shardprep.shards.store import Store
from shardprep.shards.tar import Placed

VARYING_ROLES = frozenset({"t5", "ar", "scene", "text"})
"""Roles whose length differs from sample to sample; they do not decide the shape of a shard."""

UNREADABLE = "unreadable-tensor"
"""The reason of a sample that fails because a tensor file of it is no safetensors file."""

TEXT_SUFFIX = "txt"
_TAR_BLOCK = 512
_HEADERS_AT_ONCE = 8

SAMPLES_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("order", pa.uint64()),
        ("group", pa.int32()),
        ("content", pa.binary(16)),
        ("size", pa.int64()),
        ("offset", pa.int64()),
        ("length", pa.int64()),
    ]
)
"""Per sample: where the shuffle puts it, its place in `Outline.groups`, a digest of all that is packed of it, about how many
bytes its own members take in a tar, and where its row lies in the file of rows."""


@dataclass(frozen=True, kw_only=True)
class OutlineTask:
    """An input shard to outline: picklable, complete."""

    step: str
    shard: str
    rows_url: str
    """The folder for the file of rows."""
    chain: Chain
    settings: Pack
    storage_options: Mapping[str, Any] | None = None
    verdicts: Mapping[str, Failed] = field(default_factory=dict)
    alone: frozenset[str] = frozenset()
    journal: str | None = None


@dataclass(frozen=True)
class Group:
    """What samples have in common that are packed alike."""

    media: str
    """Suffixes of the members that cannot stand empty, as JSON. Samples with equal `media` share one record schema."""
    bucket: str
    """All that is equal within a shard, as JSON."""
    fillable: tuple[str, ...]
    """Suffixes of the tensors and texts that they have."""


@dataclass(frozen=True, kw_only=True)
class Outline:
    """What packing must know of the samples of one input shard."""

    shard: str
    file: str
    """The file of rows."""
    samples: pa.Table
    groups: tuple[Group, ...]
    columns: Mapping[str, RecordTypes]
    """Types of the records' columns by `Group.media`."""
    roles: frozenset[str]
    """Roles that occur, packed or not."""
    unpackable: tuple[Unpackable, ...] = ()
    """The samples that cannot be packed, by key."""


@dataclass(frozen=True)
class Unpackable:
    """A sample that cannot be packed, and why."""

    key: str
    detail: str


@dataclass(frozen=True)
class PackRow:
    """A sample to pack: its record, where its members lie, and its tensors by role."""

    key: str
    record: Record
    members: Mapping[str, MemberAt]
    tensors: Mapping[str, Mapping[str, TensorInfo]]

    def packed(self, roles: Sequence[str] | None) -> dict[str, MemberAt]:
        """Return the members that are packed, by suffix."""
        return {at.placed.suffix: at for role, at in self.members.items() if roles is None or role in roles}

    def text(self, roles: Sequence[str] | None) -> str | None:
        """Return the caption that becomes a text member where the sample has none."""
        caption = Sample(self.key, self.record).get("caption.text")
        wanted = roles is None or "text" in roles
        return str(caption) if caption and wanted and "text" not in self.members else None


def outline_shard(task: OutlineTask) -> Outline:
    """Write the rows of an input shard where they are not there yet, and return its outline."""
    store = Store(task.rows_url, task.storage_options)
    name = f"{task.shard}-{digest([[at.set, at.ledger, at.digest] for at in task.chain])[:12]}{ROWS_SUFFIX}"
    lines = None
    with store.unless_gone(name):
        lines = store.read(name).splitlines(keepends=True)
    if lines is not None:
        rows = [from_line(line) for line in lines]
    else:
        rows = list(_rows_of(task))
        lines = [_to_line(row) for row in rows]
        store.create_bytes(name, b"".join(lines))
    return _outline(task, name, rows, [len(line) for line in lines])


def from_line(line: bytes) -> PackRow | Unpackable:
    """Return the row that a line of a file of rows holds."""
    values = json.loads(line)
    if "detail" in values:
        return Unpackable(**values)
    members = {role: MemberAt(depth, tar, Placed(*placed)) for role, (depth, tar, placed) in values["members"].items()}
    tensors = {
        role: {name: TensorInfo(dtype, tuple(shape), start, end) for name, (dtype, shape, start, end) in tensors.items()}
        for role, tensors in values["tensors"].items()
    }
    return PackRow(values["key"], values["record"], members, tensors)


def is_fillable(suffix: str) -> bool:
    """Whether an absent member of this suffix may stand empty: tensors and plain text; readers choke on an empty anything else."""
    return suffix.endswith(".safetensors") or suffix.rsplit(".", 1)[-1] == TEXT_SUFFIX


def empty_member(suffix: str) -> bytes:
    """Return what stands for an absent tensor or text."""
    return empty_tensor_file(suffix.partition(".")[0]) if suffix.endswith(".safetensors") else b""


def packed_bytes(size: int) -> int:
    """Return how many bytes a member of this size takes in a tar."""
    return _TAR_BLOCK + size + -size % _TAR_BLOCK


def _to_line(row: PackRow | Unpackable) -> bytes:
    if isinstance(row, Unpackable):
        return f"{canonical_json(vars(row))}\n".encode()
    members = {role: [at.depth, at.tar, list(vars(at.placed).values())] for role, at in row.members.items()}
    tensors = {role: {name: list(vars(t).values()) for name, t in found.items()} for role, found in row.tensors.items()}
    return f"{canonical_json({'key': row.key, 'record': row.record, 'members': members, 'tensors': tensors})}\n".encode()


def _rows_of(task: OutlineTask) -> Iterator[PackRow | Unpackable]:
    stores = [Store(at.tars or at.url, task.storage_options) for at in task.chain]

    def complete(row: JoinedRow) -> PackRow | Unpackable:
        journal.beat()
        tensors = {}
        for role, at in row.members.items():
            if at.placed.suffix.endswith(".safetensors") and task.settings.packs(role):
                blob = stores[at.depth].blob(at.tar, at.placed.offset, at.placed.size)
                try:
                    tensors[role] = read_header(blob)
                except ShardError as error:
                    # Without the output's own path: equal packings have equal ledgers wherever they lie.
                    where = f"{task.chain[at.depth].set}/{at.tar}: {row.key}.{at.placed.suffix}"
                    if crc32_of(blob) != at.placed.crc32:
                        raise ShardError(
                            f"{where} does not have the crc32 that its ledger says; the shard is damaged, make it again"
                        ) from error
                    return Unpackable(row.key, f"{where}: {error}")
        return PackRow(row.key, row.record, row.members, tensors)

    with closing(Journal(task.journal)) as journal, ThreadPoolExecutor(_HEADERS_AT_ONCE) as threads:
        yield from threads.map(complete, read_rows(task.chain, task.storage_options))


def _outline(task: OutlineTask, name: str, rows: Sequence[PackRow | Unpackable], lengths: Sequence[int]) -> Outline:
    groups: dict[Group, int] = {}
    columns: dict[str, RecordTypes] = {}
    roles: set[str] = set()
    samples: list[dict[str, Any]] = []
    unpackable: list[Unpackable] = []
    offset = 0
    for row, length in zip(rows, lengths, strict=True):
        offset += length
        if isinstance(row, Unpackable):
            unpackable.append(row)
            continue
        group = _group_of(row, task.settings)
        columns.setdefault(group.media, RecordTypes()).add(row.record)
        roles |= row.members.keys()
        samples.append(
            {
                "key": row.key,
                "order": _order(row.key, task.settings.seed),
                "group": groups.setdefault(group, len(groups)),
                "content": _content(row, task.settings),
                "size": _own_bytes(row, task.settings),
                "offset": offset - length,
                "length": length,
            }
        )
    return Outline(
        shard=task.shard,
        file=name,
        samples=pa.Table.from_pylist(samples, SAMPLES_SCHEMA),
        groups=tuple(groups),
        columns=columns,
        roles=frozenset(roles),
        unpackable=tuple(sorted(unpackable, key=lambda row: row.key)),
    )


def _group_of(row: PackRow, settings: Pack) -> Group:
    members = row.packed(settings.roles)
    media = sorted(suffix for suffix in members if not is_fillable(suffix))
    fillable = [suffix for suffix in members if is_fillable(suffix)]
    if row.text(settings.roles) is not None:
        fillable.append(TEXT_SUFFIX)
    shapes = [
        [f"{role}/{name}", tensor.dtype, tensor.shape]
        for role, tensors in sorted(row.tensors.items())
        if role not in VARYING_ROLES and row.members[role].placed.suffix in members
        for name, tensor in sorted(tensors.items())
    ]
    sample = Sample(row.key, row.record)
    size = [sample.get("media.width"), sample.get("media.height")] if media else []
    values = {column: sample.get(column) for column in settings.bucket_by}
    bucket = {"media": media, "tensors": shapes, "size": size, "values": values}
    return Group(canonical_json(media), canonical_json(bucket), tuple(sorted(fillable)))


def _order(key: str, seed: int | None) -> int:
    """Return the number by which samples are shuffled; no library's generator decides."""
    return 0 if seed is None else int.from_bytes(hashlib.sha256(canonical_json([seed, key]).encode()).digest()[:8])


def _content(row: PackRow, settings: Pack) -> bytes:
    members = [[at.placed.suffix, at.placed.size, at.placed.crc32, at.placed.sha256] for at in row.packed(settings.roles).values()]
    text = canonical_json([row.key, row.record, sorted(members)])
    return hashlib.sha256(text.encode()).digest()[:16]


def _own_bytes(row: PackRow, settings: Pack) -> int:
    """Return how many bytes the sample's record and members take in a tar, or a little more."""
    sizes = [at.placed.size + (ALIGNMENT if is_fillable(suffix) else 0) for suffix, at in row.packed(settings.roles).items()]
    if (text := row.text(settings.roles)) is not None:
        sizes.append(len(text.encode()))
    # A column that some samples lack is written as text, its quotes escaped.
    sizes.append(2 * len(canonical_json(row.record).encode()) + ALIGNMENT)
    return sum(packed_bytes(size) for size in sizes)
