"""Verifying a packed set: manifest, index, tars and ledgers must tell one story."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import zip_longest

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from shardprep.core.fingerprint import digest
from shardprep.core.tensors import read_header
from shardprep.errors import ShardError, ShardprepError
from shardprep.gather.manifest import INDEX_FILE, MANIFEST_FILE, Contents, Manifest, dataset_digest, read_contents, read_manifest
from shardprep.shards.join import open_view
from shardprep.shards.ledger import Ledger, PlacedTensor
from shardprep.shards.names import DIGESTS_FILE, LEDGERS, SET_FILE, parse_ledger_name
from shardprep.shards.set import ShardSet, read_info, relative_url
from shardprep.shards.store import Store
from shardprep.shards.verify import Problem, sha256_of, verify_ledger

_REMEDY = "Delete manifest.json and run the recipe again"
_REMOVE = "Remove it"


def verify_packed(url: str, storage_options: Mapping[str, object] | None = None) -> Iterator[Problem]:
    """Yield what is wrong with a packed set."""
    store = Store(url, storage_options)
    ledgers = store.at(LEDGERS)
    try:
        manifest = read_manifest(store)
    except ShardError as error:
        yield Problem(f"{url}/{MANIFEST_FILE}", str(error), _REMEDY)
        return
    if manifest is None:
        yield Problem(url, f"it has no {MANIFEST_FILE}: packing did not end", "Run the recipe again")
        return
    names = {parsed.shard: name for name in ledgers.names() if (parsed := parse_ledger_name(name))}
    yield from _unlisted(store, manifest, set(names.values()))
    whole: list[Contents] = []
    for shard in manifest.shards:
        problems, contents = _shard(store, names.get(shard.name.removesuffix(".tar")), shard.name)
        yield from problems
        if contents is not None:
            whole.append(contents)
            if contents.tar != shard:
                yield Problem(f"{url}/{shard.name}", "manifest and ledger disagree about it", _REMEDY)
    if len(whole) == len(manifest.shards):
        yield from _totals(store, manifest, whole)
        yield from _index(store, manifest, whole)
    yield from _parents(store, manifest, storage_options)


def _unlisted(store: Store, manifest: Manifest, ledgers: set[str]) -> Iterator[Problem]:
    needed = {shard.name for shard in manifest.shards} | {MANIFEST_FILE, INDEX_FILE, SET_FILE, f"{LEDGERS}/{DIGESTS_FILE}"}
    needed |= {f"{LEDGERS}/{name}" for name in ledgers}
    for file in store.walk():
        if file.name not in needed:
            yield Problem(f"{store.url}/{file.name}", "nothing in the manifest needs this file", _REMOVE)
    listed = {shard.name.removesuffix(".tar") for shard in manifest.shards}
    for name in sorted(ledgers):
        parsed = parse_ledger_name(name)
        if parsed and parsed.shard not in listed:
            yield Problem(f"{store.url}/{LEDGERS}/{name}", "the manifest lists no shard of this ledger", _REMOVE)


def _shard(store: Store, name: str | None, tar: str) -> tuple[list[Problem], Contents | None]:
    """Return what is wrong with one shard, and what its ledger says where that can be read."""
    where = f"{store.url}/{tar}"
    if name is None:
        return [Problem(where, "it has no ledger", _REMEDY)], None
    ledgers = ShardSet(store.at(LEDGERS), ShardSet.open(store).info)
    problems: list[Problem] = []
    contents = None
    try:
        contents = read_contents(ledgers.store, name)
        ledger = ledgers.ledger(name)
        problems += verify_ledger(store, ledger, where, name)
        if not problems:
            problems += _tensors(store, ledger, where)
    except ShardprepError as error:
        problems.append(Problem(where, str(error), _REMEDY))
    return problems, contents


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
            yield Problem(where, f"the tensors of {row.key} are not those that its ledger lists", _REMEDY)


def _totals(store: Store, manifest: Manifest, shards: list[Contents]) -> Iterator[Problem]:
    """What the manifest says of the whole is the sum of what the ledgers say."""
    facts = {
        "num_samples": (manifest.num_samples, sum(shard.tar.num_samples for shard in shards)),
        "members": (set(manifest.members), set().union(*(shard.suffixes for shard in shards))),
        "random_models": (set(manifest.random_models), set().union(*(shard.random_models for shard in shards))),
        "buckets": (set(manifest.buckets), {shard.tar.bucket for shard in shards}),
        "dataset_digest": (manifest.dataset_digest, dataset_digest([shard.tar for shard in shards], manifest.index["sha256"])),
    }
    for name, (said, found) in facts.items():
        if said != found:
            yield Problem(f"{store.url}/{MANIFEST_FILE}", f"its {name} is {said}, the shards say {found}", _REMEDY)
    info = read_info(store)
    names = tuple(shard.tar.name.removesuffix(".tar") for shard in shards)
    if info is not None and tuple(sorted(info.shards)) != tuple(sorted(names)):
        yield Problem(f"{store.url}/{SET_FILE}", "it lists other shards than the manifest", _REMEDY)
    keys = pa.concat_tables([shard.index.select(["key"]) for shard in shards])["key"] if shards else pa.chunked_array([[]], pa.string())
    if pc.count_distinct(keys).as_py() < len(keys):
        yield Problem(store.url, "a key occurs twice", _REMEDY)


def _index(store: Store, manifest: Manifest, shards: list[Contents]) -> Iterator[Problem]:
    """The index has a row group per shard with what the shard's ledger says."""
    where = f"{store.url}/{INDEX_FILE}"
    if store.size(INDEX_FILE) is None:
        yield Problem(where, "it is missing", _REMEDY)
        return
    blob = store.blob(INDEX_FILE)
    if (blob.size, sha256_of(blob)) != (manifest.index["size"], manifest.index["sha256"]):
        yield Problem(where, "its bytes do not have the sha256 that the manifest says", _REMEDY)
        return
    with blob.open() as file:
        index = pq.ParquetFile(file)
        groups = (index.read_row_group(number, use_threads=False) for number in range(index.num_row_groups))
        expected = (shard.index for shard in shards if len(shard.index))
        if any(found is None or wanted is None or not found.equals(wanted) for found, wanted in zip_longest(groups, expected)):
            yield Problem(where, "its rows are not those of the ledgers", _REMEDY)


def _parents(store: Store, manifest: Manifest, storage_options: Mapping[str, object] | None) -> Iterator[Problem]:
    """The set was made from its parents as they are; a packed set may stand alone, without them."""
    info = read_info(store)
    if info is None or not info.parents:
        return
    parent = relative_url(store.url, info.parents[-1])
    try:
        if read_info(Store(parent, storage_options)) is None:
            return
        view = open_view(parent, storage_options)
        inputs = {shard: [at.digest for at in view.chain(shard)] for shard in view.shards}
    except ShardprepError as error:
        yield Problem(store.url, str(error), "Run the recipe again")
        return
    if digest([info.step_fingerprint, inputs]) != manifest.fingerprint:
        yield Problem(store.url, f"it was packed from another {parent} than the one that is there", "Run the recipe again")
