"""What foreign tars hold: their samples and where the members lie, walked once and kept as JSON until a tar changes."""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from shardprep.core.fingerprint import digest
from shardprep.core.sample import RECORD_SUFFIX, role_of
from shardprep.core.version import FileVersion
from shardprep.errors import ShardError, SourceChanged, SourceError, StoreError
from shardprep.shards.store import Store, StoredFile
from shardprep.shards.tar import TarMember, index_tar
from shardprep.sources.captions import read_object
from shardprep.sources.columns import shape_problem
from shardprep.sources.keys import printable
from shardprep.sources.places import public, split_url

PICKLE_SUFFIXES = frozenset("pyd pkl pickle pth pt joblib dill".split())
TEXT_SUFFIX = "txt"
_SUFFIX = re.compile(r"[a-z0-9_+-]+(\.[a-z0-9_+-]+)*")
_DOCUMENTS = "documents.json.z"
_FILES_AT_ONCE = 16
_FORMAT = 5
"""Raised where a tar or a JSON file is read in another way, so that what was kept is not used."""
_SEAL_BYTES = 32


@dataclass(frozen=True, slots=True)
class TarPlace:
    """A member of a tar; `suffix` in lower case."""

    suffix: str
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class TarSample:
    """A sample of a tar. An empty key stands for the damage that ends the tar."""

    key: str
    places: tuple[TarPlace, ...] = ()
    document: Mapping[str, Any] | None = None
    """What its JSON member holds."""
    problem: str | None = None
    """`reason: detail` where it cannot be carried."""


@dataclass(frozen=True, slots=True)
class TarContents:
    """What a tar holds: its samples, the number of files that belong to no sample, and the first of these."""

    samples: Sequence[TarSample]
    num_left: int = 0
    first_left: str = ""


class TarIndexes:
    """What was read of a source's tars and JSON files, kept in a folder beside the raw shards.

    Of a file whose size and version are the same nothing is read again.
    """

    def __init__(self, store: Store | None = None) -> None:
        """Without a store every tar is read."""
        self._store = store
        self._new: dict[str, bytes] = {}
        self._used: set[str] = set()

    @cached_property
    def _there(self) -> Mapping[str, int]:
        """What is kept so far; not listed where the source has neither tars nor JSON files."""
        return self._store.names() if self._store else {}

    def contents(self, url: str, file: StoredFile, name: str, storage_options: Mapping[str, Any] | None = None) -> TarContents:
        """Return what a tar holds; `name` is for messages, printable. Safe to call from several threads.

        SourceChanged where it is no longer `file` while it is read; then nothing of it is kept.
        """
        kept = f"{digest([_FORMAT, printable(public(url)), name, file.size, file.version])[:16]}.json.z"
        self._used.add(kept)
        if (contents := self._read(kept)) is None:
            folder, base = split_url(url)
            left: list[str] = []
            samples = list(read_tar(Store(folder, storage_options), base, file.seen, name, left.append))
            contents = TarContents(samples, len(left), left[0] if left else "")
            data = {"samples": [_to_json(sample) for sample in samples], "left": [contents.num_left, contents.first_left]}
            self._new[kept] = _sealed(kept, zlib.compress(json.dumps(data).encode()))
        return contents

    def documents(self, files: Mapping[str, StoredFile], read: Callable[[str, StoredFile], Any]) -> dict[str, Any]:
        """Return what `read` makes of each JSON file by URL: `{"document": …}`, which is kept, or `{"problem": …}`, which is not."""
        if not files:
            return {}
        self._used.add(_DOCUMENTS)
        before = self._read_documents()
        names = {url: f"{_FORMAT}|{printable(public(url))}|{file.size}|{file.version}" for url, file in files.items()}
        new = [url for url in files if names[url] not in before]
        with ThreadPoolExecutor(_FILES_AT_ONCE) as threads:
            now = dict(zip(new, threads.map(lambda url: read(url, files[url]), new), strict=True))
        found = {url: now[url] if url in now else before[names[url]] for url in files}
        kept = {names[url]: answer for url, answer in found.items() if "document" in answer}
        if kept.keys() != before.keys():
            self._new[_DOCUMENTS] = _sealed(_DOCUMENTS, zlib.compress(json.dumps(kept).encode()))
        return found

    def _read_documents(self) -> dict[str, Any]:
        if self._store is not None and _DOCUMENTS in self._there:
            with suppress(StoreError, zlib.error, ValueError, RecursionError):
                documents = json.loads(zlib.decompress(_unsealed(_DOCUMENTS, self._store.read(_DOCUMENTS))))
                return documents if isinstance(documents, dict) else {}
        return {}

    def save(self) -> None:
        """Write what was read, and remove what no tar of the source needs any more."""
        if self._store is None or not self._used:
            return
        for name, data in self._new.items():
            self._store.replace_bytes(name, data)
        for name in self._there.keys() - self._used:
            self._store.remove(name)

    def _read(self, name: str) -> TarContents | None:
        if self._store is None or name not in self._there:
            return None
        try:
            data = json.loads(zlib.decompress(_unsealed(name, self._store.read(name))))
            return TarContents([_from_json(sample) for sample in data["samples"]], *data["left"])
        except (StoreError, zlib.error, ValueError, KeyError, TypeError, RecursionError):
            # It is only a cache: damaged, or taken away by another run, it counts as not there.
            return None


