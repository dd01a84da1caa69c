"""Standard streams that are closed, full or read by nobody: words that cannot be written are lost, and nothing else breaks."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, BinaryIO, TextIO


def open_closed_streams() -> None:
    """Lead standard input, output and error nowhere where they are closed, before files are opened.

    The next files would take their numbers, and what a library prints would be written into them.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # The lowest free number is given, which is this one. Workers inherit it.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


def _ignore(error: OSError) -> None:
    return


class Unbroken:
    """A text stream, or none, to which no write and no flush raises OSError; everything else is the stream's own.

    `lost` is the first error by which words were lost, None as long as none were. `on_loss` is told every one.
    """

    def __init__(self, stream: TextIO | None, on_loss: Callable[[OSError], None] = _ignore) -> None:
        self.lost: OSError | None = None
        self._is_closed = stream is None
        self._stream = open(os.devnull, "w", encoding="utf-8") if stream is None else stream
        self._on_loss = on_loss

    @property
    def buffer(self) -> UnbrokenBytes:
        """The stream of bytes below."""
        return UnbrokenBytes(self._stream.buffer, self.guarded)

    def write(self, text: str) -> int:
        if text:
            self.guarded(lambda: self._stream.write(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        self.guarded(self._stream.flush, says_something=False)

    def end(self) -> None:
        """Write what waits to be written. Where it cannot be, drop it: Python would try again as it ends, and complain."""
        self.flush()
        if self.lost is not None:
            with suppress(OSError, ValueError), open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), self._stream.fileno())
            self.flush()

    def guarded(self, action: Callable[[], object], *, says_something: bool = True) -> None:
        """Do something with the stream below, and note the error that it raises."""
        try:
            action()
            if self._is_closed and says_something:
                raise OSError(errno.EBADF, "it is closed")
        except OSError as error:
            self.lost = self.lost or error
            self._on_loss(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class UnbrokenBytes:
    """The bytes of an `Unbroken` stream."""

    def __init__(self, stream: BinaryIO, guarded: Callable[..., None]) -> None:
        self._stream = stream
        self._guarded = guarded

    def write(self, data: bytes) -> int:
        self._guarded(lambda: self._stream.write(data), says_something=bool(data))
        return len(data)

    def flush(self) -> None:
        self._guarded(self._stream.flush, says_something=False)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
