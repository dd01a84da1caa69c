"""The pointer of a packed set: a small document that names the packing that counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from shardprep.errors import ShardError
from shardprep.packed.card import card_text
from shardprep.packed.manifest import REMEDY, Manifest, read_manifest
from shardprep.packed.names import CARD_FILE, MANIFEST_FILE, is_packing_name, packing_name
from shardprep.shards.sealed import read_sealed, write_sealed
from shardprep.shards.store import Store

KIND = "pointer"


@dataclass(frozen=True, kw_only=True)
class Pointer:
    """What `manifest.json` in the folder of the step says; it only ever names a whole packing."""

    step: str
    packing: str
    """The folder of the packing."""
    fingerprint: str
    dataset_digest: str
    manifest_sha256: str
    """sha256 of the packing's own manifest."""
    num_samples: int
    num_shards: int


def read_pointer(store: Store) -> Pointer | None:
    """Return the pointer in the folder of a step, or None where there is none; Damaged where it is so."""
    return read_sealed(store, MANIFEST_FILE, REMEDY, _pointer)


def pointer_to(manifest: Manifest, manifest_sha256: str) -> Pointer:
    """Return the pointer to a whole packing."""
    return Pointer(
        step=manifest.step,
        packing=packing_name(manifest.fingerprint),
        fingerprint=manifest.fingerprint,
        dataset_digest=manifest.dataset_digest,
        manifest_sha256=manifest_sha256,
        num_samples=manifest.num_samples,
        num_shards=len(manifest.shards),
    )


def point(store: Store, manifest: Manifest, manifest_sha256: str) -> None:
    """Make a whole packing the one that counts, and let the dataset card say so.

    The card goes first: a run that is killed between the two leaves a card of a packing that is whole, and `clean` mends
    the card before it takes a packing away, so that a card never names what is not there.
    """
    pointer = pointer_to(manifest, manifest_sha256)
    _write_card(store, manifest)
    if not _says(store, pointer):
        write_sealed(store, MANIFEST_FILE, {"kind": KIND, **asdict(pointer)})
    # Another run may point elsewhere at the same moment: the card follows whoever was last.
    follow_pointer(store)


def follow_pointer(store: Store) -> None:
    """Let the dataset card name the packing that counts, where it names another one."""
    while (last := _pointed_to(store)) is not None and not has_card(store, last):
        _write_card(store, last)


def has_card(store: Store, manifest: Manifest) -> bool:
    """Whether the dataset card is the one of this packing."""
    return store.read_if_there(CARD_FILE) == card_text(manifest)


def _write_card(store: Store, manifest: Manifest) -> None:
    if not has_card(store, manifest):
        store.replace_bytes(CARD_FILE, card_text(manifest))


def _pointed_to(store: Store) -> Manifest | None:
    """Return the manifest of the packing that the pointer names; None where there is none."""
    pointer = read_pointer(store)
    found = read_manifest(store.at(pointer.packing)) if pointer is not None else None
    return found[0] if found is not None else None


def _pointer(values: Mapping[str, Any]) -> Pointer:
    pointer = Pointer(**{name: value for name, value in values.items() if name != "kind"})
    if values["kind"] != KIND or not isinstance(pointer.packing, str) or not is_packing_name(pointer.packing):
        raise ValueError("it names no packing")
    return pointer


def _says(store: Store, pointer: Pointer) -> bool:
    try:
        return read_pointer(store) == pointer
    except ShardError:
        return False
