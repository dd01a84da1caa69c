"""Verifying a packed set: pointer, card, and in every packing manifest, index, tars and ledgers must tell one story."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import zip_longest

import pyarrow as pa
import pyarrow.compute as pc

from shardprep.core.tensors import read_header
from shardprep.errors import REPAIR, ShardError, ShardprepError
from shardprep.packed.index import Contents, index_groups, read_contents, read_failed
from shardprep.packed.manifest import Manifest, PackedTar, dataset_digest
from shardprep.packed.names import CARD_FILE, INDEX_FILE, MANIFEST_FILE, by_packing, is_packing_name, packing_name
from shardprep.packed.packing import Packing, current_packing, is_own_folder, whole_packing, why_stale
from shardprep.packed.pointer import has_card, read_pointer
from shardprep.shards.checksums import sha256_of
from shardprep.shards.ledger import Ledger, PlacedTensor, read_ledger
from shardprep.shards.names import LEDGERS, SET_FILE
from shardprep.shards.set import read_info
from shardprep.shards.store import Store
from shardprep.shards.verify import Problem, verify_ledger

_AGAIN = "Run the recipe again"
_REMOVE = "Remove it"


def verify_packed(url: str, storage_options: Mapping[str, object] | None = None) -> Iterator[Problem]:
    """Yield what is wrong with a packed set, older packings included, or with one packing where `url` is its folder.

    Packings that were begun and never came to an end are nobody's, and are passed over.
    """
    store = Store(url, storage_options)
    try:
        if is_own_folder(store):
            yield from _verify_packing(whole_packing(store))
            return
    except ShardprepError as error:
        yield Problem(store.url, str(error), _AGAIN)
        return
    current = None
    try:
        current = current_packing(store)
    except ShardprepError as error:
        yield Problem(store.url, str(error), _AGAIN)
    yield from _verify_step(store, current)
    if current is None:
        return
    yield from _verify_packing(current)
    if stale := why_stale(store, current, storage_options):
        yield Problem(store.url, stale, _AGAIN)
    for older in _older(store, current):
        try:
            yield from _verify_packing(whole_packing(older))
        except ShardprepError as error:
            yield Problem(older.url, str(error), "Remove it with shardprep clean")


def _older(store: Store, current: Packing) -> Iterator[Store]:
    """Yield the folders of the other packings that have a manifest."""
    for name, files in sorted(by_packing(file.name for file in store.walk()).items()):
        if MANIFEST_FILE in files and (older := store.at(name)).url != current.store.url:
            yield older


def _verify_step(store: Store, current: Packing | None) -> Iterator[Problem]:
    """The files in the folder of the step beside the packings."""
    try:
        read_info(store)
        read_pointer(store)
    except ShardError as error:
        yield Problem(store.url, str(error), _AGAIN)
    if current is not None and not has_card(store, current.manifest):
        packing = packing_name(current.manifest.fingerprint)
        yield Problem(f"{store.url}/{CARD_FILE}", f"it is not the card of the packing {packing}", _AGAIN)
    for file in store.walk():
        folder, _, inner = file.name.partition("/")
        if not (inner and is_packing_name(folder)) and file.name not in (SET_FILE, MANIFEST_FILE, CARD_FILE):
            yield Problem(f"{store.url}/{file.name}", "no packing needs this file", _REMOVE)


def _verify_packing(packing: Packing) -> Iterator[Problem]:
    """Read every byte of a packing."""
    store, manifest = packing.store, packing.manifest
    yield from _unlisted(store, manifest)
    whole: list[Contents] = []
    for tar in manifest.shards:
        problems, contents = verify_tar(store, tar)
        yield from problems
        if contents is not None:
            whole.append(contents)
    yield from verify_failed(store, manifest)
    if len(whole) == len(manifest.shards):
        yield from verify_totals(packing, whole)
        yield from verify_index(store, manifest, whole)


def _unlisted(store: Store, manifest: Manifest) -> Iterator[Problem]:
    needed = {MANIFEST_FILE, SET_FILE, *manifest.files(), *(f"{LEDGERS}/{name}" for name in manifest.ledger_files())}
    for file in store.walk():
        if file.name not in needed:
            yield Problem(f"{store.url}/{file.name}", "nothing in the manifest needs this file", _REMOVE)


def verify_tar(store: Store, tar: PackedTar) -> tuple[list[Problem], Contents | None]:
    """Return what is wrong with one shard, and what its ledger says where that can be read; every byte is read."""
    where = f"{store.url}/{tar.name}"
    ledgers = store.at(LEDGERS)
    problems: list[Problem] = []
    contents = None
    try:
        contents = read_contents(ledgers, tar.ledger)
        ledger = read_ledger(ledgers.blob(tar.ledger), f"{ledgers.url}/{tar.ledger}")
        problems += verify_ledger(store, ledger, where, tar.ledger)
        if contents.tar != tar:
            problems.append(Problem(where, "manifest and ledger disagree about it", REPAIR))
        if not problems:
            problems += _tensors(store, ledger, where)
    except ShardprepError as error:
        problems.append(Problem(where, str(error), REPAIR))
    return problems, contents


def verify_failed(store: Store, manifest: Manifest) -> Iterator[Problem]:
    """The ledger of the samples that could not be packed."""
    if manifest.failed is None:
        return
    ledgers = store.at(LEDGERS)
    where = f"{ledgers.url}/{manifest.failed.ledger}"
    try:
        if read_failed(ledgers, manifest.failed.ledger) != manifest.failed:
            yield Problem(where, "manifest and ledger disagree about it", REPAIR)
        ledger = read_ledger(ledgers.blob(manifest.failed.ledger), where)
        yield from verify_ledger(store, ledger, where, manifest.failed.ledger)
    except ShardprepError as error:
        yield Problem(where, str(error), REPAIR)


def _tensors(store: Store, ledger: Ledger, where: str) -> Iterator[Problem]:
    """The tensors that the ledger lists are those in the headers of the tar's members."""
    tar = ledger.footer.tar
    assert tar is not None, "read_contents refuses a packed ledger without a tar"
    for row in ledger.outputs:
        found = []
        for member in row.members:
            if member.suffix.endswith(".safetensors"):
                role = member.suffix.partition(".")[0]
                for name, tensor in read_header(store.blob(tar.name, member.offset, member.size)).items():
                    place = {"offset": member.offset + tensor.start, "num_bytes": tensor.end - tensor.start}
                    found.append(PlacedTensor(name=f"{role}/{name}", dtype=tensor.dtype, shape=tensor.shape, **place))
        if tuple(found) != row.tensors:
            yield Problem(where, f"the tensors of {row.key} are not those that its ledger lists", REPAIR)


