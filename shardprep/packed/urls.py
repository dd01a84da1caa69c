"""The shards of a packed set in the words of a trainer's configuration: URLs, or brace patterns as webdataset reads them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shardprep.errors import ShardError
from shardprep.packed.packing import Packing, open_packing

# braceexpand gives these a meaning, and webdataset parts several patterns at "::".
_SPECIAL = ("{", "}", "\\", "::")


def shard_urls(url: str, storage_options: Mapping[str, Any] | None = None) -> list[str]:
    """Return the URLs of the training shards of a packed set, in their order; IncompleteSet where it is not whole."""
    return open_packing(url, storage_options).urls()


def brace_pattern(packing: Packing) -> str:
    """Return all shards as one text that webdataset expands: a pattern per bucket, parted by `::`.

    Such as `out/train/0a1b2c3d/b000-{000000..000041}.tar::out/train/0a1b2c3d/b001-000000.tar`.
    """
    folder = packing.store.url.rstrip("/")
    if any(special in folder for special in _SPECIAL):
        raise ShardError(f"{folder}: a path with one of {' '.join(_SPECIAL)} cannot stand in a brace pattern; use --format urls")
    buckets: dict[str, list[str]] = {}
    for tar in packing.manifest.shards:
        buckets.setdefault(tar.bucket, []).append(tar.shard.removeprefix(f"{tar.bucket}-"))
    return "::".join(f"{folder}/{bucket}-{_span(numbers)}.tar" for bucket, numbers in buckets.items())


def describe(packing: Packing) -> dict[str, Any]:
    """Return the packing as plain data: what it is, and each shard with its samples, bytes and bucket."""
    manifest = packing.manifest
    shards = [
        {"url": url, "size": tar.size, "num_samples": tar.num_samples, "bucket": tar.bucket}
        for url, tar in zip(packing.urls(), manifest.shards, strict=True)
    ]
    return {
        "packing": packing.store.url,
        "dataset_digest": manifest.dataset_digest,
        "num_samples": manifest.num_samples,
        "buckets": dict(manifest.buckets),
        "shards": shards,
    }


def _span(numbers: list[str]) -> str:
    # The shards of a bucket are numbered without a gap.
    return numbers[0] if len(numbers) == 1 else f"{{{numbers[0]}..{numbers[-1]}}}"
