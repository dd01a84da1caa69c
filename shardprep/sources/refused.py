"""Whether a store refuses everything, which stops a run, or one file only, which is that sample's fault."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from shardprep.errors import Forbidden, StoreError
from shardprep.shards.store import Store
from shardprep.sources.entry import SourceEntry, SourceMember
from shardprep.sources.places import is_public, is_url, split_url, store_of

_PER_STORE = 8
"""Files of a store that are asked before it is said to refuse everything."""


@dataclass(frozen=True, kw_only=True)
class Witnesses:
    """Files that are asked where one of their store is refused: if one of them can be read, the store does not refuse everything."""

    of_store: Mapping[str, Sequence[SourceMember]] = field(default_factory=dict)
    is_only_store: bool = False
    """Whether the source lies in one store, so that a file which has it for itself stands for all."""


def find_witnesses(entries: Iterable[SourceEntry]) -> Witnesses:
    """Return some files of every store of a source, from its beginning to its end."""
    held: dict[str, list[SourceMember]] = {}
    for entry in entries:
        for member in entry.members if entry.problem is None else ():
            if member.size:
                held.setdefault(store_of(member.url), []).append(member)
    spread = {store: members[:: -(-len(members) // _PER_STORE)] for store, members in held.items()}
    return Witnesses(of_store=spread, is_only_store=len(held) == 1)


def witnesses_for(entries: Iterable[SourceEntry], found: Witnesses) -> Witnesses:
    """Return the witnesses of the stores that these entries lie in."""
    stores = {store_of(file.url) for entry in entries for file in entry.files}
    of_store = {store: members for store, members in found.of_store.items() if store in stores}
    return Witnesses(of_store=of_store, is_only_store=found.is_only_store)


def check_store(entry: SourceEntry, refusal: Forbidden, witnesses: Witnesses, storage_options: Mapping[str, Any] | None) -> None:
    """Raise StoreError where the store of a refused entry refuses everything; nothing where the entry alone is refused.

    An address that anybody may read has no credentials that could be mended: of several web servers one may refuse all.
    """
    own = {file.url for file in entry.files}
    # What was fetched beforehand is read from its copy, which no store refuses.
    own = {url for url in own if is_url(url)} or own
    if is_public(own, storage_options) and not witnesses.is_only_store:
        return
    store = store_of(min(own))
    others = [member for member in witnesses.of_store.get(store, ()) if member.url not in own]
    is_alone = not others and not witnesses.is_only_store
    if refusal.is_of_credentials or not (is_alone or any(_is_readable(other, storage_options) for other in others)):
        raise StoreError(everything_refused(store, refusal)) from refusal


def everything_refused(store: str, refusal: Exception) -> str:
    """Return the message of a run that stops because a store refuses everything."""
    if isinstance(refusal, Forbidden) and refusal.is_of_credentials:
        # They may have been good for the files before.
        what = "refuses the credentials, now at least"
    else:
        what = "refuses every file of the source that it was asked for"
    return (
        f"{store} {what}, so no sample is blamed: {refusal}. "
        "Mend the access (credentials, signed addresses, owner and mode) and run again; what was committed stays"
    )


def _is_readable(member: SourceMember, storage_options: Mapping[str, Any] | None) -> bool:
    """Whether the store gives a byte of a file, or says that it is not there: only to those it knows does it say so."""
    folder, name = split_url(member.url)
    try:
        with Store(folder, storage_options).blob(name, member.offset, 1).open() as file:
            file.read(1)
    except Forbidden:
        return False
    except StoreError:
        return True
    return True
