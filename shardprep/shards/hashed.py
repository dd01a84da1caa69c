"""Writing a stream while a thread hashes it, with a way back to a marked place."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

BLOCK_BYTES = 1 << 20
# Measured on ext4: 1 MiB at a time costs up to three times as much, in the kernel's search for large pages.
WRITE_BYTES = 1 << 18
_NUM_BLOCKS = 3


@dataclass(frozen=True)
class TarDigest:
    """sha256 (64 hex digits) and size in bytes of everything written."""

    sha256: str
    size: int


class TarFile(Protocol):
    """What a tar is written to; `seek` and `truncate` are only called to take back a sample that failed."""

    def write(self, data: memoryview, /) -> object: ...
    def seek(self, offset: int, /) -> object: ...
    def truncate(self, size: int, /) -> object: ...


class HashedWriter:
    """Fills blocks of memory that are written by the caller's thread and hashed by another, both at once.

    Whoever copies reads into `space()` and then calls `advance`: no byte is copied in between.
    """

    def __init__(self, file: TarFile, beat: Callable[[], None] | None = None) -> None:
        """`beat` is called for every block that was written."""
        self._file = file
        self._beat = beat
        self._hash = hashlib.sha256()
        self._hash_at_mark = self._hash.copy()
        # One thread: hashing is in order. An executor's thread ends with it, however its owner ends.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="hash")
        self._free: deque[tuple[memoryview, Future[None] | None]] = deque(
            (memoryview(bytearray(BLOCK_BYTES)), None) for _ in range(_NUM_BLOCKS)
        )
        self._block = self._free.popleft()[0]
        self._filled = 0
        self._mark_in_block: int | None = 0
        self._marked = 0
        self.position = 0

    def space(self) -> memoryview:
        """Return the free part of the block, at least a byte."""
        return self._block[self._filled :]

    def advance(self, count: int) -> None:
        """Take the first `count` bytes of `space()` as written."""
        self._filled += count
        self.position += count
        if self._filled == len(self._block):
            self._flush()

    def write(self, data: bytes) -> None:
        """Append a few bytes."""
        view = memoryview(data)
        while len(view):
            space = self.space()[: len(view)]
            space[:] = view[: len(space)]
            view = view[len(space) :]
            self.advance(len(space))

    def mark(self) -> None:
        """Remember this place for `rewind`."""
        self._marked, self._mark_in_block = self.position, self._filled

    def rewind(self) -> None:
        """Forget everything since the mark."""
        if self._mark_in_block is not None:
            self._filled = self._mark_in_block
        else:
            self._thread.submit(self._restore_hash).result()
            self._file.seek(self._marked)
            self._file.truncate(self._marked)
            self._filled, self._mark_in_block = 0, 0
        self.position = self._marked

    def finish(self) -> TarDigest:
        """Write what is left and return the digest."""
        self._flush()
        self._thread.shutdown(wait=True)
        for _, hashed in self._free:
            if hashed:
                hashed.result()
        return TarDigest(self._hash.hexdigest(), self.position)

    def _flush(self) -> None:
        view = self._block[: self._filled]
        hashed = self._thread.submit(self._hash_block, view, self._mark_in_block)
        self._free.append((self._block, hashed))
        self._filled, self._mark_in_block = 0, None
        try:
            for start in range(0, len(view), WRITE_BYTES):
                self._file.write(view[start : start + WRITE_BYTES])
        finally:
            self._block, earlier = self._free.popleft()
            if earlier:
                earlier.result()
        if self._beat is not None:
            self._beat()

    def _hash_block(self, view: memoryview, mark: int | None) -> None:
        if mark is not None:
            self._hash.update(view[:mark])
            self._hash_at_mark = self._hash.copy()
            view = view[mark:]
        self._hash.update(view)

    def _restore_hash(self) -> None:
        self._hash = self._hash_at_mark.copy()