def verify_totals(packing: Packing, shards: list[Contents]) -> Iterator[Problem]:
    """What the manifest says of the whole is the sum of what the ledgers say."""
    store, manifest = packing.store, packing.manifest
    facts = {
        "num_samples": (manifest.num_samples, sum(shard.tar.num_samples for shard in shards)),
        "members": (set(manifest.members), set().union(*(shard.suffixes for shard in shards))),
        "random_models": (set(manifest.random_models), set().union(*(shard.random_models for shard in shards))),
        "buckets": (set(manifest.buckets), {shard.tar.bucket for shard in shards}),
        "dataset_digest": (manifest.dataset_digest, dataset_digest([shard.tar for shard in shards], manifest.index.sha256)),
    }
    for name, (said, found) in facts.items():
        if said != found:
            yield Problem(f"{store.url}/{MANIFEST_FILE}", f"its {name} is {said}, the shards say {found}", REPAIR)
    keys = pa.concat_tables([shard.index.select(["key"]) for shard in shards])["key"] if shards else pa.chunked_array([[]], pa.string())
    if pc.count_distinct(keys).as_py() < len(keys):
        yield Problem(store.url, "a key occurs twice", REPAIR)


def verify_index(store: Store, manifest: Manifest, shards: list[Contents]) -> Iterator[Problem]:
    """The index has a row group per shard with what the shard's ledger says."""
    where = f"{store.url}/{INDEX_FILE}"
    if sha256_of(store.blob(INDEX_FILE)) != manifest.index.sha256:
        yield Problem(where, "its bytes do not have the sha256 that the manifest says", REPAIR)
        return
    expected = (shard.index for shard in shards if len(shard.index))
    groups = index_groups(store)
    if any(found is None or wanted is None or not found.equals(wanted) for found, wanted in zip_longest(groups, expected)):
        yield Problem(where, "its rows are not those of the ledgers", REPAIR)
