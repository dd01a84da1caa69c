"""Checksums of a blob's bytes, taken in little memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from zlib_ng import zlib_ng

from shardprep.core.blob import Blob
from shardprep.shards.refusal import refusals

_CHUNK_BYTES = 1 << 20


def sha256_of(blob: Blob) -> str:
    """Return the sha256 of a blob's bytes, 64 hex digits."""
    digest = hashlib.sha256()
    for chunk in _chunks(blob):
        digest.update(chunk)
    return digest.hexdigest()


def crc32_of(blob: Blob) -> int:
    """Return the crc32 of a blob's bytes."""
    value = 0
    for chunk in _chunks(blob):
        value = zlib_ng.crc32(chunk, value)
    return value


def _chunks(blob: Blob) -> Iterator[bytes]:
    with refusals("reading to verify"), blob.open() as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk
