"""Scratch space for clips: one unnamed temporary file per video, so that a thousand clips hold one descriptor."""

from __future__ import annotations

import io
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import av
from av.container import OutputContainer

from shardprep.core.blob import TempBlob

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_COPY_BYTES = 1 << 20


class Scratch:
    """Keeps finished files one after the other in one temporary file."""

    def __init__(self) -> None:
        self._file = ScratchFile()
        self._end = 0

    def keep(self, file: Any) -> TempBlob:
        """Return the content of `file` as a blob that lives as long as somebody holds it."""
        with TempBlob(file).open() as reader:
            self._file.seek(self._end)
            shutil.copyfileobj(reader, self._file, _COPY_BYTES)
        size = self._file.tell() - self._end
        blob = TempBlob(self._file, self._end, size)
        self._end += size
        return blob


class ScratchFile(io.FileIO):
    """An unnamed temporary file that takes all it is given, or raises.

    A plain unbuffered one tells of a full disk by a short count first, which neither ffmpeg nor shutil looks at. Blobs may
    own it together: it is closed with the last of them, which is no leak to be warned of.
    """

    def __init__(self) -> None:
        with tempfile.TemporaryFile(buffering=0) as file:
            super().__init__(os.dup(file.fileno()), "rb+")

    def write(self, data: ReadableBuffer, /) -> int:
        view = memoryview(data).cast("B")
        written = 0
        while written < len(view):
            written += super().write(view[written:])
        return written

    def __del__(self) -> None:
        self.close()


@contextmanager
def muxing(file: Any, container_format: str) -> Iterator[OutputContainer]:
    """Yield a muxer that writes into `file`; equal packets give equal bytes, and an mp4 can be played while it is read.

    ffmpeg moves the index of an mp4 to the front by reading what it wrote through a second handle.
    """
    options = {"fflags": "+bitexact"} | ({"movflags": "+faststart"} if container_format == "mp4" else {})

    def open_again(url: str, flags: int, options: dict[str, str]) -> Any:
        return TempBlob(file).open()

    container = av.open(file, mode="w", format=container_format, io_open=open_again, container_options=options, buffer_size=1 << 18)
    with container:
        yield container
