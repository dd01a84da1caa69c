"""Planning a packed set: which sample goes into which training shard, in which order, from the outlines of the input shards."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from shardprep.core.fingerprint import digest
from shardprep.core.hints import nearest
from shardprep.errors import RecipeError, ShardError
from shardprep.gather.outline import SAMPLES_SCHEMA, Group, Outline, Unpackable, empty_member, packed_bytes
from shardprep.gather.settings import Pack
from shardprep.shards.packed_record import RecordSchema, RecordTypes

_TAR_END_BYTES = 1024
_TABLES_AT_ONCE = 256
"""Small tables that are held before they become one: each takes more than the rows in it."""
_NO_SAMPLES = SAMPLES_SCHEMA.append(pa.field("file", pa.int32())).empty_table()


@dataclass(frozen=True, kw_only=True)
class PlannedShard:
    """A training shard to write."""

    name: str
    """`b`, the bucket's number, and the shard's number in the bucket."""
    content: str
    """Digest of what goes in, in its order, and of how it is written."""
    members: tuple[str, ...]
    """Suffixes of tensors and texts that every sample has; absent ones are written empty."""
    schema: RecordSchema
    files: tuple[str, ...]
    """The files of rows that its samples lie in."""
    places: npt.NDArray[np.int64]
    """[n, 3]: place in `files`, offset and length of each sample's row, in the order of the tar."""


@dataclass(frozen=True, kw_only=True)
class PackPlan:
    """All training shards of a packed set."""

    shards: tuple[PlannedShard, ...]
    buckets: Mapping[str, Any]
    """What is equal within the shards of a bucket, by its name (`b000`)."""
    files: Mapping[str, str]
    """The input shard of each file of rows."""
    unpackable: Mapping[str, tuple[Unpackable, ...]]
    """The samples that cannot be packed, by input shard."""


@dataclass(frozen=True)
class _Layout:
    """How all samples are written."""

    members: tuple[str, ...]
    schemas: Mapping[str, RecordSchema]
    """By `Group.media`."""


class _Gathered:
    """What the outlines of all input shards say together: about a hundred bytes per sample."""

    def __init__(self) -> None:
        self.groups: dict[Group, int] = {}
        self.files: dict[str, str] = {}
        """The input shard of each file of rows."""
        self.columns: dict[str, RecordTypes] = {}
        self.roles: set[str] = set()
        self.unpackable: dict[str, tuple[Unpackable, ...]] = {}
        self._samples: list[pa.Table] = []

    def add(self, outline: Outline) -> None:
        numbers = np.array([self.groups.setdefault(group, len(self.groups)) for group in outline.groups], np.int32)
        columns = {name: outline.samples[name] for name in outline.samples.column_names}
        columns["group"] = numbers[outline.samples["group"].to_numpy()]
        columns["file"] = np.full(len(outline.samples), len(self.files), np.int32)
        self._samples.append(pa.table(columns))
        self.files[outline.file] = outline.shard
        for media, types in outline.columns.items():
            self.columns.setdefault(media, RecordTypes()).merge(types)
        self.roles |= outline.roles
        if outline.unpackable:
            self.unpackable[outline.shard] = outline.unpackable
        if len(self._samples) == _TABLES_AT_ONCE:
            self._samples = [self._whole()]

    def sorted_samples(self, groups: Sequence[Group], files: Sequence[str], buckets: Sequence[str]) -> pa.Table:
        """Return the samples by bucket and in it in the order of the shuffle, `group`, `file` and `bucket` as places in the lists."""
        samples = self._whole()
        columns = {name: samples[name] for name in samples.column_names}
        columns["group"] = _renumbered(samples["group"], self.groups, groups)
        columns["file"] = _renumbered(samples["file"], self.files, files)
        columns["bucket"] = np.array([buckets.index(group.bucket) for group in groups], np.int32)[columns["group"]]
        samples = pa.table(columns)
        by = [("bucket", "ascending"), ("order", "ascending"), ("key", "ascending")]
        return samples.take(pc.sort_indices(samples, by)).combine_chunks()

    def _whole(self) -> pa.Table:
        return pa.concat_tables([_NO_SAMPLES, *self._samples]).combine_chunks()


