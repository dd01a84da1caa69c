"""A blob: the bytes of one member, read only when somebody opens it."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO, Protocol

from shardprep.core.version import FileVersion
from shardprep.errors import ShardError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class Blob(Protocol):
    """Bytes of known size that open as a seekable binary file, any number of times, from any thread."""

    @property
    def size(self) -> int:
        """Size in bytes."""
        ...

    def open(self) -> BinaryIO:
        """Return a new seekable reader at position 0."""
        ...


@dataclass(frozen=True)
class BytesBlob:
    """Bytes already in memory."""

    data: bytes = field(repr=False)

    @property
    def size(self) -> int:
        return len(self.data)

    def open(self) -> BinaryIO:
        return io.BytesIO(self.data)


@dataclass(frozen=True)
class FileBlob:
    """A byte range of a local file; opening it opens the file.

    With a `version`, opening and reading raise SourceChanged where the file is not of that version.
    """

    path: str
    offset: int
    size: int
    version: FileVersion | None = None

    def open(self) -> BinaryIO:
        try:
            # A pipe may have taken the file's place: do not wait for a writer, its version is another.
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | (os.O_NONBLOCK if self.version is not None else 0))
        except (FileNotFoundError, NotADirectoryError):
            if self.version is not None:
                self.version.check(None, _shown(self.path))
            raise
        file = _FileRange(fd, self.offset, self.size, self)
        try:
            file.check()
        except BaseException:
            file.close()
            raise
        return io.BufferedReader(file, 1 << 18)


class TempBlob:
    """A byte range of an unnamed temporary file, which vanishes with the last blob on it or the process."""

    def __init__(self, file: BinaryIO, offset: int = 0, size: int | None = None) -> None:
        """Take over `file`: a real file with a descriptor, already written. By default all that lies behind `offset`."""
        file.flush()
        self._file, self._offset = file, offset
        self.size = os.fstat(file.fileno()).st_size - offset if size is None else size

    def open(self) -> io.BufferedReader:
        fd = os.dup(self._file.fileno())
        return io.BufferedReader(_FileRange(fd, self._offset, self.size), 1 << 18)


def read_blob(blob: Blob) -> bytes:
    """Return all bytes of `blob`."""
    if isinstance(blob, BytesBlob):
        return blob.data
    with blob.open() as file:
        return file.read()


def _shown(path: str) -> str:
    return os.fsencode(path).decode("utf-8", "backslashreplace")


class _FileRange(io.RawIOBase):
    """The bytes `[offset, offset + size)` behind a descriptor that it owns, read without moving a shared position."""

    def __init__(self, fd: int, offset: int, size: int, of: FileBlob | None = None) -> None:
        self._fd, self._offset, self._size, self._position, self._of = fd, offset, size, 0, of

    def check(self) -> None:
        """Raise SourceChanged where the open file is not of the version that is wanted."""
        if self._of is not None and self._of.version is not None:
            self._of.version.check(FileVersion.of(os.fstat(self._fd)), _shown(self._of.path))

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError(f"seek to {base + offset}: before the start")
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer)[: max(0, self._size - self._position)]
        if not len(view):
            return 0
        count = os.preadv(self._fd, [view], self._offset + self._position)
        # After the read: a write before or during it has changed the mtime by now.
        self.check()
        if not count:
            raise ShardError(f"the file ends at byte {self._offset + self._position}, inside a member; make the shard again")
        self._position += count
        return count

    def readall(self) -> bytes:
        # io's own goes 8 KiB at a time.
        data = bytearray(max(0, self._size - self._position))
        view, filled = memoryview(data), 0
        while filled < len(data):
            filled += self.readinto(view[filled:])
        return bytes(data)

    def close(self) -> None:
        if not self.closed:
            os.close(self._fd)
        super().close()
