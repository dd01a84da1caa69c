"""A whole packing, and the one way to it from the folder of a packed set: pointer, manifest, every file that it lists."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from shardprep.core.fingerprint import shard_fingerprint
from shardprep.core.quantity import are
from shardprep.errors import Damaged, IncompleteSet, ShardError, ShardprepError
from shardprep.packed.manifest import KIND, Manifest, read_manifest
from shardprep.packed.names import MANIFEST_FILE, is_packing_name
from shardprep.packed.pointer import pointer_to, read_pointer
from shardprep.shards.join import open_view
from shardprep.shards.lineage import left_remedy, stand
from shardprep.shards.names import LEDGERS, SET_FILE, set_name
from shardprep.shards.sealed import read_sealed
from shardprep.shards.set import SetInfo, ShardSet, read_info, relative_url
from shardprep.shards.store import Store

_AGAIN = "Run the recipe again"


@dataclass(frozen=True, kw_only=True)
class Packing:
    """A packing of which every file that its manifest lists is there, as large as it was."""

    store: Store
    info: SetInfo
    manifest: Manifest
    manifest_sha256: str

    def ledgers(self) -> ShardSet:
        """Return its ledgers as a set of their own, of which `manifest.committed` says what counts."""
        return ShardSet(self.store.at(LEDGERS), self.info, known=self.manifest.committed().values())

    def urls(self) -> list[str]:
        """Return the URLs of the training shards, in their order."""
        return [f"{self.store.url.rstrip('/')}/{tar.name}" for tar in self.manifest.shards]


def open_packing(url: str, storage_options: Mapping[str, Any] | None = None) -> Packing:
    """Open what a packed set holds: from the folder of its step the packing that counts, or one packing by its own folder.

    IncompleteSet where packing did not end, a file is missing, or the sets that it was packed from have changed since; an
    older packing is whole whatever became of those. ShardError where a document is damaged.
    """
    store = Store(url, storage_options)
    packing = standing_packing(store)
    if stale := why_stale(store, packing, storage_options):
        remedy = left_remedy(store.url) if _was_left(store, storage_options) else _AGAIN
        raise IncompleteSet(f"{store.url}: {stale}. {remedy}, or name the packing itself to read it as it is: {packing.store.url}")
    return packing


def standing_packing(store: Store) -> Packing:
    """Return what `open_packing` does, whatever became of the sets that it was packed from."""
    return whole_packing(store) if is_own_folder(store) else current_packing(store)


def current_packing(store: Store) -> Packing:
    """Return the packing that the pointer in the folder of a step names, whether or not its parents are still the same."""
    pointer = read_pointer(store)
    if pointer is None:
        info = read_info(store)
        if info is None or info.kind != "packed":
            raise ShardError(f"{store.url} is no packed set. Name the folder of a pack step, such as OUT/train")
        raise IncompleteSet(f"{store.url}: there is no {MANIFEST_FILE}: packing did not end. {_AGAIN}")
    packing = whole_packing(store.at(pointer.packing))
    if (info := read_info(store)) is not None and info.shards:
        raise Damaged(f"{store.url}/{SET_FILE} lists shards, as that of a packing does and that of its step does not. {_AGAIN}")
    if pointer != pointer_to(packing.manifest, packing.manifest_sha256):
        raise ShardError(f"{store.url}/{MANIFEST_FILE} describes another {pointer.packing} than the one that is there. {_AGAIN}")
    return packing


def whole_packing(store: Store) -> Packing:
    """Return the packing in a folder; IncompleteSet where it is not whole, ShardError where a document of it is damaged."""
    found = read_manifest(store)
    if found is None:
        raise IncompleteSet(f"{store.url}: there is no {MANIFEST_FILE}: packing did not end. {_AGAIN}")
    manifest, manifest_sha256 = found
    info = read_info(store)
    expected = (manifest.step, manifest.step_fingerprint, set(manifest.committed()))
    if info is None or (info.step, info.step_fingerprint, set(info.shards)) != expected:
        raise IncompleteSet(f"{store.url}: its set.json is missing, or of another packing. {_AGAIN}")
    files, ledgers = store.names(), store.at(LEDGERS).names()
    lacks = [name for name, size in manifest.files().items() if files.get(name) != size]
    lacks += [f"{LEDGERS}/{name}" for name, size in manifest.ledger_files().items() if ledgers.get(name) != size]
    if lacks:
        raise IncompleteSet(f"{store.url}: {len(lacks)} of its files {are(len(lacks))} missing or cut short, first {lacks[0]}. {_AGAIN}")
    return Packing(store=store, info=info, manifest=manifest, manifest_sha256=manifest_sha256)


def why_stale(store: Store, packing: Packing, storage_options: Mapping[str, Any] | None = None) -> str | None:
    """Say how the sets that a packing was made from have changed; None where they did not, or are not there any more.

    None too where `store` is the packing's own folder, not that of the step: then it is read as it is.
    """
    # What the step is made from by now is for the step to say: names of steps change.
    info = read_info(store)
    if info is None or not info.parents or store.url == packing.store.url:
        return None
    parent = relative_url(store.url, info.parents[-1])
    name = info.parents[-1].removeprefix("../")
    try:
        if read_info(Store(parent, storage_options)) is None:
            return None
        view = open_view(parent, storage_options)
        inputs = {shard: [at.digest for at in view.chain(shard)] for shard in view.shards}
    except IncompleteSet as error:
        # Without the way out: whoever asks knows whether a run helps.
        return f"{name}, which it was packed from, is not whole: {stand(parent, storage_options).lacks() or error}"
    except ShardprepError as error:
        return f"{name}, which it was packed from, is not whole ({error})"
    if shard_fingerprint(packing.info.step_fingerprint, inputs) != packing.manifest.fingerprint:
        return f"it was packed from another {name} than the one that is there"
    return None


def _was_left(store: Store, storage_options: Mapping[str, Any] | None) -> bool:
    """Whether the recipe that was run last no longer has the step, as far as that can be known."""
    info = read_info(store)
    with suppress(ShardprepError):
        return info is not None and stand(relative_url(store.url, info.parents[0]), storage_options).says_left(info.step)
    return False


def is_own_folder(store: Store) -> bool:
    """Whether a folder is a packing and not the step that it belongs to."""
    if not is_packing_name(set_name(store.url)):
        return False
    values = read_sealed(store, MANIFEST_FILE, _AGAIN, dict)
    return values is None or values.get("kind") == KIND