def plan_shards(outlines: Iterable[Outline], settings: Pack) -> PackPlan:
    """Return the training shards: a function of the outlines and settings, whatever the order of the outlines.

    RecipeError where `settings.roles` names a role that no sample has; ShardError where a key occurs twice, or a column
    has the name of the field `sparse`.
    """
    gathered = _Gathered()
    for outline in outlines:
        gathered.add(outline)
    _check_roles(gathered.roles, settings)
    groups = sorted(gathered.groups, key=lambda group: (group.bucket, group.fillable))
    files = sorted(gathered.files, key=lambda file: gathered.files[file])
    buckets = sorted({group.bucket for group in groups})
    samples = gathered.sorted_samples(groups, files, buckets)
    _check_keys(samples)
    layout = _layout(gathered.columns, groups)
    fillers = np.array([_filler_bytes(group, layout.members) for group in groups], np.int64)
    sizes = samples["size"].to_numpy() + fillers[samples["group"].to_numpy()]
    shards = []
    for number, start, stop in _runs(samples["bucket"].to_numpy()):
        for part, (first, last) in enumerate(_divided(sizes, start, stop, settings)):
            schema = layout.schemas[groups[samples["group"][first].as_py()].media]
            rows = samples.slice(first, last - first)
            shards.append(_shard(f"b{number:03d}-{part:06d}", rows, layout.members, schema, files))
    described = {f"b{number:03d}": json.loads(bucket) for number, bucket in enumerate(buckets)}
    return PackPlan(shards=tuple(shards), buckets=described, files=gathered.files, unpackable=dict(sorted(gathered.unpackable.items())))


def _renumbered(numbers: pa.ChunkedArray, old: Iterable[Any], new: Sequence[Any]) -> npt.NDArray[np.int32]:
    """Return the places in `new` of what the numbers say of `old`."""
    places = {value: place for place, value in enumerate(new)}
    return np.array([places[value] for value in old], np.int32)[numbers.to_numpy()]


def _check_roles(found: Collection[str], settings: Pack) -> None:
    for role in settings.roles or ():
        # A caption becomes a text where no sample has one.
        if found and role not in {*found, "text"}:
            raise RecipeError(
                f"pack.roles: no sample has a member {role!r}{nearest(role, sorted(found))}; there are {', '.join(sorted(found))}"
            )


def _check_keys(samples: pa.Table) -> None:
    if pc.count_distinct(samples["key"]).as_py() < len(samples):
        counts = pc.value_counts(samples["key"])
        twice = counts.filter(pc.greater(counts.field("counts"), 1))[0]["values"].as_py()
        raise ShardError(f"the key {twice!r} occurs in two shards of what is packed; keys are unique in a set. Make that set again")


def _layout(columns: Mapping[str, RecordTypes], groups: Sequence[Group]) -> _Layout:
    members = sorted({suffix for group in groups for suffix in group.fillable})
    everywhere = RecordTypes()
    for types in columns.values():
        everywhere.merge(types)
    mixed = everywhere.mixed_columns()
    return _Layout(tuple(members), {media: types.schema(mixed) for media, types in columns.items()})


def _filler_bytes(group: Group, members: Sequence[str]) -> int:
    """Return what the empty members take that stand for what the samples of a group lack."""
    return sum(packed_bytes(len(empty_member(suffix))) for suffix in members if suffix not in group.fillable)


def _runs(values: npt.NDArray[np.int32]) -> Iterator[tuple[int, int, int]]:
    """Yield (value, start, stop) of each run of equal values."""
    edges = [0, *(np.flatnonzero(np.diff(values)) + 1).tolist(), len(values)]
    for start, stop in pairwise(edges):
        if start < stop:
            yield int(values[start]), start, stop


def _divided(sizes: npt.NDArray[np.int64], start: int, stop: int, settings: Pack) -> Iterator[tuple[int, int]]:
    """Cut a bucket into shards of at most the wanted size; a sample that is larger has a shard of its own."""
    limit = (settings.shard_mib << 20) - _TAR_END_BYTES
    most = settings.samples_per_shard or stop - start
    first, filled = start, 0
    for row, size in enumerate(sizes[start:stop].tolist(), start):
        if row > first and (filled + size > limit or row - first == most):
            yield first, row
            first, filled = row, 0
        filled += size
    yield first, stop


def _shard(name: str, rows: pa.Table, members: tuple[str, ...], schema: RecordSchema, files: Sequence[str]) -> PlannedShard:
    numbers, own = np.unique(rows["file"].to_numpy(), return_inverse=True)
    places = np.stack([own.astype(np.int64), rows["offset"].to_numpy(), rows["length"].to_numpy()], axis=1)
    contents = hashlib.sha256(b"".join(rows["content"].to_pylist())).hexdigest()
    content = digest([name, contents, members, schema.columns, schema.has_sparse, *schema.mixed])
    return PlannedShard(name=name, content=content, members=members, schema=schema, files=tuple(files[n] for n in numbers), places=places)
