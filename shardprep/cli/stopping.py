"""Ctrl-C and SIGTERM while a command is at work: it answers them, whatever it is doing, and ends by an exit code."""

from __future__ import annotations

import math
import os
import select
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NoReturn

from shardprep.cli.early import SIGNALS, answered, say_at_once
from shardprep.executors.stop import StopSignal

if TYPE_CHECKING:
    from types import FrameType

EXIT_ABANDONED = 4

_END_SECONDS = 8.0
"""Time to end in good order. What does not (a disk that hangs, a long query) is left as it stands, as a kill would leave it."""
_POLL_SECONDS = 0.5
"""How often the deadline is checked. An interrupted command that takes longer to end says that it was heard."""
_FINISHING = b"Stopping: the shards in work are finished first. Press Ctrl-C again to abandon them.\n"
_ABANDONING = b"Stopping: the shards in work are abandoned.\n"
_INTERRUPTING = b"Stopping.\n"


_current: ContextVar[StopSignal | None] = ContextVar("stop", default=None)


def current_stop() -> StopSignal:
    """Return what Ctrl-C and SIGTERM set; outside of `stopping` nothing sets it."""
    return _current.get() or StopSignal()


@contextmanager
def stopping() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM set `current_stop` while the body runs.

    The first Ctrl-C finishes the shards in work, a second one or SIGTERM abandons them. Where no shards are in work either
    raises KeyboardInterrupt in the main thread; it leaves this body as KeyboardInterrupt whatever a library makes of it. A process
    that was asked to stop and has not ended eight seconds later, shards that are being finished aside, is ended. Outside the main
    thread nothing is changed, and a Ctrl-C that is ignored (`nohup`, the background of a script) stays ignored.
    """
    stop = StopSignal()
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    listener = _Listener(stop)
    before: dict[int, Any] = {number: signal.signal(number, listener.interrupt) for number in answered()}
    token = _current.set(stop)
    try:
        yield
    except BaseException as error:
        if listener.has_interrupted:
            raise KeyboardInterrupt from error
        raise
    finally:
        _current.reset(token)
        listener.owes_a_word = False
        # Who was asked to stop is about to end, and one more Ctrl-C must not change how. The listener sees to it that it does end.
        for number, handler in before.items():
            signal.signal(number, signal.SIG_IGN if stop.finish.is_set() else handler)
        if not stop.finish.is_set():
            listener.close()


class _Listener:
    """Takes signals in a thread: the main thread may be deep in a library, or wait for a disk that hangs."""

    def __init__(self, stop: StopSignal) -> None:
        self._stop = stop
        self.has_interrupted = False
        """Whether the main thread was interrupted."""
        self.owes_a_word = False
        """Whether an interrupted command still has to say that it was heard."""
        self._read, self._write = os.pipe()
        for end in (self._read, self._write):
            os.set_blocking(end, False)
        self._before = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        threading.Thread(target=self._listen, daemon=True, name="signals").start()

    def interrupt(self, number: int, frame: FrameType | None) -> None:
        """Interrupt the main thread where nobody looks at the events; called in the main thread, as Python's signal handlers are."""
        if not self._stop.is_watched and not self.has_interrupted:
            self.has_interrupted = True
            # The thread may not have come to it yet.
            self._stop.finish.set()
            raise KeyboardInterrupt

    def close(self) -> None:
        """Take no more signals."""
        signal.set_wakeup_fd(self._before)
        os.close(self._write)

    def _listen(self) -> None:
        deadline = math.inf
        was_asked = False
        while time.monotonic() < deadline:
            if select.select([self._read], [], [], _POLL_SECONDS if was_asked else None)[0]:
                numbers = os.read(self._read, 64)
                if not numbers:
                    os.close(self._read)
                    return
                for number in filter(SIGNALS.__contains__, numbers):
                    self._take(number, was_asked)
                    was_asked = True
            elif self.owes_a_word:
                self.owes_a_word = False
                say_at_once(_INTERRUPTING)
            must_end = self._stop.abandon.is_set() or self.has_interrupted or not self._stop.is_watched
            if was_asked and must_end and deadline == math.inf:
                deadline = time.monotonic() + _END_SECONDS
        self._end()

    def _take(self, number: int, was_asked: bool) -> None:
        self._stop.finish.set()
        if was_asked or number == signal.SIGTERM:
            self._stop.abandon.set()
        if self.has_interrupted or not self._stop.is_watched:
            self.owes_a_word = True
        else:
            # print may be in the middle of a line in the main thread.
            say_at_once(_ABANDONING if self._stop.abandon.is_set() else _FINISHING)

    def _end(self) -> NoReturn:
        say_at_once(b"Stopped: something did not end within 8 s and was left as it stood. Run the command again.\n")
        os._exit(EXIT_ABANDONED)
