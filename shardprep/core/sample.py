"""A sample: one key, its record and its members."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from shardprep.core.blob import Blob
from shardprep.core.frames import Frames
from shardprep.core.reads import value_of

Record = Mapping[str, Any]
"""A JSON document: str, int, finite float, bool, None, lists and dicts with string keys."""

VIDEO_SUFFIXES = frozenset("mp4 mov mkv webm avi m4v ts m2ts mpg mpeg flv gif wmv".split())
IMAGE_SUFFIXES = frozenset("jpg jpeg png webp bmp ppm pgm tif tiff".split())
RECORD_SUFFIX = "json"
LABEL_SUFFIXES = frozenset("cls cls2 class count id index inx json jsn text transcript txt".split())
"""Numbers and texts that label a sample, as WebDataset names them: what a suffix such as `objects.json` ends in."""
KEY_PATTERN = re.compile(r"[a-z0-9][a-z0-9_-]*")
_ROLE_BY_SUFFIX = {"txt": "text"} | dict.fromkeys(VIDEO_SUFFIXES, "video") | dict.fromkeys(IMAGE_SUFFIXES, "image")


@dataclass(frozen=True)
class Member:
    """One file of a sample: `KEY.SUFFIX` in the tar. `sha256` (32 hex digits kept) is known once it lay in a shard."""

    suffix: str
    blob: Blob
    crc32: int | None = None
    sha256: str | None = None

    @property
    def role(self) -> str:
        return role_of(self.suffix)


@dataclass(frozen=True)
class Sample:
    """One key with its record and its members by role; stages return changed copies. What one changes in place is its own copy alone."""

    key: str
    record: Record = field(default_factory=dict)
    members: Mapping[str, Member] = field(default_factory=dict)
    frames: Frames | None = field(default=None, repr=False, compare=False)
    """What the running stage asked for in its `frames`; None for every other stage."""

    def get(self, column: str, default: Any = None) -> Any:
        """Return the value of a column by its dotted name, or `default` where it is absent or null.

        Names are found as in expressions: the exact one, else the only one equal but for case.
        """
        value = value_of(self.record, column.split("."))
        return default if value is None else value

    def with_columns(self, columns: Mapping[str, Any]) -> Sample:
        """Return a copy with columns set by dotted name."""
        record = dict(self.record)
        for name, value in columns.items():
            _set_column(record, name.split("."), value)
        return replace(self, record=record)

    def with_member(self, suffix: str, blob: Blob) -> Sample:
        """Return a copy with the member of this suffix's role set. An unchanged blob keeps its member and checksums."""
        old = self.members.get(role_of(suffix))
        if old is not None and old.suffix == suffix and old.blob is blob:
            return self
        return replace(self, members={**self.members, role_of(suffix): Member(suffix, blob)})


def role_of(suffix: str) -> str:
    """Return the role of a member suffix: `mp4` is the video, `latent.safetensors` the latent, `source.mp4` the source."""
    head, dot, _ = suffix.partition(".")
    return head if dot else _ROLE_BY_SUFFIX.get(suffix, suffix)


def is_label(suffix: str) -> bool:
    """Whether a member labels its sample as a whole; media, arrays and tensors run along the sample and do not."""
    return suffix.rpartition(".")[2] in LABEL_SUFFIXES


def child_key(parent: str, index: int) -> str:
    """Return the key of a child: the parent's and five digits (`a-00003`)."""
    return f"{parent}-{index:05d}"


def flatten(record: Record, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the leaves of a record as (dotted name, value); lists are leaves."""
    for name, value in record.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def merge_records(base: Record, added: Record) -> dict[str, Any]:
    """Return `base` with the leaves of `added` set over it, nested dicts merged."""
    merged = dict(base)
    for name, value in added.items():
        if isinstance(value, Mapping) and isinstance(merged.get(name), Mapping):
            merged[name] = merge_records(merged[name], value)
        else:
            merged[name] = value
    return merged


def _set_column(record: dict[str, Any], path: list[str], value: Any) -> None:
    for part in path[:-1]:
        inner = record.get(part)
        record[part] = dict(inner) if isinstance(inner, Mapping) else {}
        record = record[part]
    record[path[-1]] = value
