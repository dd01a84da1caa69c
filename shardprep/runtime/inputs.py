"""The remote files that a shard is made from, and a task that reads local copies of them instead."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from shardprep.core.reads import roles_of
from shardprep.core.version import FileVersion
from shardprep.runtime.task import ShardTask
from shardprep.shards.join import LedgerAt
from shardprep.sources.entry import SourceMember
from shardprep.sources.places import is_url


@dataclass(frozen=True)
class RemoteFile:
    """A file that is worth copying before its members are read one after the other."""

    url: str
    size: int
    """Bytes; of a foreign tar those up to its last member."""
    options: Mapping[str, Any] | None = field(default=None, repr=False, compare=False)
    """Options of its file system."""
    version: FileVersion | None = None
    """The version that the copy must have."""


def remote_files(task: ShardTask) -> list[RemoteFile]:
    """Return the remote files whose bytes the task reads, most of each."""
    tars = [RemoteFile(_tar_url(at), at.tar_bytes, task.storage_options) for at in _tars_read(task) if at.tar and is_url(at.url)]
    members: dict[str, list[SourceMember]] = {}
    for entry in task.entries:
        for member in entry.members if entry.problem is None else ():
            if is_url(member.url):
                members.setdefault(member.url, []).append(member)
    return tars + [file for url, held in members.items() if (file := _worth_copying(url, held, task.source_options))]


def with_copies(task: ShardTask, copies: Mapping[str, str]) -> dict[str, Any]:
    """Return the fields of the task that differ where it reads the local copies, by URL, instead of the remote files."""
    chain = tuple(replace(at, tar_copy=copies.get(_tar_url(at))) if at.tar else at for at in task.chain)
    entries = tuple(replace(entry, members=tuple(_copied(member, copies) for member in entry.members)) for entry in task.entries)
    return {"chain": chain, "entries": entries}


def _copied(member: SourceMember, copies: Mapping[str, str]) -> SourceMember:
    """Return the member in the copy of its file; the version was checked when the copy was made."""
    return replace(member, url=copies[member.url], version=None) if member.url in copies else member


def _tar_url(at: LedgerAt) -> str:
    return f"{at.url.rstrip('/')}/{at.tar}"


def _tars_read(task: ShardTask) -> Iterator[LedgerAt]:
    """Yield the parts of the chain whose members are read: all where whole samples are written."""
    added = {role for at in task.chain[1:] for role in at.roles}
    for depth, at in enumerate(task.chain):
        if task.is_base or any((role in at.roles) if depth else (role not in added) for role in roles_of(task.reads)):
            yield at


def _worth_copying(url: str, members: list[SourceMember], options: Mapping[str, Any] | None) -> RemoteFile | None:
    """Return the file where its members are at least half of it: of a large tar another shard has the rest."""
    end = max(member.offset + member.size for member in members)
    return RemoteFile(url, end, options, members[0].version) if 2 * sum(member.size for member in members) >= end > 0 else None
