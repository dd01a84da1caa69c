"""Tars for tests: written by our writer, by Python's tarfile, or patched byte by byte, and read through our index."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping

from shardprep.core.blob import BytesBlob
from shardprep.core.sample import Member
from shardprep.shards.tar import Placed, TarDigest, TarWriter, index_tar

Samples = Mapping[str, Mapping[str, bytes]]


def write_tar(samples: Samples) -> tuple[bytes, dict[str, list[Placed]], TarDigest]:
    file = io.BytesIO()
    writer = TarWriter(file)
    placed = {
        key: [writer.add(key, Member(suffix, BytesBlob(data))) for suffix, data in members.items()] for key, members in samples.items()
    }
    digest = writer.close()
    return file.getvalue(), placed, digest


def index(data: bytes, *, foreign: bool = False) -> dict[str, bytes]:
    return {m.name: data[m.offset : m.offset + m.size] for m in index_tar(BytesBlob(data), name="some.tar", foreign=foreign)}


def by_name(samples: Samples) -> dict[str, bytes]:
    return {f"{key}.{suffix}": data for key, members in samples.items() for suffix, data in members.items()}


def headers(name: str, data: bytes = b"x", kind: bytes = tarfile.REGTYPE, form: int = tarfile.USTAR_FORMAT, **fields: object) -> bytes:
    """A member as Python's tarfile writes it, with any fields."""
    info = tarfile.TarInfo(name)
    info.size, info.type = len(data), kind
    for field, value in fields.items():
        setattr(info, field, value)
    return info.tobuf(form) + data + bytes(-len(data) % 512)


END = bytes(1024)


def patched(header: bytes, offset: int, value: bytes) -> bytes:
    """A header with these bytes at this place and a right checksum."""
    block = bytearray(header[:512])
    block[offset : offset + len(value)] = value
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)
