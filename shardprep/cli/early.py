"""Ctrl-C and SIGTERM while no command is at work: one line and an exit code, at once. It imports nothing that takes time."""

from __future__ import annotations

import atexit
import os
import signal
import sys
from contextlib import suppress

EXIT_STOPPED = 3
SIGNALS = (signal.SIGINT, signal.SIGTERM)

_STOPPED = "Stopped: no shard was in work. Run the same command again."


def answer_signals() -> None:
    """Let Ctrl-C and SIGTERM end the process by `EXIT_STOPPED`, also while a library is imported, until a command takes them.

    Ctrl-C stays ignored where it was ignored when the process began (`nohup`, the background of a script).

    At the very end of the process they are ignored: nothing is left to stop, and the exit code of the command counts.
    """
    for number in answered():
        signal.signal(number, _end)
    # What is registered first runs last.
    atexit.register(_ignore_signals)


def answered() -> tuple[signal.Signals, ...]:
    """Return the signals that are to be answered: not Ctrl-C where it is ignored already."""
    return tuple(number for number in SIGNALS if number != signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN)


def say_stopped() -> None:
    """Say that nothing was lost."""
    sys.stderr.write(f"{_STOPPED}\n")


def say_at_once(line: bytes) -> None:
    """Write a line to standard error past whatever is being written there; where it cannot be written nobody hears it."""
    with suppress(OSError):
        os.write(2, line)


def _end(number: int, frame: object) -> None:
    # Not an exception: an import may catch it, and standard error may be in the middle of a line.
    say_at_once(f"{_STOPPED}\n".encode())
    os._exit(EXIT_STOPPED)


def _ignore_signals() -> None:
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
