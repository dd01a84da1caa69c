"""Samples of existing WebDataset tars become entries: members by byte range, JSON as metadata, text as caption."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from shardprep.core.blob import Blob
from shardprep.core.sample import RECORD_SUFFIX, role_of
from shardprep.errors import ShardError, SourceError
from shardprep.shards.local import ABSENT
from shardprep.shards.store import Store, StoredFile
from shardprep.shards.tar import TarMember, index_tar
from shardprep.sources.captions import caption_of, read_object
from shardprep.sources.columns import as_text, columns_of, look_up, typed_columns
from shardprep.sources.entry import SourceEntry, SourceMember
from shardprep.sources.find import UNREACHABLE, find
from shardprep.sources.keys import printable, source_key
from shardprep.sources.places import public, relative, split_url, suffix_of
from shardprep.sources.spec import SourceSpec

PICKLE_SUFFIXES = frozenset("pyd pkl pickle pth pt joblib dill".split())
TEXT_SUFFIX = "txt"
_SUFFIX = re.compile(r"[a-z0-9_+-]+(\.[a-z0-9_+-]+)*")


@dataclass
class _Draft:
    """A sample of a tar while its members come."""

    tar: str
    url: str
    file: StoredFile
    key: str
    members: list[TarMember] = field(default_factory=list)
    document: dict[str, Any] | None = None
    problem: str | None = None

    @property
    def suffixes(self) -> set[str]:
        return {member.suffix.lower() for member in self.members}


def list_tars(spec: SourceSpec, exclude: Sequence[str] = ()) -> list[SourceEntry]:
    """Return an entry per sample; one with a problem where a member of it is refused, and one for the damage that ends a tar."""
    found = find(spec.locations, {"tar"}, exclude, spec.storage_options)
    if not found.files:
        raise SourceError(f"source {', '.join(spec.locations)!r} (looked in {found.root}): there is no .tar file")
    if missing := [public(url) for url, file in found.files.items() if file.version in (ABSENT, UNREACHABLE)]:
        raise SourceError(f"{len(missing)} of {len(found.files)} tars are not there, e.g. {missing[0]}; check the names in source.shards")
    if other := [public(url) for url in found.files if suffix_of(url) != "tar"]:
        raise SourceError(f"source {other[0]!r} does not end in .tar; unpack what is compressed: samples are read from where they lie")
    drafts: list[_Draft] = []
    for url, file in found.files.items():
        folder, name = split_url(url)
        blob = Store(folder, spec.storage_options).blob(name, 0, file.size)
        drafts += _read_tar(blob, relative(public(url), found.root), url, file, spec)
    metas = typed_columns([_metadata(spec, draft) for draft in drafts])
    return [_entry(spec, draft, meta) for draft, meta in zip(drafts, metas, strict=True)]


def _read_tar(blob: Blob, tar: str, url: str, file: StoredFile, spec: SourceSpec) -> Iterator[_Draft]:
    by_key: dict[str, _Draft] = {}
    damage: str | None = None
    try:
        for member in index_tar(blob, name=printable(tar), foreign=True, go_on=True):
            draft = by_key.setdefault(member.key, _Draft(tar, url, file, member.key))
            draft.members.append(member)
            if member.problem is not None:
                draft.problem = draft.problem or f"refused-member: {member.problem}"
    except ShardError as error:
        damage = f"damaged-tar: {error}"
    drafts = list(by_key.values())
    for i, draft in enumerate(drafts):
        if damage and i == len(drafts) - 1 and not (i and draft.suffixes >= drafts[i - 1].suffixes):
            # its other members may have come after the damage
            draft.problem = f"{damage}; the sample may lack members"
            yield draft
        else:
            yield _finished(draft, spec)
    if damage:
        yield _Draft(tar, url, file, "", problem=f"{damage}; what comes after is lost, make the tar again")


def _finished(draft: _Draft, spec: SourceSpec) -> _Draft:
    draft.problem = draft.problem or _problem(draft)
    for member in draft.members if draft.problem is None else ():
        if member.suffix.lower() == RECORD_SUFFIX:
            folder, name = split_url(draft.url)
            blob = Store(folder, spec.storage_options).blob(name, member.offset, member.size)
            try:
                draft.document = read_object(blob, printable(member.name))
            except SourceError as error:
                draft.problem = f"bad-json: {error}"
    return draft


def _problem(draft: _Draft) -> str | None:
    suffixes = [member.suffix.lower() for member in draft.members]
    if pickled := [suffix for suffix in suffixes if suffix.rpartition(".")[2] in PICKLE_SUFFIXES]:
        return f"pickle-member: it holds a .{pickled[0]}, and pickles are neither read nor carried; make the tar again without it"
    if odd := [suffix for suffix in suffixes if not _SUFFIX.fullmatch(suffix)]:
        return f"bad-suffix: the suffix {printable(odd[0])!r} cannot be written to a tar; it may hold a-z 0-9 _ + - and dots"
    data = [suffix for suffix in suffixes if suffix not in (RECORD_SUFFIX, TEXT_SUFFIX)]
    roles = [role_of(suffix) for suffix in data]
    if twice := [suffix for suffix, role in zip(data, roles, strict=True) if roles.count(role) > 1]:
        return f"two-members-of-a-role: {' and '.join(twice)} are both its {role_of(twice[0])}; a sample has one"
    return None if data else "no-media: it holds neither a video nor an image nor other data"


def _metadata(spec: SourceSpec, draft: _Draft) -> Mapping[str, Any]:
    document = draft.document or {}
    return {new: look_up(document, column) for new, column in spec.columns.items()} if spec.columns is not None else document


def _entry(spec: SourceSpec, draft: _Draft, meta: Mapping[str, Any]) -> SourceEntry:
    path = f"{draft.tar}!{draft.key}" if draft.key else draft.tar
    name = draft.key.rpartition("/")[2] or split_url(draft.tar)[1]
    kept = () if draft.problem else draft.members
    places = [SourceMember(member.suffix.lower(), draft.url, member.offset, member.size) for member in kept]
    members = tuple(place for place in places if place.suffix not in (RECORD_SUFFIX, TEXT_SUFFIX))
    document = draft.document or {}
    text = as_text(look_up(document, spec.text_column)) if spec.text_column else caption_of(document)
    return SourceEntry(
        key=source_key(path, name),
        path=printable(path),
        size=sum(member.size for member in members),
        version=draft.file.version,
        members=members,
        captions=tuple(place for place in places if place.suffix == TEXT_SUFFIX and not spec.text_column),
        name=printable(name),
        columns=columns_of(text, meta),
        problem=draft.problem,
    )