def _sealed(name: str, data: bytes) -> bytes:
    """Return the bytes behind the sha256 of the file's name and them: zlib's own checksum passes over bits that it does not read."""
    return hashlib.sha256(name.encode() + data).digest() + data


def _unsealed(name: str, data: bytes) -> bytes:
    if hashlib.sha256(name.encode() + data[_SEAL_BYTES:]).digest() != data[:_SEAL_BYTES]:
        raise ValueError("it was changed after it was written")
    return data[_SEAL_BYTES:]


def damaged_indexes(store: Store) -> list[str]:
    """Return the names of the kept files that were changed after they were written."""
    damaged = []
    for name in store.names():
        with store.unless_gone(name):
            try:
                _unsealed(name, store.read(name))
            except ValueError:
                damaged.append(name)
    return damaged


@dataclass
class _Draft:
    """A sample while its members come."""

    key: str
    members: list[TarMember] = field(default_factory=list)
    document: Mapping[str, Any] | None = None
    problem: str | None = None

    def sample(self) -> TarSample:
        members = () if self.problem else self.members
        return TarSample(self.key, tuple(TarPlace(m.suffix.lower(), m.offset, m.size) for m in members), self.document, self.problem)


def read_tar(store: Store, base: str, seen: FileVersion, name: str, pass_over: Callable[[str], object]) -> Iterator[TarSample]:
    """Yield the samples of a tar, `base` in `store`; one with a problem where a member is refused, and one for the damage that ends it.

    `pass_over` is told the names of files that are no sample's. SourceChanged where it is no longer of the version that was `seen`.
    """
    by_key: dict[str, _Draft] = {}
    damage: str | None = None
    try:
        for member in index_tar(store.blob(base, 0, seen.size, seen), name=name, foreign=True, go_on=True, pass_over=pass_over):
            draft = by_key.setdefault(member.key, _Draft(member.key))
            draft.members.append(member)
            if member.problem is not None:
                draft.problem = draft.problem or f"refused-member: {member.problem}"
    except ShardError as error:
        damage = f"damaged-tar: {error}"
    drafts = list(by_key.values())
    for i, draft in enumerate(drafts):
        if damage and i == len(drafts) - 1:
            # Its other members, such as its caption, may have come after the damage.
            draft.problem = f"{damage}; the sample may lack members"
        else:
            _finish(draft, store, base, seen)
        yield draft.sample()
    if damage:
        yield TarSample("", problem=f"{damage}; what comes after is lost, make the tar again")


def _finish(draft: _Draft, store: Store, base: str, seen: FileVersion) -> None:
    """Read the sample's JSON, and find out whether it can be carried."""
    draft.problem = draft.problem or _problem(draft.members)
    for member in draft.members if draft.problem is None else ():
        if member.suffix.lower() == RECORD_SUFFIX:
            try:
                document = read_object(store.blob(base, member.offset, member.size, seen), printable(member.name))
                if problem := shape_problem(document):
                    raise SourceError(f"{printable(member.name)}: {problem}; make it smaller")
                draft.document = document
            except SourceChanged:
                raise
            except SourceError as error:
                draft.problem = f"bad-json: {error}"


def _problem(members: Sequence[TarMember]) -> str | None:
    suffixes = [member.suffix.lower() for member in members]
    if pickled := [suffix for suffix in suffixes if suffix.rpartition(".")[2] in PICKLE_SUFFIXES]:
        return f"pickle-member: it holds a .{pickled[0]}, and pickles are neither read nor carried; make the tar again without it"
    if odd := [suffix for suffix in suffixes if not _SUFFIX.fullmatch(suffix)]:
        return f"bad-suffix: the suffix {printable(odd[0])!r} cannot be written to a tar; it may hold a-z 0-9 _ + - and dots"
    for suffix, what in ((RECORD_SUFFIX, "metadata"), (TEXT_SUFFIX, "caption")):
        if suffixes.count(suffix) > 1:
            both = " and ".join(printable(member.name) for member in members if member.suffix.lower() == suffix)
            return f"two-members-of-a-role: {both} are both its {what}; a sample has one"
    data = [suffix for suffix in suffixes if suffix not in (RECORD_SUFFIX, TEXT_SUFFIX)]
    roles = [role_of(suffix) for suffix in data]
    if twice := [suffix for suffix, role in zip(data, roles, strict=True) if roles.count(role) > 1]:
        return f"two-members-of-a-role: {' and '.join(twice)} are both its {role_of(twice[0])}; a sample has one"
    return None if data else "no-media: it holds neither a video nor an image nor other data"


def _to_json(sample: TarSample) -> dict[str, Any]:
    places = [[place.suffix, place.offset, place.size] for place in sample.places]
    return {"key": sample.key, "places": places, "document": sample.document, "problem": sample.problem}


def _from_json(data: Mapping[str, Any]) -> TarSample:
    return TarSample(data["key"], tuple(TarPlace(*place) for place in data["places"]), data["document"], data["problem"])
