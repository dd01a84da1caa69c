"""The members of a sample from a source: where they cannot be read, that is the sample's fault and not the output's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import BinaryIO

from shardprep.core.blob import Blob
from shardprep.core.sample import Sample
from shardprep.errors import Forbidden, ShardError, SourceChanged, StoreError, Unavailable

_Errors = tuple[type[Exception], ...]


class SourceUnreadable(Exception):
    """A source could not be read while it was copied, and why: the reason of its sample's failure."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.reason = unreadable_reason(error)


def unreadable_reason(error: Exception) -> str:
    """Return the reason of the failure of a sample whose source raised this."""
    return "source-changed" if isinstance(error, SourceChanged) else "unreadable"


Check = Callable[[Forbidden], None]


def guarded(sample: Sample, check_store: Check, *, if_unavailable: bool = False) -> Sample:
    """Return a sample from a source whose members raise SourceUnreadable where they cannot be read, `if_unavailable` for now too.

    `check_store` is asked first where access is refused; it raises StoreError where that is not this sample's fault.
    """
    guard = _Guard((OSError, StoreError, ShardError, SourceChanged, *([Unavailable] if if_unavailable else [])), check_store)
    members = {role: replace(m, blob=_GuardedBlob(m.blob, guard)) for role, m in sample.members.items()}
    return replace(sample, members=members)


class _GuardedBlob:
    """A blob whose errors are its sample's fault, not the output's."""

    def __init__(self, blob: Blob, guard: _Guard) -> None:
        self._blob, self._guard = blob, guard

    @property
    def size(self) -> int:
        return self._blob.size

    def open(self) -> BinaryIO:
        with self._guard.blaming():
            return _GuardedFile(self._blob.open(), self._guard)  # type: ignore[return-value]  # the tar writer only reads and closes


class _GuardedFile:
    def __init__(self, file: BinaryIO, guard: _Guard) -> None:
        self._file, self._guard = file, guard

    def __enter__(self) -> _GuardedFile:
        return self

    def __exit__(self, *_: object) -> None:
        with self._guard.blaming():
            self._file.close()

    def readinto(self, buffer: bytearray | memoryview) -> int:
        with self._guard.blaming():
            return self._file.readinto(buffer)  # type: ignore[attr-defined,no-any-return]  # BinaryIO lacks it, every reader here has it


@dataclass(frozen=True)
class _Guard:
    blamed: _Errors
    check_store: Check

    @contextmanager
    def blaming(self) -> Iterator[None]:
        try:
            yield
        except self.blamed as error:
            if isinstance(error, Forbidden):
                self.check_store(error)
            raise SourceUnreadable(error) from error
