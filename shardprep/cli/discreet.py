"""Standard output and error of the command line: they hide secrets, and none of it breaks where they cannot be written."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable
from typing import Any, TextIO, cast

from shardprep.core.streams import Unbroken
from shardprep.redaction import redact

EXIT_UNHEARD = 1


class Discreet:
    """A text stream, or a closed one, that hides secrets in what is written to it; everything else is the stream's own.

    No write raises OSError. Where the reader of a pipe has left, the process ends as the system ends others: by SIGPIPE, without a
    word. Where the words are but a report on work (`is_report`), the work goes on.
    """

    def __init__(self, stream: TextIO | None, *, is_report: bool = False) -> None:
        self.is_report = is_report
        self._stream = Unbroken(stream, self._answer)

    def write(self, text: str) -> int:
        self._stream.write(redact(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def _answer(self, error: OSError) -> None:
        if isinstance(error, BrokenPipeError) and not self.is_report:
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGPIPE)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def take_streams() -> None:
    """Let all that the command line says go through `Discreet` streams."""
    sys.stdout = cast(TextIO, Discreet(sys.stdout))
    sys.stderr = cast(TextIO, Discreet(sys.stderr, is_report=True))


def report_only() -> None:
    """Say that what this command prints is but a report on its work: that nobody reads it changes neither the work nor the exit code."""
    if isinstance(sys.stdout, Discreet):
        sys.stdout.is_report = True


def end_streams(code: int) -> int:
    """Write what waits to be written, and return the exit code: `code`, or an error's where the output of a command was lost."""
    out, err = sys.stdout, sys.stderr
    if isinstance(out, Discreet):
        out.end()
        if out.lost is not None and not isinstance(out.lost, BrokenPipeError):
            kind = "" if out.is_report else "error: "
            words = f"standard output cannot be written: {out.lost.strerror}. Part of what was said is lost"
            print(f"{kind}{words}", file=err)
            code = code if out.is_report else code or EXIT_UNHEARD
    if isinstance(err, Discreet):
        err.end()
    return code
