"""Members whose crc32 is checked when they were read to the end, so that bit rot is an error and not a picture."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, cast

from zlib_ng import zlib_ng

from shardprep.core.blob import Blob, FileBlob
from shardprep.errors import REPAIR, ShardError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_BUFFER_BYTES = 1 << 18
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class CheckedBlob:
    """A member of a shard; who has read all of its bytes in order gets ShardError where they are not those that were written."""

    blob: Blob
    crc32: int
    where: str
    """Shard and member, for the message."""

    @property
    def size(self) -> int:
        return self.blob.size

    def open(self) -> BinaryIO:
        return io.BufferedReader(_Reader(self), _BUFFER_BYTES)

    def check(self, beat: Callable[[], None]) -> None:
        """Read a member on a local disk to its end, for readers that skip; ShardError where its bytes are not those that were written.

        A remote member would be transferred twice, so it is checked as far as it is read. `beat` is called for every MiB.
        """
        if not isinstance(self.blob, FileBlob):
            return
        # The stage that reads the member finds this error too, and reports it.
        with suppress(OSError), self.open() as file:
            while file.read(_CHUNK_BYTES):
                beat()


class _Reader(io.RawIOBase):
    """Takes the crc32 of what is read from the front on; what is read elsewhere, or again, is passed through."""

    def __init__(self, checked: CheckedBlob) -> None:
        self._checked = checked
        self._file = checked.blob.open()
        self._position = 0
        self._seen, self._crc32 = 0, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = self._file.seek(offset, whence)
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer)
        count = cast(io.BufferedIOBase, self._file).readinto(view)
        self._take(view[:count])
        return count

    def readall(self) -> bytes:
        data = self._file.read()
        self._take(memoryview(data))
        return data

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()

    def _take(self, data: memoryview) -> None:
        start, self._position = self._position, self._position + len(data)
        if start <= self._seen < self._position:
            self._crc32 = zlib_ng.crc32(data[self._seen - start :], self._crc32)
            self._seen = self._position
            if self._seen == self._checked.size and self._crc32 != self._checked.crc32:
                raise ShardError(f"{self._checked.where} does not have the crc32 that its ledger says: its bytes were changed. {REPAIR}")
