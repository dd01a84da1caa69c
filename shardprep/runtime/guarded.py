"""The members of a sample from a source: where they cannot be read, that is the sample's fault and not the output's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import BinaryIO

from shardprep.core.blob import Blob
from shardprep.core.sample import Sample
from shardprep.errors import ShardError, StoreError, Unavailable

_Errors = tuple[type[Exception], ...]


class SourceUnreadable(Exception):
    """A source could not be read while it was copied."""


def guarded(sample: Sample, *, if_unavailable: bool = False) -> Sample:
    """Return a sample from a source whose members raise SourceUnreadable where they cannot be read, `if_unavailable` for now too."""
    blamed = (OSError, StoreError, ShardError, *([Unavailable] if if_unavailable else []))
    members = {role: replace(m, blob=_GuardedBlob(m.blob, blamed)) for role, m in sample.members.items()}
    return replace(sample, members=members)


class _GuardedBlob:
    """A blob whose errors are its sample's fault, not the output's."""

    def __init__(self, blob: Blob, blamed: _Errors) -> None:
        self._blob, self._blamed = blob, blamed

    @property
    def size(self) -> int:
        return self._blob.size

    def open(self) -> BinaryIO:
        with _blaming(self._blamed):
            return _GuardedFile(self._blob.open(), self._blamed)  # type: ignore[return-value]  # the tar writer only reads and closes


class _GuardedFile:
    def __init__(self, file: BinaryIO, blamed: _Errors) -> None:
        self._file, self._blamed = file, blamed

    def __enter__(self) -> _GuardedFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def readinto(self, buffer: bytearray | memoryview) -> int:
        with _blaming(self._blamed):
            return self._file.readinto(buffer)  # type: ignore[attr-defined,no-any-return]  # BinaryIO lacks it, every reader here has it


@contextmanager
def _blaming(blamed: _Errors) -> Iterator[None]:
    try:
        yield
    except blamed as error:
        raise SourceUnreadable(str(error)) from error
