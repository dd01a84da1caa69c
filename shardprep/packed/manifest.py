"""The manifest of a packing: all that a loader opens besides the index and the tars."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from shardprep.core.fingerprint import digest
from shardprep.core.sample import RECORD_SUFFIX
from shardprep.packed.names import FAILED_SHARD, MANIFEST_FILE
from shardprep.shards.sealed import create_sealed, unseal
from shardprep.shards.set import Committed
from shardprep.shards.store import Store

KIND = "packing"
"""The field `kind` tells a manifest from the pointer of the same file name."""
REMEDY = "Run the recipe again: it is written anew, and no training shard is made again"
"""What mends a damaged manifest, or the pointer to it."""


@dataclass(frozen=True, kw_only=True)
class PackedTar:
    """One training shard."""

    name: str
    size: int
    sha256: str
    num_samples: int
    bucket: str
    ledger: str
    ledger_size: int
    digest: str
    """The digest of the shard, as its ledger says it."""

    @property
    def shard(self) -> str:
        return self.name.removesuffix(".tar")


@dataclass(frozen=True, kw_only=True)
class FailedSamples:
    """The ledger of the samples that could not be packed."""

    ledger: str
    ledger_size: int
    digest: str
    reasons: Mapping[str, int]
    """How many samples failed, by reason."""


@dataclass(frozen=True, kw_only=True)
class IndexFile:
    """The index as it was written."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a packing holds; written last, so that a packing with a manifest is whole."""

    step: str
    step_fingerprint: str
    fingerprint: str
    """Digest of everything that the packing was made from."""
    dataset_digest: str
    """Digest of what it holds: the names and sha256 of its tars and of its index."""
    shards: tuple[PackedTar, ...]
    buckets: Mapping[str, Any]
    """What all samples of a bucket have in common, by its name: media suffixes, tensors with dtype and shape, width and height, values."""
    index: IndexFile
    num_samples: int
    members: tuple[str, ...]
    """Suffixes of the members of a sample, over all shards."""
    random_models: tuple[str, ...] = ()
    """Scorers and encoders whose weights were random: their numbers mean nothing."""
    failed: FailedSamples | None = None

    def files(self) -> dict[str, int]:
        """Return the sizes of the tars and of the index, by name."""
        return {self.index.name: self.index.size} | {tar.name: tar.size for tar in self.shards}

    def kinds(self) -> dict[str, tuple[str, ...]]:
        """Return the buckets of each kind of sample; samples are of one kind where the same members cannot stand empty in them.

        A kind is called by the suffixes of these members, such as `mp4` or `cls+jpg`; `json`, the record, where there are none.
        Within a kind all samples have the same members and columns.
        """
        found: dict[str, dict[str, None]] = {}
        for tar in self.shards:
            found.setdefault("+".join(self.buckets[tar.bucket]["media"]) or RECORD_SUFFIX, {})[tar.bucket] = None
        return {kind: tuple(buckets) for kind, buckets in found.items()}

    def ledger_files(self) -> dict[str, int]:
        """Return the sizes of the ledgers, by name."""
        failed = {self.failed.ledger: self.failed.ledger_size} if self.failed else {}
        return failed | {tar.ledger: tar.ledger_size for tar in self.shards}

    def committed(self) -> dict[str, Committed]:
        """Return what is known of the ledgers by shard, without opening any; that of the failed samples last."""
        found = {}
        for tar in self.shards:
            counts = {"input.kept": tar.num_samples, "output.kept": tar.num_samples}
            found[tar.shard] = self._committed(tar.ledger, tar.digest, counts, tar)
        if self.failed:
            reasons = {f"input.failed:{reason}": count for reason, count in self.failed.reasons.items()}
            counts = {"input.failed": sum(self.failed.reasons.values()), **reasons}
            found[FAILED_SHARD] = self._committed(self.failed.ledger, self.failed.digest, counts, None)
        return found

    def _committed(self, ledger: str, shard_digest: str, counts: Mapping[str, int], tar: PackedTar | None) -> Committed:
        return Committed(
            ledger=ledger,
            digest=shard_digest,
            tar=tar.name if tar else None,
            fingerprint=self.fingerprint,
            step_fingerprint=self.step_fingerprint,
            counts=counts,
            tar_bytes=tar.size if tar else 0,
        )


def read_manifest(store: Store) -> tuple[Manifest, str] | None:
    """Return the manifest in the folder of a packing and the sha256 of its bytes, or None where there is none; Damaged where it is so."""
    data = None
    with store.unless_gone(MANIFEST_FILE):
        data = store.read(MANIFEST_FILE)
    if data is None:
        return None
    where = f"{store.url}/{MANIFEST_FILE}"
    return unseal(data, where, REMEDY, _manifest), hashlib.sha256(data).hexdigest()


def create_manifest(store: Store, manifest: Manifest) -> bool:
    """Write the manifest, which makes the packing whole; False where one is there already."""
    return create_sealed(store, MANIFEST_FILE, {"kind": KIND, **asdict(manifest)})


def dataset_digest(tars: list[PackedTar], index_sha256: str) -> str:
    """Return the digest of what a packing holds."""
    return digest([[tar.name, tar.sha256] for tar in tars] + [index_sha256])


def _manifest(values: Mapping[str, Any]) -> Manifest:
    if values["kind"] != KIND:
        raise ValueError(f"kind is {values['kind']!r}")
    plain = {name: value for name, value in values.items() if name != "kind"}
    shards = tuple(PackedTar(**shard) for shard in plain["shards"])
    failed = FailedSamples(**plain["failed"]) if plain["failed"] else None
    lists = {name: tuple(plain[name]) for name in ("members", "random_models")}
    manifest = Manifest(**{**plain, **lists, "shards": shards, "failed": failed, "index": IndexFile(**plain["index"])})
    manifest.kinds()
    return manifest
