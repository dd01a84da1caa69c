"""Standard output and error that hide secrets: all that the command line says goes through here."""

from __future__ import annotations

from typing import Any, TextIO, cast

from shardprep.redaction import redact


class Discreet:
    """A text stream that hides secrets in what is written to it; everything else is the stream's own."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(redact(text))
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def discreet(stream: TextIO) -> TextIO:
    """Return the stream, hiding secrets."""
    return stream if isinstance(stream, Discreet) else cast(TextIO, Discreet(stream))
