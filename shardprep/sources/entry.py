"""A source entry: one sample to be, known by name, size and version before a byte of it is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from shardprep.core.animation import is_animated_webp
from shardprep.core.outcome import Failed
from shardprep.core.sample import Member, Record, Sample, merge_records
from shardprep.core.version import FileVersion
from shardprep.errors import SourceError
from shardprep.shards.store import Store
from shardprep.sources.captions import read_caption
from shardprep.sources.columns import NO_COLUMNS
from shardprep.sources.keys import printable
from shardprep.sources.places import WEB, public, scheme_of, split_url


@dataclass(frozen=True, slots=True)
class SourceMember:
    """Where the bytes of a member lie: a whole file, or a byte range of a tar."""

    suffix: str
    url: str
    offset: int
    size: int
    version: FileVersion | None = None
    """Of the whole file, as it was listed: bytes of another are not read. None where nothing can have changed it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceEntry:
    """One sample of a source. A run holds one for every source, so it is kept small."""

    key: str
    path: str
    """Relative to the source root, or `name.tar!key`; printable, so bytes that are no UTF-8 are escaped."""
    size: int
    """Bytes of its members."""
    version: str
    """Changes when a file of it does: its ETag or mtime, and those of its caption files."""
    members: tuple[SourceMember, ...] = ()
    captions: tuple[SourceMember, ...] = ()
    """Text or JSON files that hold its caption; read when the entry is opened."""
    documents: tuple[SourceMember, ...] = ()
    """JSON files beside it that were read when it was listed; they must still be the same when it is opened."""
    name: str | None = None
    """What the sample is called, where that is not the last part of its path."""
    columns: Record = field(default_factory=lambda: NO_COLUMNS)
    """What a list or a tar says of it: `caption` and `meta`."""
    group: str | None = None
    """Entries of one group go into one shard."""
    problem: str | None = None
    """`reason: detail` where it is known beforehand that it cannot be read."""

    @property
    def record(self) -> Record:
        """The record that its sample begins with: `source` and the columns."""
        return {"source": {"path": self.path, "name": self.name or split_url(self.path)[1], "bytes": self.size}, **self.columns}

    @property
    def files(self) -> tuple[SourceMember, ...]:
        """All that is asked for of its store when it is opened and read."""
        return (*self.members, *self.captions, *self.documents)

    @property
    def is_on_web(self) -> bool:
        """Whether a web server has a file of it."""
        return any(scheme_of(file.url) in WEB for file in self.files)

    @property
    def failure(self) -> Failed | None:
        """The fate of an entry with a problem."""
        if self.problem is None:
            return None
        reason, _, detail = self.problem.partition(": ")
        return Failed(reason, detail)

    def identity(self) -> dict[str, Any]:
        """Return what its outcome depends on: everything but where its files lie, which the words of a problem say too."""
        return {
            "key": self.key,
            "path": self.path,
            "size": self.size,
            "version": self.version,
            "members": [_identity(member) for member in self.members],
            "captions": [_identity(caption) for caption in self.captions],
            "name": self.name,
            "columns": dict(self.columns),
            "group": self.group,
            "problem": self.problem and self.problem.partition(": ")[0],
        }


def open_entry(entry: SourceEntry, storage_options: Mapping[str, Any] | None = None) -> Sample:
    """Return the sample with lazy members and its whole record; SourceError where it has a problem or its caption cannot be read.

    SourceChanged where a file of it is not the one that was listed, here or when its members are read.
    """
    if entry.problem is not None:
        raise SourceError(f"{entry.path}: {entry.problem}")
    blobs = [_blob(member, storage_options) for member in entry.members]
    members = _moving([Member(member.suffix, blob) for member, blob in zip(entry.members, blobs, strict=True)])
    record = entry.record
    for document in entry.documents:
        _check_version(document, storage_options)
    for caption in entry.captions:
        what = f"{entry.path}: its caption file {printable(public(caption.url))}"
        text = read_caption(_blob(caption, storage_options), caption.suffix, what)
        if text is not None:
            record = merge_records(record, {"caption": {"text": text}})
            break
    return Sample(key=entry.key, record=record, members={member.role: member for member in members})


def _moving(members: list[Member]) -> list[Member]:
    """Return the members with an animated WebP as the video, where the sample has no other."""
    if any(member.role == "video" for member in members):
        return members
    return [
        Member("video.webp", member.blob) if member.suffix == "webp" and is_animated_webp(member.blob) else member for member in members
    ]


def _blob(member: SourceMember, storage_options: Mapping[str, Any] | None) -> Any:
    folder, name = split_url(member.url)
    return Store(folder, storage_options).blob(name, member.offset, member.size, member.version)


def _check_version(member: SourceMember, storage_options: Mapping[str, Any] | None) -> None:
    folder, name = split_url(member.url)
    if member.version is not None:
        member.version.check(Store(folder, storage_options).version(name), printable(public(member.url)))


def _identity(member: SourceMember) -> dict[str, Any]:
    # Both null: the entry's own version is that of all its files, and a file that was moved is the same.
    return {"suffix": member.suffix, "url": None, "offset": member.offset, "size": member.size, "version": None}
